"""PSNR and SSIM of JASRNet's protocol: luma, inside the box of the face's landmarks, without the image's border.

Source: the released evaluation (spec 5.2). Its luma has RGB in [0, 1] but an offset of 16, which pushes SSIM's
luminance term to 1: ``official`` keeps that, ``standard`` has the offset 16 / 255. PSNR is the same in both. Which of
two windows its SSIM had depends on the library of the time, so both are offered.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np

from facesr_plugin.metrics.image_metric import SIGMA, check_images, psnr, similarity_maps
from facesr_plugin.registry import METRIC_REGISTRY

BORDER_PX = 8
OFFSETS = {"standard": 16 / 255, "official": 16.0}
TAPS = (11, 13)
_LUMA_WEIGHTS = (65.738, 129.057, 25.064)
_CUT_PX = 5  # of the map of similarities, for both windows
_SAMPLE_FACTOR = 121 / 120
_SMALLEST_SIDE = 2 * _CUT_PX + 1


@METRIC_REGISTRY.register()
def calculate_jasrnet_psnr(img: np.ndarray, img2: np.ndarray, **_: Any) -> float:
    """Return the PSNR in dB of the luma on the whole image without its border of 8 pixels.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it.
        img2: Ground truth, same form.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size, have no three channels, or nothing is left of them.
    """
    return _psnr(img, img2, None)


@METRIC_REGISTRY.register()
def calculate_jasrnet_ssim(
    img: np.ndarray, img2: np.ndarray, *, form: str = "standard", taps: int = 11, **_: Any
) -> float:
    """Return the SSIM of the luma on the whole image without its border of 8 pixels.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it.
        img2: Ground truth, same form.
        form: Of the luma, ``standard`` or ``official``.
        taps: Of the Gaussian window, 11 (today's library) or 13 (that of 2019).

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size, have no three channels or are too small, or an option is unknown.
    """
    return _ssim(img, img2, None, form, taps)


@METRIC_REGISTRY.register()
def calculate_jasrnet_box_psnr(
    img: np.ndarray, img2: np.ndarray, landmarks: np.ndarray, box: np.ndarray | None = None, **_: Any
) -> float:
    """Return the PSNR in dB of the luma inside the face's box, as the released evaluation.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it.
        img2: Ground truth, same form.
        landmarks: ``(K, 2)`` (x, y) of the face in pixels, NaN for unknown ones: the box goes about them,
        box: unless it is given, x1 y1 x2 y2.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size, have no three channels, or nothing is left inside the box.
    """
    return _psnr(img, img2, face_box(landmarks) if box is None else box)


@METRIC_REGISTRY.register()
def calculate_jasrnet_box_ssim(
    img: np.ndarray,
    img2: np.ndarray,
    landmarks: np.ndarray,
    box: np.ndarray | None = None,
    *,
    form: str = "standard",
    taps: int = 11,
    **_: Any,
) -> float:
    """Return the SSIM of the luma inside the face's box; with ``form`` official as the released evaluation.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it.
        img2: Ground truth, same form.
        landmarks: As in ``calculate_jasrnet_box_psnr``.
        box: As in ``calculate_jasrnet_box_psnr``.
        form: As in ``calculate_jasrnet_ssim``.
        taps: As in ``calculate_jasrnet_ssim``.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size, have no three channels or too little inside the box, or an option is
            unknown.
    """
    return _ssim(img, img2, face_box(landmarks) if box is None else box, form, taps)


def face_box(landmarks: np.ndarray) -> np.ndarray:
    """Return the box about the known ones of ``(K, 2)`` points: x1 y1 x2 y2.

    Raises:
        ValueError: If the points have another shape, or none is known.
    """
    points = np.asarray(landmarks, np.float64)
    known = points[np.isfinite(points).all(-1)] if points.ndim == 2 and points.shape[1] == 2 else points[:0]
    if not len(known):
        raise ValueError(f"landmarks must have shape (K, 2) and a known point, got {points.shape}, none known")
    return np.concatenate([known.min(0), known.max(0)])


def region_of(size: tuple[int, int], box: np.ndarray | None) -> tuple[slice, slice]:
    """Return rows and columns that are measured: the image without its border, and of that what the box holds.

    Args:
        size: ``(height, width)`` of the image.
        box: x1 y1 x2 y2 in pixels, cut to integers; None for the whole image.

    Raises:
        ValueError: If nothing is left.
    """
    height, width = size
    x1, y1, x2, y2 = (0, 0, width, height) if box is None else (int(value) for value in box)
    rows = slice(max(y1, BORDER_PX), min(y2, height - BORDER_PX))
    columns = slice(max(x1, BORDER_PX), min(x2, width - BORDER_PX))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        where = "" if box is None else f" inside the box {[x1, y1, x2, y2]}"
        raise ValueError(f"image of {width} x {height} has nothing{where} beside its border of {BORDER_PX} pixels")
    return rows, columns


def _psnr(img: np.ndarray, img2: np.ndarray, box: np.ndarray | None) -> float:
    return psnr(*(255 * values for values in _lumas(img, img2, box, OFFSETS["standard"])))


def _ssim(img: np.ndarray, img2: np.ndarray, box: np.ndarray | None, form: str, taps: int) -> float:
    if form not in OFFSETS:
        raise ValueError(f"form must be one of {', '.join(OFFSETS)}, got {form!r}")
    if taps not in TAPS:
        raise ValueError(f"taps must be 11 or 13, got {taps!r}")
    sr, gt = _lumas(img, img2, box, OFFSETS[form])
    if min(sr.shape) < _SMALLEST_SIDE:
        raise ValueError(f"the region measured must have sides of {_SMALLEST_SIDE} or more for SSIM, got {sr.shape}")
    return _similarity(sr, gt, taps)


def _lumas(img: np.ndarray, img2: np.ndarray, box: np.ndarray | None, offset: float) -> list[np.ndarray]:
    """Luma of both images inside the region, float64."""
    check_images(img, img2)
    if img.dtype != np.uint8 or img2.dtype != np.uint8:
        raise TypeError(f"images must be uint8, got {img.dtype} and {img2.dtype}")
    rows, columns = region_of(img.shape[:2], box)
    return [np.dot(image[rows, columns, ::-1] / 255.0, _LUMA_WEIGHTS) / 256 + offset for image in (img, img2)]


def _similarity(x: np.ndarray, y: np.ndarray, taps: int) -> float:
    """Mean SSIM of two ``(H, W)`` float64 of data range 1, with sample covariance."""
    found, _ = similarity_maps(x, y, partial(_blur, taps=taps), peak=1, factor=_SAMPLE_FACTOR)
    return float(found[_CUT_PX:-_CUT_PX, _CUT_PX:-_CUT_PX].mean())


def _blur(values: np.ndarray, taps: int) -> np.ndarray:
    """Gaussian window; the border is mirrored with the edge pixel repeated."""
    return cv2.GaussianBlur(values, (taps, taps), SIGMA, borderType=cv2.BORDER_REFLECT)
