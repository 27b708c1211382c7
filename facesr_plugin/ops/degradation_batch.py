"""The degradations of ``ops/degradation.py`` in batch, on any device, with the same parameters.

Images of one size that undergo the same kind of operation go together: blurs as grouped convolutions, the median by
halving the range of levels, resizing as products with matrices, JPEG by ``ops/jpeg.py``. Noise is drawn on the CPU
from the same seeds. Convolutions and products are in float64, which no device rounds to TF32.
Results are those of the CPU functions, but blurs, linear, area and cubic may differ by 1 level (OpenCV's rounding).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facesr_plugin.ops import degradation as cpu
from facesr_plugin.ops import jpeg

_CUBIC_A = -0.75


def degrade_batch(images: Tensor, plans: Sequence[Sequence[functools.partial]]) -> Tensor:
    """Apply to each image its own operations, and enlarge the results (OpenCV's cubic) to the images' size.

    Args:
        images: ``(N, 3, H, W)`` float RGB, whole numbers 0 to 255.
        plans: Per image, functions of ``ops/degradation.py`` with bound keywords. Others run on the CPU, one by one.

    Returns:
        ``(N, 3, H, W)`` float32 RGB, whole numbers 0 to 255.
    """
    size = tuple(images.shape[-2:])
    current = list(images.float().unbind(0))
    for turn in range(max(map(len, plans), default=0)):
        _apply_turn(current, {i: plan[turn] for i, plan in enumerate(plans) if turn < len(plan)})
    _apply_turn(
        current, {i: functools.partial(cpu.resize_opencv, size=size, kernel="cubic") for i in range(len(plans))}
    )
    return torch.stack(current)


def _apply_turn(current: list[Tensor], operations: dict[int, functools.partial]) -> None:
    """Replace the images by their results, in groups of one function and size."""
    groups: dict[tuple, list[int]] = {}
    for i, operation in operations.items():
        groups.setdefault((operation.func, tuple(current[i].shape)), []).append(i)
    for (function, _), members in groups.items():
        images, keywords = torch.stack([current[i] for i in members]), [operations[i].keywords for i in members]
        if function in BATCHED:
            results: Iterable[Tensor] = BATCHED[function](images, keywords)
        else:
            results = [_on_cpu(operations[i], current[i]) for i in members]
        for i, result in zip(members, results, strict=True):
            current[i] = result


def _on_cpu(operation: functools.partial, image: Tensor) -> Tensor:
    array = image.permute(1, 2, 0).to("cpu", torch.uint8).numpy()
    return torch.from_numpy(np.ascontiguousarray(operation(array))).to(image.device).permute(2, 0, 1).float()


# Blurs: (n, 3, h, w) and the keywords of each image


def blur_gaussian(images: Tensor, keywords: Sequence[dict[str, Any]]) -> Tensor:
    """See ``ops.degradation.blur_gaussian``."""
    return _blur_separably(images, [_gaussian(values["sigma"]) for values in keywords])


def blur_average(images: Tensor, keywords: Sequence[dict[str, Any]]) -> Tensor:
    """See ``ops.degradation.blur_average``."""
    return _blur_separably(images, [_box(values["size"]) for values in keywords])


def blur_motion(images: Tensor, keywords: Sequence[dict[str, Any]]) -> Tensor:
    """See ``ops.degradation.blur_motion``."""
    kernels = [cpu.motion_kernel(**values) for values in keywords]
    side = max(map(len, kernels))
    padded = np.stack([np.pad(kernel, (side - len(kernel)) // 2) for kernel in kernels])
    return _to_levels(_convolve(images, torch.from_numpy(padded)))


def blur_median(images: Tensor, keywords: Sequence[dict[str, Any]]) -> list[Tensor]:
    """See ``ops.degradation.blur_median``."""
    return [_median(image, cpu.odd(values["size"])) for image, values in zip(images, keywords, strict=True)]


def _gaussian(sigma: float) -> np.ndarray:
    half = cpu.gaussian_kernel_size(sigma) // 2
    weights = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


def _box(size: int) -> np.ndarray:
    """Return equal weights in an odd window: an even box reaches farther to the left."""
    return np.pad(np.full(size, 1 / size), (0, 1 - size % 2))


def _blur_separably(images: Tensor, weights: Sequence[np.ndarray]) -> Tensor:
    side = max(map(len, weights))
    padded = torch.from_numpy(np.stack([np.pad(row, (side - len(row)) // 2) for row in weights]))
    return _to_levels(_convolve(_convolve(images, padded[:, None, :]), padded[:, :, None]))


def _convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlate ``(n, 3, h, w)`` with odd kernels ``(n, kh, kw)``; the border is mirrored without the edge."""
    count, channels, height, width = images.shape
    half_y, half_x = kernels.shape[-2] // 2, kernels.shape[-1] // 2
    rows, columns = _mirrored(height, half_y, images.device), _mirrored(width, half_x, images.device)
    stacked = images.double().reshape(1, count * channels, height, width)[:, :, rows][:, :, :, columns]
    kernels = kernels.double().to(images.device).repeat_interleave(channels, dim=0)[:, None]
    return F.conv2d(stacked, kernels, groups=count * channels).view(count, channels, height, width)


def _mirrored(length: int, margin: int, device: torch.device) -> Tensor:
    places = torch.arange(-margin, length + margin, device=device)
    period = max(2 * (length - 1), 1)
    places = places % period
    return torch.minimum(places, period - places)


def _median(image: Tensor, size: int) -> Tensor:
    """Median of ``(3, h, w)`` bytes over a square: find its 8 bits from the top, counting who is as large or larger."""
    half, wanted = size // 2, (size * size + 1) // 2
    padded = F.pad(image[None], (half,) * 4, mode="replicate")[0].to(torch.uint8)
    windows = [rows.unfold(2, size, 1) for rows in padded.unfold(1, image.shape[1], 1).movedim(-1, 1).unbind(2)]
    result = torch.zeros(image.shape, dtype=torch.uint8, device=image.device)
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        trial = result + bit
        count = sum((rows >= trial[..., None]).sum(-1, dtype=torch.int16) for rows in windows)
        result = torch.where(count >= wanted, trial, result)
    return result.float()


def _to_levels(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).float()


# Resize, noise, JPEG


def resize_opencv(images: Tensor, keywords: Sequence[dict[str, Any]]) -> list[Tensor]:
    """See ``ops.degradation.resize_opencv``."""
    return [_resize(image, **values) for image, values in zip(images, keywords, strict=True)]


def _resize(image: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    rows, columns = (
        _weights(have, want, kernel).to(image.device) for have, want in zip(image.shape[-2:], size, strict=True)
    )
    return _to_levels(rows @ image.double() @ columns.T)


@functools.lru_cache(maxsize=512)
def _weights(source: int, target: int, kernel: str) -> Tensor:
    """Return OpenCV's weights along one side, ``(target, source)`` float64."""
    matrix = np.zeros((target, source))
    taps = _area(source, target) if kernel == "area" and source > target else _POINTS[kernel](source, target)
    for places, weights in taps:
        np.add.at(matrix, (np.arange(target), np.clip(places, 0, source - 1)), weights)
    return torch.from_numpy(matrix)


Taps = Iterable[tuple[np.ndarray, np.ndarray]]


def _nearest(source: int, target: int) -> Taps:
    yield np.floor(np.arange(target) * (source / target)).astype(int), np.ones(target)


def _linear(source: int, target: int) -> Taps:
    first, part = _split((np.arange(target) + 0.5) * (source / target) - 0.5)
    yield from ((first, 1 - part), (first + 1, part))


def _cubic(source: int, target: int) -> Taps:
    first, part = _split((np.arange(target) + 0.5) * (source / target) - 0.5)
    for k in range(-1, 3):
        x, a = np.abs(part - k), _CUBIC_A
        near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((x - 5) * x + 8) * x * a - 4 * a
        yield first + k, np.where(x <= 1, near, far)


def _area(source: int, target: int) -> Taps:
    """Weights of the source pixels by the part of the target pixel that they cover."""
    scale = source / target
    low, high = np.arange(target) * scale, (np.arange(target) + 1) * scale
    for place in range(int(np.ceil(scale)) + 1):
        pixel = np.floor(low).astype(int) + place
        yield pixel, np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None) / scale


def _area_enlarged(source: int, target: int) -> Taps:
    """OpenCV's rule where ``area`` enlarges: linear, but only where a target pixel lies across two source pixels."""
    first = np.floor(np.arange(target) * (source / target)).astype(int)
    part = (np.arange(target) + 1) - (first + 1) * (target / source)
    part = np.where(part <= 0, 0, part - np.floor(part))
    yield from ((first, 1 - part), (first + 1, part))


def _split(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = np.floor(places).astype(int)
    return first, places - first


_POINTS: dict[str, Callable[[int, int], Taps]] = {
    "nearest": _nearest,
    "linear": _linear,
    "cubic": _cubic,
    "area": _area_enlarged,
}


def add_noise(images: Tensor, keywords: Sequence[dict[str, Any]]) -> Tensor:
    """See ``ops.degradation.add_noise``; the field is drawn on the CPU, so the noise is the same."""
    size = tuple(images.shape[-2:])
    fields = [torch.from_numpy(np.rint(cpu.noise_field(size, **values))).expand(*size, 3) for values in keywords]
    return (images + torch.stack(fields).permute(0, 3, 1, 2).to(images.device)).clamp(0, 255)


def compress_jpeg(images: Tensor, keywords: Sequence[dict[str, Any]]) -> Tensor:
    """See ``ops.degradation.compress_jpeg``."""
    return jpeg.compress_jpeg(images, [values["quality"] for values in keywords])


BATCHED: dict[Callable, Callable[[Tensor, Sequence[dict[str, Any]]], Iterable[Tensor]]] = {
    cpu.blur_gaussian: blur_gaussian,
    cpu.blur_average: blur_average,
    cpu.blur_median: blur_median,
    cpu.blur_motion: blur_motion,
    cpu.resize_opencv: resize_opencv,
    cpu.add_noise: add_noise,
    cpu.compress_jpeg: compress_jpeg,
}
