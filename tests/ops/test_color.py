import numpy as np
import pytest

from facesr_plugin.ops.color import luma, luma_truncated


def test_luma_of_grey_spans_the_studio_range():
    grey = np.array([[0] * 3, [85] * 3, [170] * 3, [255] * 3], dtype=np.uint8)
    assert np.allclose(luma(grey), [16, 89, 162, 235], atol=1e-12)


def test_luma_takes_red_first():
    assert np.allclose(luma(np.eye(3) * 255), [16 + 65.481, 16 + 128.553, 16 + 24.966], atol=1e-12)


def test_luma_truncated_cuts_the_fraction():
    colours = np.random.default_rng(0).integers(0, 256, (500, 3), dtype=np.uint8)
    exact = colours.astype(int) @ [65481, 128553, 24966]  # thousandths of 255 levels
    fraction = (exact % 255_000) / 255_000
    safe = (fraction > 1e-6) & (fraction < 1 - 1e-6)
    assert np.array_equal(luma_truncated(colours)[safe], (16 + exact // 255_000)[safe])


def test_luma_truncated_rejects_floats():
    with pytest.raises(TypeError, match="image must be uint8, got float64"):
        luma_truncated(np.zeros((2, 3)))


def test_luma_rejects_other_channel_counts():
    with pytest.raises(ValueError, match=r"image must have shape \(..., 3\), got \(4, 4\)"):
        luma(np.zeros((4, 4)))
