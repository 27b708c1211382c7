"""The repair "jpg-quality"."""

from __future__ import annotations

import sys
from types import ModuleType

import cv2
import numpy as np
import pytest

from facesr_plugin import compat

IMAGE = np.random.default_rng(0).uniform(-0.2, 1.2, (16, 24, 3)).astype(np.float32)


def expected(quality: int) -> np.ndarray:
    levels = np.rint(np.clip(IMAGE, 0, 1) * 255).astype(np.uint8)
    _, file = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.float32(cv2.imdecode(file, 1)) / 255.0


@pytest.fixture(scope="module")
def degradations() -> ModuleType:
    import basicsr.data.degradations as module

    assert compat.apply()["jpg-quality"] == "applied"
    return module


@pytest.mark.parametrize(("quality", "used"), [(37, 37), (37.4, 37), (37.6, 38), (np.float32(50.2), 50)])
def test_jpg_quality_is_rounded(degradations: ModuleType, quality: float, used: int) -> None:
    assert np.array_equal(degradations.add_jpg_compression(IMAGE, quality), expected(used))


def test_jpg_quality_may_be_drawn(degradations: ModuleType) -> None:
    np.random.seed(0)
    image = degradations.random_add_jpg_compression(IMAGE, (30, 95))
    assert (image.shape, image.dtype) == (IMAGE.shape, np.float32)


def test_original_fails_with_a_fraction(degradations: ModuleType) -> None:
    original = degradations.add_jpg_compression.__wrapped__
    with pytest.raises((cv2.error, TypeError)):
        original(IMAGE, 37.4)


def test_jpg_quality_is_replaced_where_it_was_imported(degradations: ModuleType) -> None:
    holders = [module for name, module in list(sys.modules.items()) if name.startswith("basicsr.")]
    found = {vars(module)["add_jpg_compression"] for module in holders if "add_jpg_compression" in vars(module)}
    assert found == {degradations.add_jpg_compression}
