"""PSNR, SSIM and MS-SSIM by the protocols of the published tables.

SPARNet: luma of the 8-bit images cut to a byte, every pixel counted, no border crop (released code).
Progressive FSR: all channels of RGB, every pixel counted, no border crop (released code). It differs in that images are
8-bit here, as BasicSR passes them, and that every image counts alike: the released PSNR is that of the mean squared
error of each batch of 16, and its MS-SSIM averages over the batch before the product.
SSIM: 11x11 Gaussian of sigma 1.5, population moments, K1 0.01, K2 0.03, mean over the windows that fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from facesr_plugin.ops.color import luma_truncated
from facesr_plugin.registry import METRIC_REGISTRY

PEAK = 255.0
WINDOW = 11
SIGMA = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
LAST_POWERS = {"official": 4, "textbook": 1}
_SMALLEST_MS_SSIM = 2 ** (len(SCALE_WEIGHTS) - 1)


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


@METRIC_REGISTRY.register()
def calculate_progressive_psnr(img: np.ndarray, img2: np.ndarray, **_: Any) -> float:
    """Return the PSNR in dB over all channels, as the tables of Progressive FSR have it, but per image.

    Args:
        img: Restored, ``(H, W, 3)`` uint8 as BasicSR passes it.
        img2: Ground truth, same form.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size or have no three channels.
    """
    return psnr(*_planes(img, img2))


@METRIC_REGISTRY.register()
def calculate_progressive_ssim(img: np.ndarray, img2: np.ndarray, **_: Any) -> float:
    """Return the SSIM, mean over the channels, as the tables of Progressive FSR have it.

    Args:
        img: Restored, ``(H, W, 3)`` uint8 as BasicSR passes it; sides below 11 shrink the window.
        img2: Ground truth, same form.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size or have no three channels.
    """
    images = _planes(img, img2)
    return _similarity(*images, min(WINDOW, *images[0].shape[1:])).whole


@METRIC_REGISTRY.register()
def calculate_progressive_ms_ssim(img: np.ndarray, img2: np.ndarray, form: str = "official", **_: Any) -> float:
    """Return the MS-SSIM over all channels, as the tables of Progressive FSR have it, but per image.

    Args:
        img: Restored, ``(H, W, 3)`` uint8 as BasicSR passes it, at least 16x16.
        img2: Ground truth, same form.
        form: ``official`` or ``textbook``; see ``ms_ssim``.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size, have no three channels or are too small, or ``form`` is unknown.
    """
    return ms_ssim(*_planes(img, img2), form)


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
    return _similarity(image, reference, WINDOW).whole


def ms_ssim(images: np.ndarray, references: np.ndarray, form: str = "official") -> float:
    r"""Return the structural similarity over five scales, each the mean of 2x2 pixels of the one before.

    .. math:: \prod_{k<5} cs_k^{w_k} \cdot (ssim_5^{w_5})^p

    ``official`` (the released program of Progressive FSR) has p = 4, since its last factor stands inside the product;
    ``textbook`` has p = 1 and is higher. Contrast and structure cs_k below 0 count as 0 (NaN in the program).

    Args:
        images: ``(..., H, W)`` in [0, 255], uint8 or float, sides of 16 or more; cs_k and ssim_5 are means over all
            leading dimensions.
        references: Same shape.
        form: ``official`` or ``textbook``.

    Raises:
        ValueError: If the shapes differ, a side is too small, or ``form`` is unknown.
    """
    if form not in LAST_POWERS:
        raise ValueError(f"form must be one of {', '.join(LAST_POWERS)}, got {form!r}")
    _check_same_shape(images, references)
    if images.ndim < 2 or min(images.shape[-2:]) < _SMALLEST_MS_SSIM:
        raise ValueError(
            f"images must have shape (..., H, W) with sides of {_SMALLEST_MS_SSIM} or more for MS-SSIM, "
            f"got {images.shape}"
        )
    *finer, last = scale_similarities(images, references)
    factors = [*(scale.contrast for scale in finer), last.whole]
    powers = [*SCALE_WEIGHTS[:-1], SCALE_WEIGHTS[-1] * LAST_POWERS[form]]
    return float(np.prod(np.maximum(factors, 0) ** powers))


class Similarity(NamedTuple):
    """Mean structural similarity, and the mean of its factor of contrast and structure."""

    whole: float
    contrast: float


def scale_similarities(images: np.ndarray, references: np.ndarray) -> list[Similarity]:
    """Compare images as they are, then halved, and so on: one entry per scale; arguments as for ``ms_ssim``."""
    found = []
    for _ in SCALE_WEIGHTS:
        found.append(_similarity(images, references, min(WINDOW, *images.shape[-2:])))
        images, references = _halve(images), _halve(references)
    return found


def ssim_map(images: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the structural similarity of the window about each pixel, in [-1, 1].

    Beyond their edges images go on mirrored.
    Where the window fits, 5 pixels and more from the edges, the mean of the map is ``ssim``.

    Args:
        images: ``(..., H, W)`` in [0, 255], uint8 or float, any size.
        references: Same shape.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_same_shape(images, references)
    margins = [(0, 0)] * (images.ndim - 2) + [(WINDOW // 2, WINDOW // 2)] * 2
    x, y = (np.pad(planes, margins, mode="symmetric") for planes in (images, references))
    return _similarity_maps(x, y, WINDOW)[0]


def _similarity(images: np.ndarray, references: np.ndarray, window: int) -> Similarity:
    return Similarity(*(float(values.mean()) for values in _similarity_maps(images, references, window)))


def _similarity_maps(images: np.ndarray, references: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Compare ``(..., H, W)`` in [0, 255] where a window of that many pixels fits, centred on tap ``window // 2``."""
    return similarity_maps(images.astype(np.float64), references.astype(np.float64), partial(_blur, window=window))


def similarity_maps(
    x: np.ndarray, y: np.ndarray, blur: Callable[[np.ndarray], np.ndarray], peak: float = PEAK, factor: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the structural similarity under a window, and its factor of contrast and structure, as ``blur`` returns.

    Args:
        x: Float64, as ``blur`` takes it.
        y: Same shape.
        blur: Gives the mean under the window about each pixel.
        peak: Range of the values; K1 is 0.01, K2 0.03.
        factor: Of variances and covariance: 1 for those of the population.
    """
    mean_x, mean_y = blur(x), blur(y)
    variance_x = factor * (blur(x * x) - mean_x * mean_x)
    variance_y = factor * (blur(y * y) - mean_y * mean_y)
    covariance = factor * (blur(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    contrast = (2 * covariance + c2) / (variance_x + variance_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * contrast, contrast


def _lumas(img: np.ndarray, img2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    check_images(img, img2)
    return luma_truncated(img[..., ::-1]), luma_truncated(img2[..., ::-1])


def _planes(img: np.ndarray, img2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the channels ``(3, H, W)`` of two uint8 images."""
    check_images(img, img2)
    for name, image in (("img", img), ("img2", img2)):
        if image.dtype != np.uint8:
            raise TypeError(f"{name} must be uint8, got {image.dtype}")
    return img.transpose(2, 0, 1), img2.transpose(2, 0, 1)


def check_images(img: np.ndarray, img2: np.ndarray) -> None:
    """Refuse what are not two images ``(H, W, 3)`` of one size.

    Raises:
        ValueError: If the shapes differ, or are others.
    """
    _check_same_shape(img, img2)
    if img.ndim != 3 or img.shape[2] != 3:
        raise ValueError(f"images must have shape (H, W, 3), BGR, got {img.shape}")


def _check_same_shape(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape:
        raise ValueError(
            f"images must have the same shape, got {image.shape} and {reference.shape}. "
            "Compare with the ground truth of the same face at the same size."
        )


def _halve(images: np.ndarray) -> np.ndarray:
    """Mean of each 2x2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in images.shape[-2:])
    even = images[..., :height, :width]
    return even.reshape(*images.shape[:-2], height // 2, 2, width // 2, 2).mean(axis=(-3, -1), dtype=np.float64)


def _blur(images: np.ndarray, window: int) -> np.ndarray:
    """Gaussian window over the places where it fits: ``(..., H, W)`` to ``(..., H - window + 1, W - window + 1)``."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    height, width = (side - window + 1 for side in images.shape[-2:])
    rows = sum(weight * images[..., i : i + height, :] for i, weight in enumerate(weights))
    return sum(weight * rows[..., i : i + width] for i, weight in enumerate(weights))
