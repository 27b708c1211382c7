"""Where a restored face differs from the truth: PSNR and SSIM of each pixel in fixed colours, with their bar.

The PSNR of a pixel is 10 log10(255^2 / mean squared difference of its channels); over an image, its squared differences
have the mean that ``calculate_psnr`` has. The SSIM of a pixel is that of the window about it, mean over the channels.
Colours run from the worst (bright) to the best (black) of ``ERROR_MAPS`` in every map, so that maps of any two faces or
results can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from facesr_plugin.metrics.image_metric import PEAK, ssim_map
from facesr_plugin.utils.visualize import caption_font

_BAR_WIDTH, _TICKS = 0.2, 5
_TEXT, _BACKGROUND = "#333333", "#ffffff"


class ErrorMap(NamedTuple):
    """A kind of map.

    Attributes:
        title: Of the values.
        unit: Empty for a plain number.
        worst: Value of the bright end of the colours; what is worse has its colour.
        best: Value of the black end; what is better has its colour.
        measure: ``(H, W, 3)`` uint8 restored and truth to ``(H, W)`` float64.
    """

    title: str
    unit: str
    worst: float
    best: float
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray]


def psnr_of_pixels(sr: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Return the PSNR of each pixel in dB, ``(H, W)`` float64, infinite where both are equal.

    Args:
        sr: Restored, ``(H, W, 3)`` uint8.
        gt: Truth, same shape and order of colours.

    Raises:
        ValueError: If the shapes differ.
    """
    _check(sr, gt)
    errors = ((sr.astype(np.float64) - gt) ** 2).mean(-1)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(PEAK**2 / errors)


def ssim_of_pixels(sr: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Return the SSIM about each pixel, ``(H, W)`` float64 in [-1, 1]; arguments as for ``psnr_of_pixels``."""
    _check(sr, gt)
    return ssim_map(sr.transpose(2, 0, 1), gt.transpose(2, 0, 1)).mean(0)


ERROR_MAPS = {
    "psnr": ErrorMap("PSNR", "dB", 10, 50, psnr_of_pixels),
    "ssim": ErrorMap("SSIM", "", 0, 1, ssim_of_pixels),
}


def error_levels(sr: np.ndarray, gt: np.ndarray, kind: str) -> np.ndarray:
    """Return the map as rows of ``error_colours``: ``(H, W)`` uint8, 0 the best and 255 the worst.

    Args:
        sr: Restored, ``(H, W, 3)`` uint8.
        gt: Truth, same shape and order of colours.
        kind: Key of ``ERROR_MAPS``.

    Raises:
        ValueError: If the shapes differ or ``kind`` is unknown.
    """
    if kind not in ERROR_MAPS:
        raise ValueError(f"kind must be one of {', '.join(ERROR_MAPS)}, got {kind!r}")
    scale = ERROR_MAPS[kind]
    errors = (scale.best - scale.measure(sr, gt)) / (scale.best - scale.worst)
    return np.rint(errors.clip(0, 1) * 255).astype(np.uint8)


def draw_error_map(sr: np.ndarray, gt: np.ndarray, kind: str) -> np.ndarray:
    """Return the map in colours, ``(H, W, 3)`` uint8 RGB; arguments as for ``error_levels``."""
    return error_colours()[error_levels(sr, gt, kind)]


def draw_colour_bar(kind: str, height: int) -> np.ndarray:
    """Draw the colours of a kind of map, the worst above, with their values.

    Args:
        kind: Key of ``ERROR_MAPS``.
        height: Of the picture in pixels.

    Returns:
        ``(height, W, 3)`` uint8 RGB on white, W about half the height.
    """
    scale, size = ERROR_MAPS[kind], max(9, height // 10)
    font = caption_font(size)
    values = np.linspace(scale.worst, scale.best, _TICKS)
    texts = [f"{value:g} {scale.unit}".strip() for value in values]
    bar, gap = max(1, round(height * _BAR_WIDTH)), size // 2
    width = bar + 3 * gap + int(max(font.getbbox(text)[2] for text in texts))
    canvas = Image.new("RGB", (width, height), _BACKGROUND)
    levels = np.linspace(255, 0, height - 2 * gap).round().astype(np.uint8)
    canvas.paste(Image.fromarray(np.repeat(error_colours()[levels][:, None], bar, axis=1)), (0, gap))
    draw = ImageDraw.Draw(canvas)
    for text, y in zip(texts, np.linspace(gap, height - gap - 1, _TICKS), strict=True):
        draw.line((bar, y, bar + gap, y), fill=_TEXT)
        draw.text((bar + 2 * gap, y - sum(font.getbbox(text)[1::2]) / 2), text, fill=_TEXT, font=font)
    return np.array(canvas)


@lru_cache(maxsize=1)
def error_colours() -> np.ndarray:
    """Return the colours of the levels, ``(256, 3)`` uint8 RGB: OpenCV's inferno, whose lightness rises all along."""
    levels = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[:, 0, ::-1])


def _check(sr: np.ndarray, gt: np.ndarray) -> None:
    if sr.shape != gt.shape or sr.ndim != 3 or sr.shape[2] != 3:
        raise ValueError(f"images must have the same shape (H, W, 3), got {sr.shape} and {gt.shape}")
