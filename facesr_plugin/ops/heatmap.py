"""Heatmaps of landmarks: draw them, read points off them, bring them to [0, 1].

The shift towards the larger neighbour is that of the public alignment projects (2DFAN); they add 0.5 to its result,
since the centre of their first pixel is 0.5 and not 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SHIFT = 0.25
_LEAST_PEAK = 0.05


def render_gaussian(landmarks: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Draw one unnormalised Gaussian (peak 1) per landmark.

    Args:
        landmarks: ``(N, K, 2)`` float, (x, y) in heatmap pixels, pixel centres at integers; NaN for an unknown point.
        size: ``(height, width)`` of the heatmaps.
        sigma: Standard deviation in heatmap pixels.

    Returns:
        ``(N, K, height, width)`` in [0, 1], device and dtype of ``landmarks``, in float32 within 1e-7 of exact ones; 0
        for an unknown point. A point outside leaves the tail of its Gaussian.

    Raises:
        ValueError: If ``landmarks`` is not float ``(N, K, 2)`` or ``sigma`` is not positive.
    """
    if landmarks.dim() != 3 or landmarks.shape[2] != 2 or not landmarks.is_floating_point():
        raise ValueError(
            f"landmarks must be float and have shape (N, K, 2), got {landmarks.dtype} {tuple(landmarks.shape)}"
        )
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    x, y = (bell(landmarks[..., axis], size[1 - axis], sigma) for axis in (0, 1))
    return torch.nan_to_num(y.unsqueeze(3) * x.unsqueeze(2))


def bell(position: Tensor, length: int, sigma: float) -> Tensor:
    """Return ``exp(-(p - position)**2 / (2 * sigma**2))`` of the pixels p below ``length``, in a new last dimension."""
    pixels = torch.arange(length, device=position.device, dtype=torch.float64)
    return torch.exp((pixels - position.double().unsqueeze(-1)).square() / (-2 * sigma**2)).to(position.dtype)


def decode_argmax(heatmaps: Tensor) -> Tensor:
    """Return the pixel with the largest value of each heatmap.

    Args:
        heatmaps: ``(N, K, H, W)`` of any range.

    Returns:
        ``(N, K, 2)``, (x, y) in heatmap pixels, pixel centres at integers; device and dtype of ``heatmaps``.

    Raises:
        ValueError: If ``heatmaps`` is not ``(N, K, H, W)``.
    """
    peak, width = _peaks(heatmaps), heatmaps.shape[3]
    return torch.stack((peak % width, peak // width), -1).to(heatmaps.dtype)


def decode_subpixel(heatmaps: Tensor) -> Tensor:
    """Return ``decode_argmax``, moved a quarter of a pixel towards the larger neighbour in x and in y.

    A peak in the outermost row or column stays where it is, in both directions.

    Args:
        heatmaps: ``(N, K, H, W)`` of any range.

    Returns:
        As ``decode_argmax``.

    Raises:
        ValueError: As ``decode_argmax``.
    """
    peak, (height, width) = _peaks(heatmaps), heatmaps.shape[2:]
    values, last = heatmaps.flatten(2), height * width - 1

    def neighbour(offset: int) -> Tensor:
        return values.gather(2, (peak + offset).clamp(0, last).unsqueeze(2)).squeeze(2)

    slope = torch.stack((neighbour(1) - neighbour(-1), neighbour(width) - neighbour(-width)), -1)
    points = decode_argmax(heatmaps)
    inside = (points > 0) & (points < points.new_tensor((width - 1, height - 1)))
    return points + _SHIFT * slope.sign() * inside.all(-1, keepdim=True)


def decode_two_peaks(heatmaps: Tensor) -> Tensor:
    """Return the pixel with the largest value, moved a quarter of a pixel towards the second largest, as DIC does.

    On an axis in which the second largest does not lie beyond, the point moves a quarter of a pixel back. DIC then
    multiplies by the stride, without half a pixel: its pixel p of the image is p / stride of the heatmaps.

    Args:
        heatmaps: ``(N, K, H, W)`` of any range, at least 2 pixels.

    Returns:
        As ``decode_argmax``.

    Raises:
        ValueError: As ``decode_argmax``.
    """
    best, width = _peaks(heatmaps), heatmaps.shape[3]
    others = heatmaps.flatten(2).scatter(2, best.unsqueeze(2), -torch.inf)
    second = others.argmax(2)
    beyond = torch.stack((second % width > best % width, second // width > best // width), -1)
    return decode_argmax(heatmaps) + _SHIFT * (2 * beyond.to(heatmaps.dtype) - 1)


def _peaks(heatmaps: Tensor) -> Tensor:
    if heatmaps.dim() != 4:
        raise ValueError(f"heatmaps must have shape (N, K, H, W), got {tuple(heatmaps.shape)}")
    return heatmaps.flatten(2).argmax(2)


def scale_to_unit(heatmaps: Tensor, low: Tensor | None = None) -> Tensor:
    """Shift and divide each image's heatmaps, all K together, so that they lie in [0, 1].

    The gradient goes through the smallest and the largest value too.

    Args:
        heatmaps: ``(N, K, H, W)`` of any range.
        low: ``(N, 1, 1, 1)``, what becomes 0; the smallest value of each image by default. The largest becomes 1.

    Returns:
        As ``heatmaps``; an image of one value becomes 0.
    """
    axes = (1, 2, 3)
    if low is None:
        low = heatmaps.amin(axes, keepdim=True)
    span = heatmaps.amax(axes, keepdim=True) - low
    return (heatmaps - low) / (span + (span == 0))


def merge_heatmaps(heatmaps: Tensor, groups: Tensor) -> Tensor:
    """Divide each heatmap by its peak, but at least by 0.05, and add up those of each group, as DIC does.

    The gradient goes through the peaks too. Computed in the precision of ``groups``, also under autocast.

    Args:
        heatmaps: ``(N, K, H, W)`` of any range.
        groups: ``(G, K)``, 1 where a heatmap belongs to a group, else 0.

    Returns:
        ``(N, G, H, W)``, dtype of ``groups``.
    """
    with torch.autocast(heatmaps.device.type, enabled=False):
        heatmaps = heatmaps.to(groups.dtype)
        peaks = heatmaps.amax((2, 3)).clamp(min=_LEAST_PEAK)
        merged = torch.bmm(groups / peaks.unsqueeze(1), heatmaps.flatten(2))
    return merged.unflatten(2, heatmaps.shape[2:])
