import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from facesr_plugin.metrics.jasrnet_metric import (
    calculate_jasrnet_box_psnr,
    calculate_jasrnet_box_ssim,
    calculate_jasrnet_psnr,
    calculate_jasrnet_ssim,
    face_box,
)
from facesr_plugin.registry import METRIC_REGISTRY

POINTS = np.array([[20.9, 12.2], [np.nan, np.nan], [90, 40.7], [30, 50]])


def pair(height: int = 64, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    return np.clip(gt + rng.integers(-20, 21, gt.shape), 0, 255).astype(np.uint8), gt


def official_luma(image: np.ndarray) -> np.ndarray:
    return image[..., ::-1] / 255 @ np.array([65.738, 129.057, 25.064]) / 256 + 16


def test_box_metrics_are_those_of_scikit_image_inside_the_box():
    images = pair()
    sr, gt = (official_luma(image)[12:50, 20:88] for image in images)
    assert calculate_jasrnet_box_psnr(*images, POINTS) == pytest.approx(peak_signal_noise_ratio(gt, sr, data_range=1))
    theirs = structural_similarity(sr, gt, data_range=1, gaussian_weights=True, sigma=1.5)
    assert calculate_jasrnet_box_ssim(*images, POINTS, form="official") == pytest.approx(theirs, abs=1e-9)


def test_metrics_of_the_whole_face_leave_out_the_border():
    sr, gt = pair()
    psnr, ssim = calculate_jasrnet_psnr(sr, gt), calculate_jasrnet_ssim(sr, gt)
    sr[:8], sr[:, -8:] = 255 - sr[:8], 0
    assert (calculate_jasrnet_psnr(sr, gt), calculate_jasrnet_ssim(sr, gt)) == (psnr, ssim)
    large = np.array([[-5, -5], [200, 200]])
    assert calculate_jasrnet_box_psnr(sr, gt, large) == psnr
    assert calculate_jasrnet_box_ssim(sr, gt, large) == ssim


def test_standard_luma_sees_a_change_of_brightness_that_the_official_one_hides():
    _, gt = pair()
    dark = (gt * 0.8).astype(np.uint8)
    assert calculate_jasrnet_ssim(dark, gt) < calculate_jasrnet_ssim(dark, gt, form="official") - 0.002


def test_windows_of_11_and_13_taps_differ():
    sr, gt = pair()
    difference = calculate_jasrnet_ssim(sr, gt, taps=13) - calculate_jasrnet_ssim(sr, gt, taps=11)
    assert 1e-6 < abs(difference) < 1e-2


def test_a_given_box_replaces_that_of_the_landmarks():
    sr, gt = pair()
    assert face_box(POINTS) == pytest.approx([20.9, 12.2, 90, 50])
    box = np.array([20.9, 12.2, 90, 50])
    expected = calculate_jasrnet_box_psnr(sr, gt, POINTS)
    assert calculate_jasrnet_box_psnr(sr, gt, POINTS[:1], box=box) == expected
    assert calculate_jasrnet_box_ssim(sr, gt, POINTS[:1], box=box) == calculate_jasrnet_box_ssim(sr, gt, POINTS)


@pytest.mark.parametrize("name", ["psnr", "ssim", "box_psnr", "box_ssim"])
def test_metrics_are_registered_and_ignore_other_keys(name):
    assert METRIC_REGISTRY.get(f"calculate_jasrnet_{name}")(*pair(), landmarks=POINTS, better="higher") > 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"landmarks": np.full((5, 2), np.nan)}, r"landmarks must have shape \(K, 2\) and a known point, got \(5, 2\)"),
        ({"landmarks": np.zeros((1, 5, 2))}, r"landmarks must have shape \(K, 2\) and a known point, got \(1, 5, 2\)"),
        (
            {"landmarks": np.array([[1, 1], [18, 18]])},
            r"region measured must have sides of 11 or more for SSIM, got \(10",
        ),
        ({"landmarks": np.array([[1, 1], [8, 8]])}, r"of 96 x 64 has nothing inside the box \[1, 1, 8, 8\] beside"),
        ({"img": np.zeros((64, 64, 3), np.uint8)}, r"images must have the same shape, got \(64, 64, 3\)"),
        (dict.fromkeys(("img", "img2"), np.zeros((64, 96), np.uint8)), r"shape \(H, W, 3\), BGR, got \(64, 96\)"),
        ({"form": "y"}, "form must be one of standard, official, got 'y'"),
        ({"taps": 12}, "taps must be 11 or 13, got 12"),
    ],
)
def test_metrics_tell_what_is_wrong(change, text):
    sr, gt = pair()
    with pytest.raises(ValueError, match=text):
        calculate_jasrnet_box_ssim(**{"img": sr, "img2": gt, "landmarks": POINTS, **change})


def test_metrics_take_bytes_and_enough_of_them():
    sr, gt = pair()
    with pytest.raises(TypeError, match="images must be uint8, got float64 and uint8"):
        calculate_jasrnet_psnr(sr / 255, gt)
    with pytest.raises(ValueError, match="image of 16 x 16 has nothing beside its border of 8 pixels"):
        calculate_jasrnet_psnr(sr[:16, :16], gt[:16, :16])
