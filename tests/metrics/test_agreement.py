"""PSNR and SSIM of every system against scikit-image and BasicSR, where they claim the same protocol."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from facesr_plugin.metrics.building import build_metric
from facesr_plugin.metrics.catalogue import PROTOCOLS
from helpers.metrics import degraded, faces

basicsr = pytest.importorskip("basicsr.metrics.psnr_ssim")
GT = faces(2, 56, 48)
SR = degraded(GT, 15)
WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}  # Wang et al., 2004
Plane = Callable[[np.ndarray], np.ndarray]


def value(name: str, face: int) -> float:
    batch = {"img": SR[face : face + 1], "img2": GT[face : face + 1]}
    return float(build_metric(PROTOCOLS[name].section).measure(batch)[0])


def luma(image: np.ndarray) -> np.ndarray:
    """BT.601 in [16, 235] of BGR, as MATLAB's, not rounded."""
    return 16 + image.astype(np.float64) @ np.array([24.966, 128.553, 65.481]) / 255


def truncated(image: np.ndarray) -> np.ndarray:
    return luma(image).astype(np.uint8).astype(np.float64)


def rounded_inside(image: np.ndarray) -> np.ndarray:
    return np.rint(luma(image))[8:-8, 8:-8]


def inverted_inside(image: np.ndarray) -> np.ndarray:
    return 256 - rounded_inside(image)


def jasrnet_inside(image: np.ndarray) -> np.ndarray:
    inside = image[8:-8, 8:-8].astype(np.float64) / 255
    return 255 * (inside @ np.array([25.064, 129.057, 65.738]) / 256 + 16 / 255)


def whole(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64)


@pytest.mark.parametrize("face", [0, 1])
@pytest.mark.parametrize(
    ("name", "plane", "tolerance"),
    [
        ("psnr_rgb", whole, 1e-9),
        ("psnr_y", luma, 1e-4),  # BasicSR's luma is float32
        ("sparnet_psnr", truncated, 1e-9),
        ("dic_psnr", rounded_inside, 1e-9),
        ("progressive_psnr", whole, 1e-9),
        ("jasrnet_psnr", jasrnet_inside, 1e-9),
    ],
)
def test_psnr_is_scikit_images(name: str, plane: Plane, tolerance: float, face: int) -> None:
    expected = peak_signal_noise_ratio(plane(GT[face]), plane(SR[face]), data_range=255)
    assert value(name, face) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("face", [0, 1])
@pytest.mark.parametrize(
    ("name", "plane", "options", "tolerance"),
    [
        ("ssim_rgb", whole, {"channel_axis": 2}, 1e-6),  # BasicSR's window is OpenCV's, of float32 digits
        ("ssim_y", luma, {}, 1e-6),
        ("sparnet_ssim", truncated, {}, 1e-9),
        ("dic_ssim", inverted_inside, {}, 1e-9),
        ("progressive_ssim", whole, {"channel_axis": 2}, 1e-9),
        ("jasrnet_ssim", jasrnet_inside, {"use_sample_covariance": True}, 1e-9),
    ],
)
def test_ssim_is_scikit_images(
    name: str, plane: Plane, options: dict[str, object], tolerance: float, face: int
) -> None:
    expected = structural_similarity(plane(GT[face]), plane(SR[face]), **{**WANG, **options})
    assert value(name, face) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("face", [0, 1])
def test_progressive_metrics_are_basicsrs_over_rgb(face: int) -> None:
    pair = SR[face], GT[face]
    assert value("progressive_psnr", face) == pytest.approx(basicsr.calculate_psnr(*pair, crop_border=0), abs=1e-9)
    assert value("progressive_ssim", face) == pytest.approx(basicsr.calculate_ssim(*pair, crop_border=0), abs=1e-6)


@pytest.mark.parametrize(("system", "border"), [("sparnet", 0), ("dic", 8)])
def test_psnr_of_a_luma_of_8_bits_is_near_basicsrs_but_another_number(system: str, border: int) -> None:
    theirs = basicsr.calculate_psnr(SR[0], GT[0], crop_border=border, test_y_channel=True)
    assert 1e-4 < abs(value(f"{system}_psnr", 0) - theirs) < 0.2


@pytest.mark.parametrize("face", [0, 1])
def test_psnr_of_jasrnet_is_basicsrs_of_the_luma_without_its_border(face: int) -> None:
    theirs = basicsr.calculate_psnr(SR[face], GT[face], crop_border=8, test_y_channel=True)
    assert value("jasrnet_psnr", face) == pytest.approx(theirs, abs=1e-4)  # weights of luma with other digits
