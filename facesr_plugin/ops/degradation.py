"""Degradations of 8-bit images with given parameters: blur, resize, noise, JPEG, grey.

Source: SPARNetHD's released training data, which used imgaug 0.4.0 over OpenCV and Pillow; these functions give its
results from its parameters (spec 4.2). Nothing here draws a random number, except ``add_noise``, from a given seed.
All images are ``(H, W, 3)`` uint8 RGB.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

RESIZE_KERNELS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
}
_LARGEST_COMPRESSION = 100
_SMALLEST_GAUSSIAN = 5


def gaussian_kernel_size(sigma: float) -> int:
    """Return the side in pixels of imgaug's Gaussian kernel: odd, 5 or more."""
    factor = 3.3 if sigma < 3 else 2.9 if sigma < 5 else 2.6
    return odd(int(max(factor * sigma, _SMALLEST_GAUSSIAN)))


def odd(size: int) -> int:
    """Return ``size``, or the next number if it is even."""
    return size + 1 - size % 2


def blur_gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur with a Gaussian of standard deviation ``sigma`` in pixels; border mirrored without repeating the edge."""
    size = gaussian_kernel_size(sigma)
    return cv2.GaussianBlur(image, (size, size), sigmaX=sigma, sigmaY=sigma, borderType=cv2.BORDER_REFLECT_101)


def blur_average(image: np.ndarray, size: int) -> np.ndarray:
    """Average over ``size x size`` pixels; an even square reaches one pixel farther to the left and top."""
    return cv2.blur(image, (size, size), borderType=cv2.BORDER_REFLECT_101)


def blur_median(image: np.ndarray, size: int) -> np.ndarray:
    """Take the median over a square of side ``odd(size)``; beyond the border the edge is repeated (OpenCV's rule)."""
    return cv2.medianBlur(image, odd(size))


def motion_kernel(size: int, angle: float, direction: float) -> np.ndarray:
    """Return imgaug's kernel of a motion blur: a line through the centre, turned clockwise.

    Args:
        size: Side in pixels; an even one is enlarged by 1.
        angle: In degrees, clockwise as displayed (y down); 0 is vertical.
        direction: -1 to 1: where along the line the weight lies; 0 is even.

    Returns:
        ``(k, k)`` float32, sum 1.
    """
    size = odd(size)
    start = (direction + 1) / 2
    line = np.zeros((size, size))
    line[:, size // 2] = np.trunc(np.linspace(start, 1 - start, size) * 255)
    turned = np.rint(_turn_clockwise(line, angle))
    return (turned / turned.sum()).astype(np.float32)


def _turn_clockwise(image: np.ndarray, angle: float) -> np.ndarray:
    """Turn ``(k, k)`` about its centre, bilinear, zero outside; OpenCV before 5 rounds the places to 1/32 pixel."""
    size = len(image)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    source_x, source_y = x * cosine + y * sine + (size - 1) / 2, y * cosine - x * sine + (size - 1) / 2
    left, top = np.floor(source_x).astype(int), np.floor(source_y).astype(int)
    right_part, lower_part = source_x - left, source_y - top
    margin = size  # the corners turn out of the square by less than half its side
    padded = np.pad(image, margin)
    total = np.zeros_like(image)
    for down, weight_y in ((0, 1 - lower_part), (1, lower_part)):
        for right, weight_x in ((0, 1 - right_part), (1, right_part)):
            total += weight_y * weight_x * padded[top + down + margin, left + right + margin]
    return total


def blur_motion(image: np.ndarray, size: int, angle: float, direction: float) -> np.ndarray:
    """Blur along a line; see ``motion_kernel``. Border mirrored without repeating the edge."""
    kernel = motion_kernel(size, angle, direction)
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def resize_opencv(image: np.ndarray, size: tuple[int, int], kernel: str) -> np.ndarray:
    """Resize with OpenCV: only ``area`` is antialiased.

    Args:
        image: ``(h, w, 3)`` uint8 RGB.
        size: ``(height, width)``.
        kernel: ``nearest``, ``linear``, ``area`` or ``cubic`` (a = -0.75).

    Raises:
        ValueError: If there is no such kernel.
    """
    if kernel not in RESIZE_KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(RESIZE_KERNELS)}, got {kernel!r}")
    return cv2.resize(image, (size[1], size[0]), interpolation=RESIZE_KERNELS[kernel])


def noise_field(size: tuple[int, int], std: float, per_channel: bool, seed: int) -> np.ndarray:
    """Draw Gaussian noise from a seed.

    Args:
        size: ``(height, width)``.
        std: Standard deviation in grey levels.
        per_channel: Whether R, G and B have their own; otherwise it is grey.
        seed: Of numpy's default generator.

    Returns:
        ``(height, width, 3)`` or, if grey, ``(height, width, 1)`` float32 in grey levels.
    """
    shape = (*size, 3 if per_channel else 1)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * np.float32(std)


def add_field(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Add ``(H, W, 3 or 1)`` float grey levels, rounded half to even, and clip."""
    return np.clip(image + np.rint(field), 0, 255).astype(np.uint8)


def add_noise(image: np.ndarray, std: float, per_channel: bool, seed: int) -> np.ndarray:
    """Add Gaussian noise; see ``noise_field``."""
    return add_field(image, noise_field(image.shape[:2], std, per_channel, seed))


def jpeg_quality(compression: int) -> int:
    """Return Pillow's quality (1 to 100) for imgaug's compression (0 to 100)."""
    return round(1 + 99 * (1 - compression / (_LARGEST_COMPRESSION + 1)))


def compress_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Write and read a JPEG file in memory, with Pillow's chroma subsampling (4:2:0)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return np.array(Image.open(buffer))


def to_grey(image: np.ndarray) -> np.ndarray:
    """Replace the three channels by OpenCV's grey: 0.299 R + 0.587 G + 0.114 B."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
