"""PSNR and SSIM by the protocols of the published tables.

SPARNet: luma of the 8-bit images cut to a byte, every pixel counted, no border crop (released code).
SSIM: 11x11 Gaussian of sigma 1.5, population moments, K1 0.01, K2 0.03, mean over the windows that fit.
PSNR over all channels of RGB is BasicSR's ``calculate_psnr`` with ``crop_border: 0``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from facesr_plugin.ops.color import luma_truncated
from facesr_plugin.registry import METRIC_REGISTRY

PEAK = 255.0
WINDOW = 11
SIGMA = 1.5


@METRIC_REGISTRY.register()
def calculate_sparnet_psnr(img: np.ndarray, img2: np.ndarray, **_: Any) -> float:
    """Return the PSNR in dB of the truncated luma, as SPARNet's tables have it.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it.
        img2: Ground truth, same form.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size or have no three channels.
    """
    return psnr(*_lumas(img, img2))


@METRIC_REGISTRY.register()
def calculate_sparnet_ssim(img: np.ndarray, img2: np.ndarray, **_: Any) -> float:
    """Return the SSIM of the truncated luma, as SPARNet's tables have it.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it.
        img2: Ground truth, same form.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size, have no three channels, or are smaller than 11x11.
    """
    return ssim(*_lumas(img, img2))


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Return 10 log10(255^2 / mean squared difference) in dB; infinite for equal images.

    Args:
        image: Any shape, [0, 255], uint8 or float.
        reference: Same shape.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_same_shape(image, reference)
    error = np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10.0 * np.log10(PEAK**2 / error))


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean structural similarity of one channel.

    Args:
        image: ``(H, W)`` in [0, 255], uint8 or float, at least 11x11.
        reference: Same shape.

    Raises:
        ValueError: If the shapes differ, are not ``(H, W)`` or smaller than the window.
    """
    _check_same_shape(image, reference)
    if image.ndim != 2 or min(image.shape) < WINDOW:
        raise ValueError(f"images must have shape (H, W) with sides of {WINDOW} or more for SSIM, got {image.shape}")
    x, y = image.astype(np.float64), reference.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x * mean_x
    variance_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(similarity.mean())


def _lumas(img: np.ndarray, img2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _check_same_shape(img, img2)
    if img.ndim != 3 or img.shape[2] != 3:
        raise ValueError(f"images must have shape (H, W, 3), BGR, got {img.shape}")
    return luma_truncated(img[..., ::-1]), luma_truncated(img2[..., ::-1])


def _check_same_shape(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape:
        raise ValueError(
            f"images must have the same shape, got {image.shape} and {reference.shape}. "
            "Compare with the ground truth of the same face at the same size."
        )


def _blur(image: np.ndarray) -> np.ndarray:
    """Gaussian window over the places where it fits: ``(H, W)`` to ``(H - 10, W - 10)``."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    height, width = (side - WINDOW + 1 for side in image.shape)
    rows = sum(weight * image[i : i + height] for i, weight in enumerate(weights))
    return sum(weight * rows[:, i : i + width] for i, weight in enumerate(weights))
