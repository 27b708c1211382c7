import cv2
import numpy as np
import pytest

from facesr_plugin.metrics.image_metric import (
    SCALE_WEIGHTS,
    calculate_progressive_ms_ssim,
    calculate_progressive_psnr,
    calculate_progressive_ssim,
    calculate_sparnet_psnr,
    calculate_sparnet_ssim,
    ms_ssim,
    psnr,
    scale_similarities,
    ssim,
)
from facesr_plugin.registry import METRIC_REGISTRY


def make_pair(height: int = 24, width: int = 31, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth colour image and a noisy copy, BGR uint8."""
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    return noisy, smooth


def test_metrics_are_registered():
    assert METRIC_REGISTRY.get("calculate_sparnet_psnr") is calculate_sparnet_psnr
    assert METRIC_REGISTRY.get("calculate_sparnet_ssim") is calculate_sparnet_ssim


def test_sparnet_psnr_of_equal_images_is_infinite():
    image, _ = make_pair()
    assert calculate_sparnet_psnr(image, image) == float("inf")
    assert calculate_sparnet_ssim(image, image) == pytest.approx(1.0, abs=1e-12)


def test_sparnet_psnr_takes_blue_first_and_truncates():
    black = np.zeros((12, 12, 3), dtype=np.uint8)
    blue = black.copy()
    blue[..., 0] = 50  # Y = 16 + 4.895...: cut to 20, a difference of 4
    assert calculate_sparnet_psnr(blue, black) == pytest.approx(10 * np.log10(255**2 / 16), abs=1e-9)


def test_sparnet_psnr_ignores_the_keys_of_other_metrics():
    image, reference = make_pair()
    assert calculate_sparnet_psnr(img=image, img2=reference, crop_border=4) == calculate_sparnet_psnr(image, reference)


def test_psnr_over_rgb_equals_basicsr():
    basicsr = pytest.importorskip("basicsr.metrics.psnr_ssim")
    image, reference = make_pair()
    assert psnr(image, reference) == pytest.approx(basicsr.calculate_psnr(image, reference, crop_border=0), abs=1e-9)


def test_ssim_equals_basicsr():
    basicsr = pytest.importorskip("basicsr.metrics.psnr_ssim")
    image, reference = make_pair()
    expected = basicsr.calculate_ssim(image[..., :1], reference[..., :1], crop_border=0)
    assert ssim(image[..., 0], reference[..., 0]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", [calculate_sparnet_psnr, calculate_sparnet_ssim])
def test_sparnet_metrics_reject_a_size_mismatch(metric):
    with pytest.raises(ValueError, match=r"must have the same shape, got \(12, 12, 3\) and \(12, 13, 3\)"):
        metric(np.zeros((12, 12, 3), np.uint8), np.zeros((12, 13, 3), np.uint8))


def test_sparnet_ssim_rejects_images_smaller_than_its_window():
    image = np.zeros((10, 40, 3), np.uint8)
    with pytest.raises(ValueError, match=r"sides of 11 or more for SSIM, got \(10, 40\)"):
        calculate_sparnet_ssim(image, image)


def test_sparnet_metrics_reject_floats_and_grey_images():
    with pytest.raises(TypeError, match="image must be uint8, got float64"):
        calculate_sparnet_psnr(np.zeros((12, 12, 3)), np.zeros((12, 12, 3)))
    with pytest.raises(ValueError, match=r"images must have shape \(H, W, 3\), BGR, got \(12, 12\)"):
        calculate_sparnet_psnr(np.zeros((12, 12), np.uint8), np.zeros((12, 12), np.uint8))


def test_progressive_psnr_and_ssim_take_all_channels():
    image, reference = make_pair()
    assert calculate_progressive_psnr(image, reference) == psnr(image, reference)
    channels = [ssim(image[..., i], reference[..., i]) for i in range(3)]
    assert calculate_progressive_ssim(image, reference) == pytest.approx(np.mean(channels), abs=1e-12)


def test_progressive_ssim_shrinks_its_window_to_small_images():
    image, reference = make_pair(8, 9)
    assert calculate_progressive_ssim(image, image) == pytest.approx(1.0, abs=1e-12)
    assert 0 < calculate_progressive_ssim(image, reference) < 1


@pytest.mark.parametrize(("form", "power"), [("official", 4), ("textbook", 1)])
def test_ms_ssim_is_the_product_over_scales(form, power):
    pair = [image.transpose(2, 0, 1) for image in make_pair(64, 48)]
    *finer, last = scale_similarities(*pair)
    expected = np.prod([scale.contrast**weight for scale, weight in zip(finer, SCALE_WEIGHTS, strict=False)])
    expected *= last.whole ** (SCALE_WEIGHTS[-1] * power)
    assert calculate_progressive_ms_ssim(*make_pair(64, 48), form=form) == pytest.approx(expected, abs=1e-12)


def test_ms_ssim_halves_by_the_mean_of_four_pixels():
    image, reference = (image[..., 0] for image in make_pair(64, 48))
    halves = [
        cv2.resize(plane.astype(np.float64), (24, 32), interpolation=cv2.INTER_AREA) for plane in (image, reference)
    ]
    assert scale_similarities(image, reference)[1].whole == pytest.approx(ssim(*halves), abs=1e-12)


def test_ms_ssim_of_negative_structure_is_zero_and_not_nan():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    assert ms_ssim(image, 255 - image) == 0.0


def test_ms_ssim_rejects_small_images_and_other_forms():
    small = np.zeros((15, 64, 3), np.uint8)
    with pytest.raises(ValueError, match=r"sides of 16 or more for MS-SSIM, got \(3, 15, 64\)"):
        calculate_progressive_ms_ssim(small, small)
    with pytest.raises(ValueError, match="form must be one of official, textbook, got 'paper'"):
        ms_ssim(np.zeros((16, 16)), np.zeros((16, 16)), "paper")


@pytest.mark.parametrize(
    "metric", [calculate_progressive_psnr, calculate_progressive_ssim, calculate_progressive_ms_ssim]
)
def test_progressive_metrics_reject_floats(metric):
    with pytest.raises(TypeError, match="img must be uint8, got float64"):
        metric(np.zeros((32, 32, 3)), np.zeros((32, 32, 3)))
