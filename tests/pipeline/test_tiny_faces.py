"""Tiny faces with the points of a landmark network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facesr_plugin.ops.affine import FFHQ_TEMPLATE, invert, transform
from facesr_plugin.pipeline.face import Face
from facesr_plugin.pipeline.landmark_heads import Framing, Points
from facesr_plugin.pipeline.tiny_faces import TinyFaceAligner, align_tiny_faces
from helpers.landmarks import save_tiny_jasrnet

FRAMING = Framing(16, 0.308, 0.266, ready_side=16)
FIVE = np.array([(5, 4), (10.5, 4.25), (8, 7), (6, 10), (10, 9.5)])
PHOTO = np.zeros((100, 120, 3), np.uint8)


class Fixed:
    """Sees the same five points in every crop."""

    framing = None

    def __call__(self, crops: np.ndarray) -> Points:
        return Points(np.tile(FIVE, (len(crops), 1, 1)), np.ones((len(crops), 5)))


class Helen(Fixed):
    def __call__(self, crops: np.ndarray) -> Points:
        return Points(np.zeros((len(crops), 194, 2)), np.ones((len(crops), 194)))


def face_at(left: float, top: float, side: float) -> Face:
    points = np.array(FFHQ_TEMPLATE) / 512 * side + [left, top]
    return Face(points, np.array([left, top, left + side, top + side]), 0.75)


def test_tiny_faces_get_the_points_of_the_network_and_others_keep_theirs() -> None:
    tiny, large = face_at(20, 30, 20), face_at(50, 10, 40)
    found = TinyFaceAligner(lambda _photo: [tiny, large], Fixed(), FRAMING)(PHOTO)
    assert found[1] is large
    assert found[0].note is None
    assert np.allclose(found[0].landmarks, transform(FIVE, invert(FRAMING.matrix(tiny.landmarks))))
    assert (found[0].score, found[0].box.tolist()) == (0.75, tiny.box.tolist())


def test_what_is_tiny_can_be_said() -> None:
    faces = [face_at(20, 30, 20), face_at(50, 10, 40)]
    moved = TinyFaceAligner(lambda _photo: faces, Fixed(), FRAMING, below=41)(PHOTO)
    assert not any(np.array_equal(one.landmarks, face.landmarks) for one, face in zip(moved, faces, strict=True))
    assert TinyFaceAligner(lambda _photo: faces, Fixed(), FRAMING, below=20)(PHOTO) == faces


def test_a_face_beside_the_photo_keeps_the_points_of_the_detector_and_says_so() -> None:
    beside = face_at(-40, 30, 20)
    (face,) = TinyFaceAligner(lambda _photo: [beside], Fixed(), FRAMING)(PHOTO)
    assert np.array_equal(face.landmarks, beside.landmarks)
    assert face.note.startswith("aligned by the detector's points: face must lie in the photo of 120 x 100 pixels, got")


def test_what_cannot_align_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="landmarks must have 5, 19, 68 or 98 points to give 5, got 194"):
        TinyFaceAligner(lambda _photo: [], Helen(), FRAMING)
    with pytest.raises(ValueError, match="below must be a positive number of pixels, got 0"):
        TinyFaceAligner(lambda _photo: [], Fixed(), FRAMING, below=0)


def test_the_network_of_a_file_aligns_faces_twice_its_input(tmp_path: Path) -> None:
    weights = save_tiny_jasrnet(tmp_path / "w.pth", gt_size=128, scale=4)
    aligner = align_tiny_faces(lambda _photo: [face_at(20, 30, 50)], weights, torch.device("cpu"))
    assert aligner.below == 64
    (face,) = aligner(PHOTO)
    assert np.isfinite(face.landmarks).all()
    assert not np.array_equal(face.landmarks, face_at(20, 30, 50).landmarks)
