import io

import numpy as np
import pytest
from PIL import Image

from facesr_plugin.evaluation.figures import LARGEST_PX, Picture, colour_bar_png, error_map_png, face_png
from facesr_plugin.metrics.error_maps import draw_error_map

GT = np.random.default_rng(0).integers(0, 256, (20, 16, 3), np.uint8)
SR = 255 - GT


def decode(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB"))


def test_face_png_keeps_the_pixels_of_a_small_face() -> None:
    np.testing.assert_array_equal(decode(face_png(GT)), GT)


def test_face_png_reduces_a_large_face() -> None:
    assert decode(face_png(np.zeros((600, 300, 3), np.uint8))).shape == (LARGEST_PX, LARGEST_PX // 2, 3)


@pytest.mark.parametrize("kind", ["psnr", "ssim"])
def test_error_map_png_has_the_colours_of_the_map(kind: str) -> None:
    np.testing.assert_array_equal(decode(error_map_png(SR, GT, kind)), draw_error_map(SR, GT, kind))


def test_colour_bar_png_is_on_white() -> None:
    assert (decode(colour_bar_png("psnr"))[:, -1] == 255).all()


def test_picture_is_an_address() -> None:
    assert Picture(b"\x89PNG", "a face").uri == "data:image/png;base64,iVBORw=="
