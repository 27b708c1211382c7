"""PSNR and SSIM of DIC's protocol."""

from __future__ import annotations

import numpy as np
import pytest

from facesr_plugin.metrics.dic_metric import calculate_dic_psnr, calculate_dic_ssim
from facesr_plugin.metrics.image_metric import ssim
from facesr_plugin.ops.color import luma


def pair(size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Two BGR images, the first with errors."""
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 60, (size, size, 3), dtype=np.uint8)
    return np.clip(gt + rng.integers(-20, 20, gt.shape), 0, 255).astype(np.uint8), gt


def lumas(*images: np.ndarray) -> list[np.ndarray]:
    return [np.rint(luma(image[8:-8, 8:-8, ::-1])) for image in images]


def test_dic_psnr_is_of_the_rounded_luma_without_border() -> None:
    sr, gt = pair()
    first, second = lumas(sr, gt)
    assert calculate_dic_psnr(sr, gt) == pytest.approx(10 * np.log10(255**2 / np.mean((first - second) ** 2)))
    border = gt.copy()
    border[:8], border[:, :8] = 255, 255
    assert calculate_dic_psnr(border, gt) == np.inf


def test_dic_ssim_is_of_inverted_luma_as_released_and_of_luma() -> None:
    sr, gt = pair()
    first, second = lumas(sr, gt)
    assert calculate_dic_ssim(sr, gt) == pytest.approx(ssim(256 - first, 256 - second), abs=1e-12)
    assert calculate_dic_ssim(sr, gt, form="plain") == pytest.approx(ssim(first, second), abs=1e-12)
    assert calculate_dic_ssim(sr, gt) != pytest.approx(ssim(first, second), abs=1e-5)


def test_dic_metrics_refuse_what_they_cannot_measure() -> None:
    with pytest.raises(ValueError, match="images must have sides of 17 or more, got 16 x 16"):
        calculate_dic_psnr(*pair(16))
    with pytest.raises(ValueError, match="images must have sides of 27 or more, got 26 x 26"):
        calculate_dic_ssim(*pair(26))
    with pytest.raises(ValueError, match=r"images must have the same shape, got \(40, 40, 3\) and \(30, 30, 3\)"):
        calculate_dic_psnr(pair(40)[0], pair(30)[1])
    with pytest.raises(ValueError, match=r"images must have shape \(H, W, 3\), BGR, got \(40, 40\)"):
        calculate_dic_psnr(*(image[..., 0] for image in pair(40)))
    with pytest.raises(ValueError, match="form must be one of official, plain, got 'inverted'"):
        calculate_dic_ssim(*pair(), form="inverted")
    with pytest.raises(TypeError, match="image must be uint8, got float64"):
        calculate_dic_psnr(*(image.astype(np.float64) for image in pair()))
