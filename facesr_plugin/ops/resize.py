"""Pillow's image resize on 8-bit images, bit for bit, batched and on any device.

Pillow resamples in two passes, along x and along y. Each pass multiplies with 22-bit integer weights, adds one
half and shifts, so every pass ends in a rounded and clipped byte. Releases before 13 always take x first;
13 takes y first where it saves work. This module follows the installed release: what it computes on a
GPU equals what the data sets compute with Pillow in the same environment.
All sums stay below 2**53: the products of whole numbers in float64 are exact, whatever the order of addition.
Source: Pillow's documented resampling filters (``Image.resize``, 8 bits per channel).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PRECISION_BITS = 22


class Kernel(NamedTuple):
    """A resampling kernel and the radius outside of which it is zero, in source pixels at scale 1."""

    weight: Callable[[np.ndarray], np.ndarray]
    radius: float


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Cubic convolution with a = -0.5."""
    a, x = -0.5, np.abs(distance)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _triangle(distance: np.ndarray) -> np.ndarray:
    x = np.abs(distance)
    return np.where(x < 1.0, 1.0 - x, 0.0)


KERNELS = {"bicubic": Kernel(_cubic, 2.0), "bilinear": Kernel(_triangle, 1.0)}


def resize_pil(images: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """Resize as ``PIL.Image.resize`` does: antialiased when shrinking, two passes, each rounded to a byte.

    Args:
        images: ``(N, C, h, w)`` uint8, any channel order, any device with float64.
        size: ``(height, width)`` of the result.
        kernel: ``bicubic`` or ``bilinear``.

    Returns:
        ``(N, C, height, width)`` uint8 on the device of ``images``.

    Raises:
        ValueError: If the shape, the size or the kernel is not as above.
        TypeError: If ``images`` is not uint8.
    """
    _check(images, size, kernel)
    y_first = _y_first((images.shape[-2], images.shape[-1]), size) and _pillow_takes_y_first()
    return _resize(images, size, kernel, y_first)


def _resize(images: Tensor, size: tuple[int, int], kernel: str, y_first: bool) -> Tensor:
    for dim in (-2, -1) if y_first else (-1, -2):
        if images.shape[dim] != size[dim]:
            images = _resize_rows(images.transpose(dim, -1), size[dim], kernel).transpose(dim, -1)
    return images.contiguous()


def _y_first(source: tuple[int, int], target: tuple[int, int]) -> bool:
    """The rule of Pillow 13: the height loses more than twice as many pixels as the width."""
    lost_y, lost_x = source[0] - target[0], source[1] - target[1]
    return lost_y > max(0, 2 * lost_x)


@functools.cache
def _pillow_takes_y_first() -> bool:
    """Whether the installed Pillow follows ``_y_first``: tried on a small image, since no attribute says it."""
    tall = torch.tensor([(97 * i * i) % 256 for i in range(48)], dtype=torch.uint8).view(1, 1, 12, 4)
    theirs = np.asarray(Image.fromarray(tall[0, 0].numpy()).resize((3, 3), Image.Resampling.BICUBIC))
    return np.array_equal(theirs, _resize(tall, (3, 3), "bicubic", y_first=True)[0, 0].numpy())


def _check(images: Tensor, size: tuple[int, int], kernel: str) -> None:
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}. Quantise them first.")
    if images.ndim != 4 or 0 in images.shape[-2:]:
        raise ValueError(f"images must have shape (N, C, h, w) with h and w of 1 or more, got {tuple(images.shape)}")
    if min(size) < 1:
        raise ValueError(f"size must be 1 or more on both sides, got {tuple(size)}")
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")


def _resize_rows(images: Tensor, width: int, kernel: str) -> Tensor:
    """Resample the last dimension."""
    weights = _weights_on(images.device, images.shape[-1], width, kernel)
    sums = images.to(torch.float64) @ weights  # (N, C, h, width)
    return ((sums + 2.0 ** (PRECISION_BITS - 1)) / 2.0**PRECISION_BITS).floor().clamp(0, 255).to(torch.uint8)


@functools.lru_cache(maxsize=64)
def _weights_on(device: torch.device, source: int, target: int, kernel: str) -> Tensor:
    """Return ``_weights`` on a device: each copy there would wait for what the device does."""
    return _weights(source, target, kernel).to(device)


@functools.lru_cache(maxsize=64)
def _weights(source: int, target: int, kernel: str) -> Tensor:
    """Return Pillow's integer weights, ``(source, target)`` float64: one column per pixel of the result."""
    weight, radius = KERNELS[kernel]
    scale = source / target
    stretch = max(scale, 1.0)
    support = radius * stretch
    matrix = np.zeros((source, target))
    for pixel in range(target):
        centre = (pixel + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), source)
        taps = weight((np.arange(first, last) - centre + 0.5) * (1.0 / stretch))
        taps = taps / functools.reduce(float.__add__, taps.tolist(), 0.0)  # added in Pillow's order
        matrix[first:last, pixel] = [math.trunc(tap + math.copysign(0.5, tap)) for tap in taps * 2.0**PRECISION_BITS]
    return torch.from_numpy(matrix)
