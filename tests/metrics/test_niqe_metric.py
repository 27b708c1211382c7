"""NIQE: BasicSR's value where it is defined, a clear error where it is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from basicsr.metrics import calculate_niqe

from facesr_plugin.metrics.networks import MissingLibraryError
from facesr_plugin.metrics.niqe_metric import Niqe, calculate_face_niqe
from helpers.metrics import degraded, faces


def test_value_is_basicsrs_for_one_and_in_a_batch() -> None:
    images = degraded(faces(2, 200, 100), 10)
    expected = [calculate_niqe(image, crop_border=2) for image in images]
    assert calculate_face_niqe(images[1], crop_border=2, better="lower") == expected[1]
    assert Niqe(crop_border=2)(images).tolist() == expected


def test_value_needs_no_border_option() -> None:
    image = degraded(faces(1, 96, 192), 10)[0]
    assert calculate_face_niqe(image) == calculate_niqe(image, crop_border=0)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (faces(1, 128)[0], "2 blocks of 96 x 96 pixels or more for NIQE, got 128 x 128. It is not defined for faces"),
        (np.full((96, 192, 3), 9, np.uint8), "images must have texture in two blocks or more for NIQE, got even"),
        (np.zeros((192, 192), np.uint8), r"images must have shape \(N, H, W, 3\), BGR"),
    ],
)
def test_what_niqe_is_not_defined_for_is_refused(image: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        calculate_face_niqe(image)


def test_borders_and_types_are_checked() -> None:
    with pytest.raises(ValueError, match="crop_border must be 0 or more, got -1"):
        Niqe(crop_border=-1)
    with pytest.raises(ValueError, match="got 176 x 80"):
        calculate_face_niqe(faces(1, 96, 192)[0], crop_border=8)
    with pytest.raises(TypeError, match="img must be uint8, got float64"):
        calculate_face_niqe(np.zeros((192, 192, 3)))


def test_without_basicsr_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "basicsr.metrics", None)
    with pytest.raises(MissingLibraryError, match='NIQE needs basicsr .*: pip install "basicsr>=1.4.2"'):
        Niqe()
