"""PSNR and SSIM of DIC's protocol: luma rounded to 8 bits, without a border of 8 pixels.

Source: the released evaluation. Its bytes overflow before SSIM, so that it compares 256 - Y: ``official`` keeps that,
``plain`` has Y. The two differ by 2e-4 on dark images and by less on others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from facesr_plugin.metrics.image_metric import WINDOW, check_images, psnr, ssim
from facesr_plugin.ops.color import luma_rounded
from facesr_plugin.registry import METRIC_REGISTRY

BORDER_PX = 8
FORMS = ("official", "plain")


@METRIC_REGISTRY.register()
def calculate_dic_psnr(img: np.ndarray, img2: np.ndarray, **_: Any) -> float:
    """Return the PSNR in dB of the luma, as DIC's tables have it.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it; sides over 16.
        img2: Ground truth, same form.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size, have no three channels, or are all border.
    """
    return psnr(*_lumas(img, img2, smallest=1))


@METRIC_REGISTRY.register()
def calculate_dic_ssim(img: np.ndarray, img2: np.ndarray, form: str = "official", **_: Any) -> float:
    """Return the SSIM of the luma, as DIC's tables have it.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it; sides of 27 or more.
        img2: Ground truth, same form.
        form: ``official``, of 256 - Y, or ``plain``.

    Raises:
        TypeError: If an image is not uint8.
        ValueError: If the images differ in size, have no three channels or are too small, or ``form`` is unknown.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    lumas = _lumas(img, img2, smallest=WINDOW)
    if form == "official":
        lumas = [256.0 - values for values in lumas]
    return ssim(*lumas)


def _lumas(img: np.ndarray, img2: np.ndarray, smallest: int) -> list[np.ndarray]:
    """Luma of both images without border, float64, sides of ``smallest`` or more."""
    check_images(img, img2)
    least = smallest + 2 * BORDER_PX
    if min(img.shape[:2]) < least:
        raise ValueError(f"images must have sides of {least} or more, got {img.shape[1]} x {img.shape[0]}")
    inside = slice(BORDER_PX, -BORDER_PX)
    return [luma_rounded(image[inside, inside, ::-1]).astype(np.float64) for image in (img, img2)]
