import math

import numpy as np
import pytest
from PIL import Image

from facesr_plugin.cards import Reduction
from facesr_plugin.data.transforms import (
    Patch,
    ZoomDraw,
    cut_patch,
    cut_patch_landmarks,
    distortion_patch,
    draw_turns,
    draw_zoom,
    hflip,
    hflip_landmarks,
    make_lq,
    resize,
    resize_landmarks,
    turn,
    turn_landmarks,
    zoom,
    zoom_landmarks,
)
from helpers.faces import make_image


def test_make_lq_is_pillows_bicubic_reduction():
    gt = make_image(0, 128)
    expected = np.asarray(Image.fromarray(gt).resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(make_lq(gt, 8, Reduction("bicubic")), expected)


def test_make_lq_halves_again_and_again_with_a_rounding_each_time():
    gt = make_image(0, 128)
    expected = Image.fromarray(gt)
    for side in (64, 32, 16):
        expected = expected.resize((side, side), Image.Resampling.BILINEAR)
    chain = make_lq(gt, 8, Reduction("bilinear", halving=True))
    assert np.array_equal(chain, expected)
    assert not np.array_equal(chain, make_lq(gt, 8, Reduction("bilinear")))


def test_make_lq_by_halves_rejects_other_scales():
    with pytest.raises(ValueError, match="scale must be a power of 2 to reduce by halves, got 3"):
        make_lq(make_image(0, 96, 96), 3, Reduction("bilinear", halving=True))


def test_make_lq_rejects_sides_that_are_no_multiples():
    with pytest.raises(ValueError, match="sides of gt must be multiples of scale 8, got 128x100"):
        make_lq(make_image(0, 128, 100), 8, Reduction("bicubic"))


def test_resize_takes_height_first():
    assert resize(make_image(0, 10, 20), (5, 40)).shape == (5, 40, 3)


def test_hflip_landmarks_keeps_pixel_centres():
    points = np.array([[0, 1], [31, 1], [3, 2], [0, 5], [31, 5]], np.float32)
    mirrored = hflip_landmarks(points, 32)
    assert mirrored.tolist() == [[0, 1], [31, 1], [28, 2], [0, 5], [31, 5]]


def test_hflip_moves_a_marked_pixel_and_its_landmark_alike():
    image = np.zeros((8, 9, 3), np.uint8)
    image[3, 2] = 255  # the left eye of five points
    points = np.array([[2, 3], [0, 0], [0, 0], [0, 0], [0, 0]], np.float32)
    x, y = hflip_landmarks(points, 9)[1].astype(int)
    assert hflip(image)[y, x].tolist() == [255] * 3


def test_official_zoom_leaves_the_image_when_nothing_is_gained():
    image = make_image(0, 128)
    draw = ZoomDraw(1.007, 5, 5, 110, 110)  # int(1.007 * 128) is 128
    assert zoom(image, draw, "official") is image
    assert not np.array_equal(zoom(image, draw, "corrected"), image)


def test_zoom_cuts_the_enlarged_image():
    image = make_image(0, 64)
    draw = ZoomDraw(1.25, 10, 20, 50, 40)
    enlarged = np.asarray(Image.fromarray(image).resize((80, 80), Image.Resampling.BILINEAR))
    window = Image.fromarray(enlarged[10:60, 20:60])
    assert np.array_equal(zoom(image, draw, "official"), np.asarray(window.resize((64, 64), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_zoom_moves_landmarks_with_the_image(mode):
    image = np.zeros((128, 128, 3), np.uint8)
    image[58:63, 78:83] = 255
    draw = ZoomDraw(1.2, 10, 20, 100, 110)
    moved = zoom(image, draw, mode).astype(float).mean(-1)
    rows, columns = np.indices(moved.shape)
    centre = [(columns * moved).sum() / moved.sum(), (rows * moved).sum() / moved.sum()]
    points = zoom_landmarks(np.array([[80, 60]], np.float32), (128, 128), draw, mode)
    assert np.allclose(points[0], centre, atol=0.15)


def test_zoom_landmarks_stay_where_the_image_stays():
    points = np.array([[3, 4]], np.float32)
    assert zoom_landmarks(points, (128, 128), ZoomDraw(1.0, 9, 9, 90, 90), "official").tolist() == [[3, 4]]


def test_resize_landmarks_maps_centres_to_centres():
    assert np.allclose(resize_landmarks(np.array([[0.0, 7.0]]), (8, 8), (16, 32)), [[1.5, 14.5]])


def draws(mode: str, count: int = 600) -> list[ZoomDraw]:
    return [draw_zoom(np.random.default_rng(i), (128, 128), mode) for i in range(count)]


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_draw_zoom_keeps_the_published_ranges(mode):
    for factor, top, left, height, width in draws(mode):
        room = 128 if mode == "official" else int(factor * 128)
        assert 1 <= factor <= 1.3
        assert 0 <= top <= room - height
        assert 0 <= left <= room - width
        assert 0.69 <= height * width / 128**2 <= 1.01
        assert 0.74 <= width / height <= 1.35


def test_official_zoom_never_reaches_the_end_of_the_enlarged_image_and_the_corrected_one_does():
    ends = {
        mode: max(d.left + d.width - math.floor(d.factor * 128) for d in draws(mode))
        for mode in ("official", "corrected")
    }
    large = [d for d in draws("official") if d.factor > 1.1]
    assert all(d.left + d.width <= 128 for d in large)
    assert ends["corrected"] == 0


def test_draw_zoom_repeats_with_the_same_generator():
    assert draw_zoom(np.random.default_rng(3), (128, 128), "official") == draws("official", 4)[3]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turn_moves_a_marked_pixel_and_its_landmark_alike(turns):
    image = np.zeros((8, 8, 3), np.uint8)
    image[3, 1] = 255
    (x, y) = turn_landmarks(np.array([[1, 3]], np.float32), 8, turns)[0].astype(int)
    turned = turn(image, turns)
    assert turned[y, x].tolist() == [255] * 3
    assert (x, y) == [(1, 3), (3, 6), (6, 4), (4, 1)][turns]  # a quarter turn takes the left side to the bottom


def test_draw_turns_follows_the_published_shares():
    class Shares:
        def __init__(self, share):
            self.random = lambda: share

    shares = (0.0, 0.25, 0.26, 0.5, 0.51, 0.75, 0.76)
    assert [draw_turns(Shares(share)) for share in shares] == [0, 0, 3, 3, 2, 2, 1]


def corners(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, bottom]], np.float32)


@pytest.mark.parametrize(
    ("points", "ratio", "patch"),
    [
        (corners(20, 40.5, 80, 60), 0.7, Patch(0, 15, 100, 70)),  # centred on y 50.25: from 15.25 to 85.25
        (corners(20, 41.5, 80, 60), 0.697, Patch(0, 15, 100, 70)),  # from 15.9 to 85.6: each border is cut on its own
        (corners(20, 2, 80, 40), 0.7, Patch(0, 0, 100, 70)),  # would begin above the face
        (corners(20, 60, 80, 98), 0.7, Patch(0, 30, 100, 70)),  # would end below it
        (corners(40.5, 20, 60, 80), 1.25, Patch(10, 0, 80, 100)),
        (corners(2, 20, 40, 80), 1.25, Patch(0, 0, 80, 100)),
        (corners(60, 20, 98, 80), 1.25, Patch(20, 0, 80, 100)),
        (corners(20, 10, 80, 90), 0.66, Patch(0, 10, 100, 80)),  # the ratio is limited to 0.8, the landmarks' height
        (corners(5, 20, 95, 80), 1.33, Patch(5, 0, 90, 100)),  # and to 1 / 0.9, their width
        (corners(20, 40.5, 80, 40.5), 0.7, Patch(0, 5, 100, 70)),  # in a row or a column: any ratio
        (corners(40.5, 20, 40.5, 80), 0.7, Patch(0, 15, 100, 70)),
        (corners(40.5, 20, 40.5, 80), 1.25, Patch(0, 0, 80, 100)),
        (corners(20, 40.5, 80, 40.5), 1e-3, Patch(0, 40, 100, 1)),  # down to one pixel, not to none
        (corners(40.5, 20, 40.5, 80), 1e3, Patch(40, 0, 1, 100)),
    ],
)
@pytest.mark.filterwarnings("error")
def test_distortion_patch_keeps_the_landmarks_inside_the_face(points, ratio, patch):
    assert distortion_patch(points, 100, ratio) == patch


def test_cut_patch_stretches_the_face_and_its_landmarks_alike():
    image = np.zeros((40, 40, 3), np.uint8)
    image[20, 13] = 255
    patch = Patch(0, 10, 40, 20)
    stretched = cut_patch(image, patch, 40)
    assert np.array_equal(stretched, resize(image[10:30], (40, 40)))
    rows, columns, _ = np.nonzero(stretched > 100)
    points = cut_patch_landmarks(np.array([[13, 20]], np.float32), patch, 40)
    assert np.allclose(points[0], [columns.mean(), rows.mean()])
