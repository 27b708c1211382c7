"""Crops about a face: where pixels and points go."""

from __future__ import annotations

import numpy as np
import pytest

from facesr_plugin.data.face_crop import (
    FILL,
    ROTATION_KERNELS,
    CropDraw,
    Framed,
    Ranges,
    cut_box,
    draw_crop,
    forget_outside,
    mirror,
    vary_crop,
    window_of,
)

POINTS = np.array([[40, 30], [90, 44], [60, 100]], np.float32)


def dotted(height: int = 128, width: int = 128) -> Framed:
    """A black picture with a coloured, soft disc about each point: red, green, blue."""
    rows, columns = np.mgrid[:height, :width]
    discs = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 32) for x, y in POINTS]
    return Framed((255 * np.stack(discs, -1)).astype(np.uint8), POINTS)


def centres(image: np.ndarray) -> np.ndarray:
    """Where the discs are: means of the bright pixels of each colour, ``(3, 2)``."""
    weights = np.clip(image.astype(np.float64) - 140, 0, None)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([[(w * columns).sum() / w.sum(), (w * rows).sum() / w.sum()] for w in weights.transpose(2, 0, 1)])


@pytest.mark.parametrize("kernel", ROTATION_KERNELS)
@pytest.mark.parametrize(
    "draw",
    [CropDraw(1, 0, (0, 0)), CropDraw(1.1, 0, (7, -5)), CropDraw(1, 20, (0, 0)), CropDraw(0.9, -17.3, (-20, 12))],
)
def test_points_move_with_the_pixels(draw: CropDraw, kernel: str) -> None:
    image, points = vary_crop(dotted(), draw, kernel)
    assert image.shape == (128, 128, 3)
    assert points.dtype == np.float32
    assert np.abs(points - centres(image)).max() < (0.3 if kernel == "nearest" else 0.1)


def test_the_crop_is_centred_at_the_points_before_the_turn() -> None:
    _, points = vary_crop(dotted(), CropDraw(1, 0, (0, 0)))
    assert np.allclose(points.mean(0), 63.5, atol=0.5)
    _, moved = vary_crop(dotted(), CropDraw(1, 0, (30, -4)))
    assert np.array_equal(moved, points - [30, -4])
    hidden = np.array([[np.nan, np.nan], *POINTS[1:]], np.float32)
    _, rest = vary_crop(dotted()._replace(points=hidden), CropDraw(1, 0, (0, 0)))
    assert np.isnan(rest[0]).all()
    assert np.allclose(rest[1:].mean(0), 63.5, atol=0.5)


def test_a_positive_angle_turns_counter_clockwise() -> None:
    points = np.array([[100, 63.5], [27, 63.5]], np.float32)
    _, turned = vary_crop(Framed(dotted().image, points), CropDraw(1, 20, (0, 0)))
    assert turned[0, 1] < 55 < 72 < turned[1, 1]


def test_beyond_the_picture_is_the_mean_colour() -> None:
    image, _ = vary_crop(dotted(), CropDraw(0.9, 15, (30, 30)))
    assert tuple(image[-1, -1]) == FILL
    corner, _ = vary_crop(dotted(), CropDraw(1, 20, (0, 0)))
    assert tuple(corner[0, 0]) == FILL


def test_cut_box_squeezes_the_enlarged_box_into_a_square() -> None:
    box = np.array([30.6, 20, 100.2, 110])  # enlarged by 13.92 and 18
    assert window_of(box, 0.2, (128, 128)) == (16, 2, 115, 128)
    image, points = cut_box(dotted(), box, 0.2, 64)
    assert image.shape == (64, 64, 3)
    assert np.allclose(points, (POINTS + 0.5 - [16, 2]) * [64 / 99, 64 / 126] - 0.5, atol=1e-4)
    assert np.abs(points - centres(image)).max() < 0.1


@pytest.mark.parametrize("box", [[10, 10, 10, 40], [200, 10, 240, 40], [10, -50, 40, -20]])
def test_a_box_must_hold_pixels_of_its_image(box: list[float]) -> None:
    with pytest.raises(ValueError, match=r"box \[.*\] must not be empty or beside its image of 128 x 96 pixels"):
        window_of(np.array(box), 0.2, (96, 128))


@pytest.mark.parametrize(("released", "beside"), [(False, 0), (True, 1)])
def test_mirrored_points_lie_on_their_pixels_or_as_released_beside_them(released: bool, beside: int) -> None:
    points = np.array([[40, 30], [90, 44], [60, 100], [5, 6], [7, np.nan]], np.float32)
    image, mirrored = mirror(Framed(dotted().image, points), released)
    assert np.array_equal(image, dotted().image[:, ::-1])
    swapped = points[[1, 0, 2, 4, 3]]
    expected = np.stack([127 + beside - swapped[:, 0], swapped[:, 1]], 1)
    assert np.array_equal(mirrored, expected, equal_nan=True)


def test_forget_outside_keeps_the_borders() -> None:
    points = np.array([[0, 0], [64, 32], [64.01, 5], [5, -0.01], [np.nan, 3]], np.float32)
    found = forget_outside(points, (32, 64))
    assert np.array_equal(np.isfinite(found).all(-1), [True, True, False, False, False])
    assert np.array_equal(found[:2], points[:2])
    assert found.dtype == np.float32


def test_draws_fill_their_ranges() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_crop(rng, Ranges((0.9, 1.1), 20, 30)) for _ in range(500)]
    scales, angles = np.array([(draw.scale, draw.angle) for draw in draws]).T
    shifts = np.array([draw.shift for draw in draws])
    assert 0.9 <= scales.min() < 0.905 < 1.095 < scales.max() <= 1.1
    assert -20 <= angles.min() < -19 < 19 < angles.max() <= 20
    assert (shifts.min(0) == -29).all()
    assert (shifts.max(0) == 29).all()
