"""JASRNet's targets, decoder and losses against their references."""

import numpy as np
import torch
import torch.nn.functional as F

from facesr_plugin.losses.cpm_loss import CPMLoss
from facesr_plugin.ops.heatmap_targets import decode_centroid, render_targets
from helpers.fill import uniform


def targets(case):
    """Heatmaps and mask of points on, beyond and far from the border, some of them hidden."""
    meta = case.meta
    points = _points(meta, (meta["W"], meta["H"]))
    points[2] = uniform("pts_vis", (meta["N"],), meta["seed"]) < 0.85
    for forced in meta["forced"]:
        points[:, forced["column"]] = forced["x"], forced["y"], forced["flag"]
    case.check_array("points_in", points, "exact")
    size = (meta["H"], meta["W"])
    found = render_targets(_landmarks(points), size, meta["downsample"], meta["sigma"], meta["type"])
    case.check_array("heatmap", found.heatmaps[0], "jasrnet.targets")
    mask = found.mask.flatten()
    case.check_array("mask", mask, "exact")
    case.check_array("visible", mask[:-1], "exact")


def decoder(case):
    """Points and scores of perfect, noisy and border heatmaps."""
    meta = case.meta
    height, width, stride = meta["h"], meta["w"], meta["downsample"]
    points = _points(meta, (width * stride, height * stride))
    points[2] = 1
    drawn = render_targets(_landmarks(points), (height * stride, width * stride), stride)
    noise = torch.from_numpy(uniform("noise", (meta["N"] + 1, height, width), meta["seed"]))
    border = noise.clone()
    for channel, (row, column) in enumerate(meta["inputs"]["peaks"]):
        border[channel, row, column] = 2
    clean = drawn.heatmaps[0]
    maps = {"clean": clean, "noisy": 0.8 * clean + 0.2 * (noise - 0.5), "border": border}
    flagged = drawn.mask[0, :, 0, 0] > 0
    case.check_array("points", np.stack((*points[:2], flagged[:-1])), "exact")
    flagged[-1] = False  # the background of perfect heatmaps has many equal maxima
    for name, heatmaps in maps.items():
        found = decode_centroid(heatmaps.unsqueeze(0), stride)
        shown = flagged if name == "clean" else torch.ones_like(flagged)
        case.check(name, found.points[0][shown], case.arrays[f"locs.{name}"][shown.numpy()], "jasrnet.points")
        case.check_array(f"score.{name}", found.score[0], "jasrnet.score")


def losses(case):
    """Both losses and their gradients."""
    meta = case.meta
    seed, count, channels, side = meta["seed"], meta["B"], meta["N"] + 1, meta["h"]
    maps, mask_shape, image = (count, channels, side, side), (count, channels, 1, 1), (count, 3, meta["H"], meta["H"])
    stages = [_tensor(f"stage{i}", maps, seed).sub(0.3).requires_grad_() for i in range(3)]
    target = _tensor("target", maps, seed)
    mask = (_tensor("mask", mask_shape, seed) < meta["p"]).float()
    mask[:, -1] = 1
    case.check_array("mask", mask.flatten(1), "exact")
    sr, hr = _tensor("sr", image, seed).requires_grad_(), _tensor("hr", image, seed)
    cpm, l1 = CPMLoss()(stages, target, mask), F.l1_loss(sr, hr)
    (cpm + l1).backward()
    for name, value in {"cpm": cpm, "l1": l1, "total": cpm + l1}.items():
        case.check_array(name, value.detach().view(1), "jasrnet.loss")
    alone = [CPMLoss()([stage.detach()], target, mask) for stage in stages]
    case.check_array("cpm_stage", torch.stack(alone), "jasrnet.loss")
    case.check_array("cpm_grad_norm", torch.stack([stage.grad.norm() for stage in stages]), "jasrnet.loss")
    case.check_array("l1_grad_norm", sr.grad.norm().view(1), "jasrnet.loss")
    case.check_array("cpm_grad_stage2_item0", stages[2].grad[0], "jasrnet.loss")


def _points(meta, size):
    """Return x, y and a flag of 0 for each point: ``(3, N)`` float32."""
    x, y = uniform("pts", (2, meta["N"]), meta["seed"])
    (wide, before), (high, above) = ((np.float32(1.2 * side), np.float32(0.1 * side)) for side in size)
    return np.stack((x * wide - before, y * high - above, np.zeros_like(x)))


def _landmarks(points):
    """Return ``(1, N, 2)``, NaN for points whose flag is 0."""
    return torch.from_numpy(np.where(points[2] > 0, points[:2], np.nan).T.copy()).unsqueeze(0)


def _tensor(name, shape, seed):
    return torch.from_numpy(uniform(name, shape, seed))
