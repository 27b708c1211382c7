import cv2
import numpy as np
import pytest

from facesr_plugin.metrics.image_metric import calculate_sparnet_psnr, calculate_sparnet_ssim, psnr, ssim
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
