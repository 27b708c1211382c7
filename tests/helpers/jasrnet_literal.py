"""JASRNet's targets, CPM loss and landmark metric written out literally, sample by sample, as the specification does.

Slow on purpose: what ``scripts/benchmark/jasrnet.py`` compares with, and what unit tests compare with.
"""

import numpy as np
import torch

THRESHOLDS = 2000


def literal_targets(points, size, stride=8, sigma=4.0, kind="gaussian"):
    """Return heatmaps ``(K + 1, h, w)`` float32 and the mask ``(K + 1)`` of one sample, from index arrays.

    Args:
        points: ``(K, 2)``, (x, y) in pixels of the image.
        size: ``(height, width)`` of the image.
        stride: Pixels per cell.
        sigma: In pixels.
        kind: ``gaussian`` or ``laplacian``.
    """
    height, width = size
    rows, columns, count = height // stride, width // stride, len(points)
    offset = stride / 2.0 - 0.5
    visible = np.array([0 <= x <= width and 0 <= y <= height for x, y in points], np.float64)
    row = np.arange(rows).reshape(1, rows, 1).repeat(count, 0).repeat(columns, 2)
    column = np.arange(columns).reshape(1, 1, columns).repeat(count, 0).repeat(rows, 1)
    x, y = (points[:, axis].astype(np.float64).reshape(count, 1, 1) for axis in (0, 1))
    exponent = ((offset + stride * column - x) ** 2 + (offset + stride * row - y) ** 2) / (2 * sigma**2)
    heatmaps = np.exp(-exponent) if kind == "gaussian" else (1 - exponent) * np.exp(-exponent)
    heatmaps[heatmaps < 0.01] = 0
    heatmaps[heatmaps > 1] = 1
    heatmaps = heatmaps * visible.reshape(count, 1, 1)
    background = np.maximum(0, 1 - heatmaps.max(0, keepdims=True))
    mask = np.append(visible, 1)
    heatmaps = np.concatenate((heatmaps, background)) * mask.reshape(-1, 1, 1)
    return heatmaps.astype(np.float32), mask


def literal_cpm(heatmaps, target, mask):
    """Return the loss of the stages ``(N, K, H, W)``, selecting the visible maps of output and target for each."""
    selected = mask.bool().expand_as(target)
    total = 0
    for stage in heatmaps:
        chosen, wanted = torch.masked_select(stage, selected), torch.masked_select(target, selected)
        total = total + torch.nn.functional.mse_loss(chosen, wanted, reduction="sum")
    return total / (2 * len(target))


def literal_nme(points, reference, visible, normaliser):
    """Return the error of one face, and what the released function computes with it and drops.

    Args:
        points: ``(K, 2)`` found points.
        reference: ``(K, 2)`` true ones.
        visible: ``(K)`` flags.
        normaliser: Distance that counts as 1.
    """
    distances = []
    for found, true, flag in zip(points, reference, visible, strict=True):
        if flag:
            distances.append(np.linalg.norm(found - true))
    error = np.array([np.mean(distances) / normaliser])
    areas = []
    for limit in (0.07, 0.08):
        thresholds = np.linspace(0, limit, THRESHOLDS)
        fractions = np.array([np.mean(error < threshold) for threshold in thresholds])
        widths = np.diff(thresholds)
        areas.append(float(((fractions[1:] + fractions[:-1]) / 2 * widths).sum() / limit))
    curve = np.array([np.mean(error < threshold) for threshold in np.linspace(0, 0.35, 3501)])
    return float(error[0]), areas, curve


def literal_network(state, x, upscale=8):
    """Return ``sr`` and three heatmaps, computed table by table from a state dict with our key names."""
    run = _Layers(state)
    x = run.conv(run.shift("shift_in", x), "head")
    a = run.blocks(x, "encoder1", (0, 2))
    b = run.blocks(run.pool(a), "encoder2", (1, 3, 5))
    p = run.conv(a, "down1", stride=2) + b
    p = run.conv(p, "down2", stride=2)
    c = run.blocks(run.pool(b), "encoder3", (0, 2, 4, 6))
    p = run.conv(p + c, "down3", stride=2)
    c = run.blocks(run.pool(c), "encoder4", (1, 3))
    indices = sorted({int(key.split(".")[1]) for key in state if key.startswith("body.")})
    f = run.blocks(c, "body", indices) + p
    r = run.block(run.block(f, "sr_body.0", 0.1), "sr_body.1", 0.1)
    skip = x
    for index in (0, 2, 4):
        skip = run.pool(run.conv(skip, f"skip.{index}"))
    r = run.conv(r, "sr_body.2") + skip
    for index in range(0, 2 * {2: 1, 3: 1, 4: 2, 8: 3}[upscale], 2):
        r = torch.nn.functional.pixel_shuffle(run.conv(r, f"sr_up.{index}"), 3 if upscale == 3 else 2)
    sr = run.shift("shift_out", run.conv(r, "sr_tail"))
    g = run.conv(run.blocks(f, "landmark_body", (0, 2)), "landmark_body.4")
    maps = [run.conv(run.blocks(g, "stages.0", (0, 2)), "stages.0.4")]
    for stage in ("stages.1", "stages.2"):
        feat = run.conv(torch.cat((g, maps[-1]), 1), f"{stage}.0").relu()
        maps.append(run.conv(run.blocks(feat, stage, (2, 4, 6)), f"{stage}.8"))
    return sr, maps


class _Layers:
    def __init__(self, state):
        self.state = state

    def conv(self, x, name, stride=1):
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return torch.nn.functional.conv2d(x, weight, bias, stride, padding=1)

    def shift(self, name, x):
        return torch.nn.functional.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def pool(self, x):
        return torch.nn.functional.max_pool2d(x, 2)

    def block(self, x, name, scale=1.0):
        return scale * self.conv(self.conv(x, f"{name}.conv1").relu(), f"{name}.conv2") + x

    def blocks(self, x, name, indices):
        for index in indices:
            x = self.block(x, f"{name}.{index}").relu()
        return x
