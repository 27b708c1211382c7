"""Heatmaps of which each cell covers several pixels: what JASRNet learns, and points read off what it gives.

Cell j of a heatmap stands for pixel ``stride * j + (stride - 1) / 2``. Source: *Joint Super-Resolution and Alignment of
Tiny Faces* (AAAI 2020), as released; its conventions are those of the SBR and SAN landmark projects.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from facesr_plugin.ops.heatmap import bell, decode_argmax

STRIDE = 8
SIGMA_PX = 4.0
RADIUS = 4
_CUT = 0.01  # smaller values become 0
_FLOOR, _EMPTY = 1e-6, 2.2e-16  # smaller values of a window become the second: an empty window has a centre


class Targets(NamedTuple):
    """Heatmaps ``(N, K + 1, H, W)`` in [0, 1], the background last; mask ``(N, K + 1, 1, 1)``, 1 where they count."""

    heatmaps: Tensor
    mask: Tensor


class Peaks(NamedTuple):
    """Points ``(N, K, 2)``, (x, y) in image pixels, centres at integers; largest value of each heatmap ``(N, K)``."""

    points: Tensor
    score: Tensor


def render_targets(
    landmarks: Tensor,
    size: tuple[int, int],
    stride: int = STRIDE,
    sigma: float = SIGMA_PX,
    kind: str = "gaussian",
) -> Targets:
    """Draw one heatmap per landmark and one of the background.

    With q the squared distance to the point over twice ``sigma`` squared, a cell has exp(-q), or (1 - q) exp(-q) for
    ``laplacian``; less than 0.01 becomes 0. The background is 1 minus the largest of the others.

    Args:
        landmarks: ``(N, K, 2)`` float, (x, y) in pixels of the image, centres at integers; NaN for an unknown point.
            One outside of ``0 <= x <= width, 0 <= y <= height`` counts as unknown too.
        size: ``(height, width)`` of the image, multiples of ``stride``.
        stride: Pixels per cell.
        sigma: In pixels.
        kind: ``gaussian`` or ``laplacian``.

    Returns:
        Float32, on the device of ``landmarks``. Unknown points have maps and mask of 0, the background a mask of 1.

    Raises:
        ValueError: If ``landmarks`` is not float ``(N, K, 2)``, ``sigma`` or ``stride`` is not positive, ``size`` does
            not fit, or ``kind`` is unknown.
    """
    _check(landmarks, size, stride, sigma, kind)
    height, width = (side // stride for side in size)
    visible = are_inside(landmarks, size).unsqueeze(-1)
    cells = (landmarks.double() - (stride - 1) / 2) / stride
    bells_x, bells_y = (
        bell(cells[..., axis], length, sigma / stride).where(visible, 0).to(torch.float32)
        for axis, length in enumerate((width, height))
    )
    heatmaps = bells_x.new_empty((len(landmarks), landmarks.shape[1] + 1, height, width))
    maps, background = heatmaps[:, :-1], heatmaps[:, -1]
    torch.mul(bells_y.unsqueeze(3), bells_x.unsqueeze(2), out=maps)
    F.threshold_(KINDS[kind](maps), _CUT, 0.0)
    torch.amax(maps, 1, out=background).neg_().add_(1)
    mask = F.pad(visible.to(torch.float32).unsqueeze(-1), (0, 0, 0, 0, 0, 1), value=1.0)
    return Targets(heatmaps, mask)


def are_inside(landmarks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return which of ``(N, K, 2)`` points count, ``(N, K)`` bool; see ``render_targets``."""
    x, y = landmarks.unbind(-1)
    return (x >= 0) & (x <= size[1]) & (y >= 0) & (y <= size[0])


KINDS = {
    "gaussian": lambda maps: maps,
    "laplacian": lambda maps: maps.sub_(torch.special.entr(maps)),  # entr(exp(-q)) = q exp(-q)
}


def decode_centroid(heatmaps: Tensor, stride: int = STRIDE, mode: str = "subpixel") -> Peaks:
    """Return the centre of mass of a window of 9 x 9 cells about each heatmap's largest value.

    Args:
        heatmaps: ``(N, K, H, W)`` of any range, H and W of 2 or more. Values of 1e-6 and less weigh nothing.
            NaN in a window gives NaN.
        stride: Pixels per cell.
        mode: ``subpixel``: the window that is meant; 0.2 pixels off on perfect heatmaps of stride 8 and sigma 4.
            ``official``: the window that the released lines cut out on PyTorch of today, whose defaults for division
            and for sampling are others than those of 2019; nearly 3 pixels off.

    Raises:
        ValueError: If ``heatmaps`` is not ``(N, K, H, W)`` or ``mode`` is unknown.
    """
    if mode not in _WINDOWS:
        raise ValueError(f"mode must be one of {', '.join(_WINDOWS)}, got {mode!r}")
    centre, windows = _WINDOWS[mode](heatmaps)
    windows = windows.masked_fill(windows <= _FLOOR, _EMPTY)  # keeps NaN
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=heatmaps.device, dtype=heatmaps.dtype)
    moments = torch.stack(((windows.sum(2) * offsets).sum(2), (windows.sum(3) * offsets).sum(2)), -1)
    cells = centre + moments / windows.sum((2, 3)).unsqueeze(-1)
    return Peaks(stride * cells + (stride - 1) / 2, heatmaps.amax((2, 3)))


def _cut_windows(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the peaks ``(N, K, 2)`` in cells, and ``(N, K, 9, 9)`` about them, 0 outside of the heatmap."""
    peaks = decode_argmax(heatmaps)
    windows = F.pad(heatmaps, (RADIUS,) * 4).unfold(2, 2 * RADIUS + 1, 1).unfold(3, 2 * RADIUS + 1, 1)
    x, y = peaks.long().unbind(-1)
    n, k = torch.meshgrid(*(torch.arange(count, device=x.device) for count in x.shape), indexing="ij")
    return peaks, windows[n, k, y, x]


def _sample_windows(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the released lines' windows: rows not floored, corners of the sampling grid not aligned."""
    count, (height, width) = heatmaps.shape[0] * heatmaps.shape[1], heatmaps.shape[2:]
    peaks = decode_argmax(heatmaps)
    x, y = peaks.unbind(-1)
    peaks = torch.stack((x, y + x / width), -1)
    last = peaks.new_tensor((width - 1, height - 1))
    theta = peaks.new_zeros(count, 2, 3)
    theta[:, (0, 1), (0, 1)] = 2 * RADIUS / last
    theta[:, :, 2] = (2 * peaks / last - 1).flatten(0, 1)
    side = 2 * RADIUS + 1
    grid = F.affine_grid(theta, (count, 1, side, side), align_corners=False)
    windows = F.grid_sample(heatmaps.reshape(count, 1, height, width), grid, align_corners=False)
    return peaks, windows.view(*heatmaps.shape[:2], side, side)


_WINDOWS = {"subpixel": _cut_windows, "official": _sample_windows}


def _check(landmarks: Tensor, size: tuple[int, int], stride: int, sigma: float, kind: str) -> None:
    if landmarks.dim() != 3 or landmarks.shape[2] != 2 or not landmarks.is_floating_point():
        raise ValueError(
            f"landmarks must be float and have shape (N, K, 2), got {landmarks.dtype} {tuple(landmarks.shape)}"
        )
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    if any(side < stride or side % stride for side in size):
        raise ValueError(f"size must be multiples of the stride {stride}, got {tuple(size)}")
