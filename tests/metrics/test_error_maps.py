import numpy as np
import pytest

from facesr_plugin.metrics.error_maps import (
    ERROR_MAPS,
    draw_colour_bar,
    draw_error_map,
    error_colours,
    error_levels,
    psnr_of_pixels,
    ssim_of_pixels,
)
from facesr_plugin.metrics.image_metric import calculate_progressive_psnr, calculate_progressive_ssim

RANDOM = np.random.default_rng(0)
GT = RANDOM.integers(0, 256, (24, 30, 3), np.uint8)
SR = (GT + RANDOM.normal(0, 20, GT.shape)).clip(0, 255).astype(np.uint8)


def test_psnr_of_pixels_is_that_of_the_image_in_its_mean_error() -> None:
    error = (255**2 / 10 ** (psnr_of_pixels(SR, GT) / 10)).mean()
    assert 10 * np.log10(255**2 / error) == pytest.approx(calculate_progressive_psnr(SR, GT), rel=1e-9)


def test_ssim_of_pixels_is_that_of_the_image_where_the_window_fits() -> None:
    found = ssim_of_pixels(SR, GT)
    assert found.shape == (24, 30)
    assert found[5:-5, 5:-5].mean() == pytest.approx(calculate_progressive_ssim(SR, GT), rel=1e-9)


@pytest.mark.parametrize("kind", ERROR_MAPS)
def test_error_levels_are_best_for_equal_images(kind: str) -> None:
    assert not error_levels(GT, GT, kind).any()


@pytest.mark.parametrize("kind", ERROR_MAPS)
def test_error_levels_show_where_the_error_is(kind: str) -> None:
    changed = GT.copy()
    changed[10:14, 3:7] = 255 - changed[10:14, 3:7]
    levels = error_levels(changed, GT, kind).astype(int)
    assert levels[10:14, 3:7].mean() > levels.mean() + 50
    assert not levels[:, 20:].any()


def test_psnr_map_has_known_levels() -> None:
    grey = np.full((1, 3, 3), 100, np.uint8)
    other = grey + np.array([0, 8, 155], np.uint8)[None, :, None]  # infinite, 30.07 dB, 4.32 dB
    np.testing.assert_array_equal(error_levels(grey, other, "psnr"), [[0, 127, 255]])


def test_ssim_of_pixels_takes_faces_smaller_than_the_window() -> None:
    assert ssim_of_pixels(GT[:3, :2], GT[:3, :2]).tolist() == [[1, 1]] * 3


def test_draw_error_map_is_brighter_where_worse() -> None:
    assert draw_error_map(SR, GT, "psnr").shape == SR.shape
    lightness = error_colours() @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > -1).all()
    assert lightness[255] - lightness[0] > 200


@pytest.mark.parametrize("kind", ERROR_MAPS)
def test_colour_bar_runs_from_worst_to_best(kind: str) -> None:
    bar = draw_colour_bar(kind, 120)
    assert bar.shape[0] == 120
    assert np.abs(bar[6, 2].astype(int) - error_colours()[255]).max() <= 8
    assert np.abs(bar[113, 2].astype(int) - error_colours()[0]).max() <= 8
    assert (bar[:, 40:] < 128).any()  # its values


def test_error_levels_refuse_other_sizes_and_kinds() -> None:
    with pytest.raises(ValueError, match=r"must have the same shape \(H, W, 3\), got \(24, 30, 3\) and \(23, 30, 3\)"):
        error_levels(SR, GT[:-1], "ssim")
    with pytest.raises(ValueError, match="kind must be one of psnr, ssim, got 'lpips'"):
        error_levels(SR, GT, "lpips")
