"""Luma of RGB images in the forms that the published tables use.

All are the ITU-R BT.601 studio-range form Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255. SPARNet's tables cut the
fraction off before they measure, DIC's round to the nearest integer; BasicSR keeps it.
"""

from __future__ import annotations

import numpy as np

LUMA_WEIGHTS = (65.481, 128.553, 24.966)


def luma(image: np.ndarray) -> np.ndarray:
    """Return Y with its fraction, as BasicSR measures (``test_y_channel: true``; it computes in float32).

    Args:
        image: ``(..., 3)`` RGB in [0, 255], uint8 or float.

    Returns:
        ``(...)`` float64 in [16, 235].

    Raises:
        ValueError: If the last dimension is not 3.
    """
    if image.ndim < 1 or image.shape[-1] != 3:
        raise ValueError(f"image must have shape (..., 3), got {image.shape}")
    return np.dot(image.astype(np.float64), LUMA_WEIGHTS) / 255.0 + 16.0


def luma_truncated(image: np.ndarray) -> np.ndarray:
    """Return Y cut to a byte (not rounded), as SPARNet's tables measure.

    Args:
        image: ``(..., 3)`` RGB uint8.

    Returns:
        ``(...)`` uint8 in [16, 235].

    Raises:
        TypeError: If ``image`` is not uint8.
        ValueError: If the last dimension is not 3.
    """
    return _luma_of_bytes(image).astype(np.uint8)


def luma_rounded(image: np.ndarray) -> np.ndarray:
    """Return Y rounded to a byte, as DIC's tables measure; arguments and errors as for ``luma_truncated``."""
    return np.rint(_luma_of_bytes(image)).astype(np.uint8)


def _luma_of_bytes(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        raise TypeError(f"image must be uint8, got {image.dtype}. Quantise it with the system's own rounding first.")
    return luma(image)
