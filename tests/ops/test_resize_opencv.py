"""OpenCV's bicubic enlargement against OpenCV."""

import cv2
import numpy as np
import pytest
import torch

from facesr_plugin.cards import get_card
from facesr_plugin.ops.protocol import prepare_input, to_float, to_uint8
from facesr_plugin.ops.resize_opencv import enlarge_opencv


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def opencv(image, size):
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)


def to_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0)


@pytest.mark.parametrize(
    ("small", "size"), [((16, 16), (128, 128)), ((30, 30), (128, 128)), ((20, 30), (160, 240)), ((64, 64), (256, 256))]
)
def test_enlarge_opencv_gives_opencvs_bytes(small, size):
    image = noise(*small, 3)
    found = enlarge_opencv(to_tensor(image), size, "bicubic")[0].permute(1, 2, 0).numpy()
    off = np.abs(found.astype(int) - opencv(image, size))
    assert off.max() <= 1
    assert off.mean() < 5e-5  # values half-way between two levels; without antialiasing or with a = -0.5 most differ


def test_input_of_jasrnet_is_rounded_to_bytes_before_the_network():
    image = noise(16, 16, 3)
    lq = prepare_input(to_float(to_tensor(image)), get_card("jasrnet"))
    assert torch.equal(lq, to_float(enlarge_opencv(to_tensor(image), (128, 128), "bicubic")))
    assert torch.equal(to_float(to_uint8(lq)), lq)


def test_enlarge_opencv_refuses_what_opencv_would_compute_otherwise():
    with pytest.raises(TypeError, match=r"images must be uint8, got torch.float32. Quantise them first."):
        enlarge_opencv(torch.zeros(1, 3, 2, 2), (4, 4), "bicubic")
    with pytest.raises(ValueError, match="kernel must be bicubic, got 'bilinear'"):
        enlarge_opencv(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), (4, 4), "bilinear")
