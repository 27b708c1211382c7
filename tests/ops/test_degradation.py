import io

import numpy as np
import pytest
from PIL import Image

from facesr_plugin.ops import degradation as ops
from helpers.faces import make_image

IMAGE = make_image(3, 40, 48)
UNIFORM = np.full((30, 34, 3), (200, 7, 90), dtype=np.uint8)


@pytest.mark.parametrize(("sigma", "size"), [(0.4, 5), (2.9, 9), (3.0, 9), (4.4, 13), (5.0, 13), (15.0, 39)])
def test_gaussian_kernel_size_is_imgaugs(sigma, size):
    assert ops.gaussian_kernel_size(sigma) == size


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("blur_gaussian", {"sigma": 3.5}),
        ("blur_average", {"size": 4}),
        ("blur_median", {"size": 4}),
        ("blur_motion", {"size": 9, "angle": 40.0, "direction": 0.5}),
        ("resize_opencv", {"size": (30, 34), "kernel": "area"}),
        ("add_noise", {"std": 0.0, "per_channel": True, "seed": 1}),
    ],
)
def test_operators_keep_a_uniform_image(name, options):
    assert np.array_equal(getattr(ops, name)(UNIFORM, **options), UNIFORM)


@pytest.mark.parametrize("name", ["blur_average", "blur_median"])
def test_blurs_do_not_change_their_input(name):
    before = IMAGE.copy()
    assert not np.array_equal(getattr(ops, name)(IMAGE, size=7), before)
    assert np.array_equal(IMAGE, before)


def test_motion_kernel_turns_clockwise():
    upright = ops.motion_kernel(7, 0.0, 0.0)
    assert np.array_equal(np.nonzero(upright.sum(0))[0], [3])
    ramp = ops.motion_kernel(7, 0.0, 1.0)[:, 3]
    assert (np.diff(ramp) < 0).all()
    quarter = ops.motion_kernel(7, 90.0, 1.0)  # the heavy end was at the top: clockwise it comes to the right
    assert quarter[3, 6] > quarter[3, 1]
    assert quarter.sum() == pytest.approx(1)


def test_motion_kernel_enlarges_even_sizes():
    assert ops.motion_kernel(12, 10.0, 0.3).shape == (13, 13)


@pytest.mark.parametrize("kernel", ["nearest", "linear", "area", "cubic"])
def test_resize_opencv_gives_the_size(kernel):
    assert ops.resize_opencv(IMAGE, (11, 17), kernel).shape == (11, 17, 3)


def test_resize_opencv_rejects_other_kernels():
    with pytest.raises(ValueError, match="kernel must be one of nearest, linear, area, cubic, got 'lanczos'"):
        ops.resize_opencv(IMAGE, (11, 17), "lanczos")


def test_add_field_rounds_half_to_even_and_clips():
    image = np.array([[[10, 10, 10], [250, 3, 0]]], dtype=np.uint8)
    field = np.array([[[0.5, 1.5, -0.5], [10.0, -10.0, -0.4]]], dtype=np.float32)
    assert ops.add_field(image, field).tolist() == [[[10, 12, 10], [255, 0, 0]]]


def test_noise_field_has_the_deviation_and_repeats():
    field = ops.noise_field((100, 100), 12.0, True, 5)
    assert field.shape == (100, 100, 3)
    assert field.std() == pytest.approx(12, rel=0.02)
    assert np.array_equal(field, ops.noise_field((100, 100), 12.0, True, 5))
    assert ops.noise_field((4, 5), 12.0, False, 5).shape == (4, 5, 1)


@pytest.mark.parametrize(("compression", "quality"), [(0, 100), (10, 90), (33, 68), (64, 37), (100, 2)])
def test_jpeg_quality_is_imgaugs(compression, quality):
    assert ops.jpeg_quality(compression) == quality


def test_compress_jpeg_is_pillows():
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, format="JPEG", quality=40)
    assert np.array_equal(ops.compress_jpeg(IMAGE, 40), np.asarray(Image.open(buffer)))


def test_to_grey_repeats_the_luma():
    grey = ops.to_grey(UNIFORM)
    assert grey.shape == UNIFORM.shape
    assert np.unique(grey).tolist() == [round(0.299 * 200 + 0.587 * 7 + 0.114 * 90)]
