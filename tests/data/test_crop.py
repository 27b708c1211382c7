import numpy as np
import pytest
from PIL import Image

from facesr_plugin.data.crop import Crop, Window, cut, cut_landmarks, find_window, parse_crop
from helpers.faces import make_image


@pytest.mark.parametrize("text", ["none", "center", "celeba178", "dic", "box:0.25"])
def test_parse_crop_reads_every_form(text):
    assert parse_crop(text) == Crop(*({"box:0.25": ("box", 0.25)}.get(text, (text,))))


@pytest.mark.parametrize("text", ["celeba", "none:1", "box", "box:", "box:x", "box:-1", "box:nan", "box:9"])
def test_parse_crop_rejects_other_texts(text):
    with pytest.raises(ValueError, match=r"crop must be one of none, center|MARGIN of box:MARGIN must be a number"):
        parse_crop(text)


@pytest.mark.parametrize(
    ("size", "crop", "window"),
    [
        ((40, 40), Crop("none"), Window(0, 0, 40)),
        ((40, 30), Crop("center"), Window(0, 5, 30)),
        ((218, 178), Crop("celeba178"), Window(0, 20, 178)),
        ((179, 181), Crop("celeba178"), Window(2, 0, 178)),  # halves go to the even number, as in torchvision
    ],
)
def test_find_window_cuts_the_centre(size, crop, window):
    assert find_window(size, crop, None) == window


def test_find_window_surrounds_a_box_with_its_margin():
    box = np.array([10, 20, 29, 49], np.float32)  # centre (19.5, 34.5), longer side 29
    assert find_window((100, 100), Crop("box", 0.5), box) == Window(-9, 6, 58)
    points = cut_landmarks(np.array([[19.5, 34.5]], np.float32), Window(-9, 6, 58), 116)
    assert np.allclose(points, 57.5, atol=1.01)  # the middle of 116 pixels


def test_find_window_slices_the_box_of_dic():
    window = find_window((218, 178), Crop("dic"), np.array([24, 50, 154, 180], np.float32))
    assert window == Window(24, 50, 130)
    assert find_window((130, 130), Crop("dic"), np.array([0, 0, 130, 130])) == Window(0, 0, 130)


@pytest.mark.parametrize("box", [(24, 50, 154, 181), (24.5, 50, 154.5, 180), (60, 50, 190, 180), (24, 50, 24, 50)])
def test_find_window_refuses_boxes_that_dic_cannot_slice(box):
    with pytest.raises(ValueError, match=r"box must be square, of whole pixels and inside the image of 178 x 218"):
        find_window((218, 178), Crop("dic"), np.array(box, np.float32))


@pytest.mark.parametrize(
    ("size", "crop", "box", "text"),
    [
        ((40, 40), Crop("dic"), None, "image has no landmarks with a box"),
        ((40, 30), Crop("none"), None, "image must be square, got 30 x 40 pixels. Choose a --crop"),
        ((170, 218), Crop("celeba178"), None, "at least 178 x 178 for celeba178, got 218 x 170"),
        ((40, 40), Crop("box", 0.1), None, "image has no landmarks"),
        ((40, 40), Crop("box", 0.1), np.array([100, 100, 120, 120.0]), "does not fit an image of 40 x 40"),
        ((40, 40), Crop("box", 0.1), np.array([0, 0, 900, 900.0]), "does not fit"),
        ((40, 40), Crop("box", 0.1), np.array([5, 5, 5, 5.0]), "does not fit"),
    ],
)
def test_find_window_says_why_not(size, crop, box, text):
    with pytest.raises(ValueError, match=text):
        find_window(size, crop, box)


def test_cut_is_pillows_resize_of_the_window():
    image = make_image(0, 50, 60)
    expected = Image.fromarray(image[5:45, 10:50]).resize((20, 20), Image.Resampling.BICUBIC)
    assert np.array_equal(cut(image, Window(10, 5, 40), 20, "bicubic"), np.asarray(expected))


def test_cut_mirrors_the_image_outside():
    image = make_image(0, 10)
    square = cut(image, Window(-3, 4, 12), 12, "bicubic")
    assert np.array_equal(square[0, :4], image[4, 3::-1])
    assert np.array_equal(square[6:, 3:], image[8:2:-1, :9])


def test_cut_takes_a_square_of_the_right_size_as_it_is():
    image = make_image(0, 16)
    assert np.array_equal(cut(image, Window(0, 0, 16), 16, "bicubic"), image)


def test_cut_landmarks_follow_the_image():
    image = np.zeros((40, 40, 3), np.uint8)
    image[20, 13] = 255
    window = Window(5, 10, 20)
    rows, columns, _ = np.nonzero(cut(image, window, 40, "bilinear") > 100)
    assert np.allclose(cut_landmarks(np.array([[13, 20]], np.float32), window, 40)[0], [columns.mean(), rows.mean()])
