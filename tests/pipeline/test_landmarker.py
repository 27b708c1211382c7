import numpy as np
import pytest

from facesr_plugin.ops.affine import FFHQ_TEMPLATE, transform
from facesr_plugin.pipeline.face import Face
from facesr_plugin.pipeline.landmark_heads import Framing, Points
from facesr_plugin.pipeline.landmarker import Landmarker

FRAMING = Framing(64, 0.25, 0.5, ready_side=48)
TEMPLATE = np.array(FFHQ_TEMPLATE)
IN_CROP = transform(TEMPLATE, FRAMING.matrix(TEMPLATE))
PICTURE = np.zeros((300, 400, 3), np.uint8)


def face(scale: float, left: float, top: float, score: float = 0.9) -> Face:
    points = transform(TEMPLATE, np.array([[scale, -0.1 * scale, left], [0.1 * scale, scale, top]]))
    box = np.concatenate([points.min(0), points.max(0)])
    return Face(points, box, score)


SMALL, LARGE = face(0.2, 20, 30), face(0.4, 150, 60, 0.8)


class Head:
    """Sees the five points where the framing has put them."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, crops: np.ndarray) -> Points:
        assert crops.dtype == np.uint8
        self.batches.append(len(crops))
        return Points(np.repeat(IN_CROP[None], len(crops), 0), np.linspace(0, 1, 5)[None].repeat(len(crops), 0))


def test_landmarker_maps_points_back_to_the_photo() -> None:
    (faces,) = Landmarker(Head(), FRAMING, lambda _: [SMALL, LARGE])([PICTURE])
    for found, given in zip(faces, [SMALL, LARGE], strict=True):
        assert np.allclose(found.points, given.landmarks, atol=1e-3)
        assert np.allclose(found.box, given.box)
        assert found.visible.all()
        assert found.score == 0.5
        assert found.points.dtype == np.float32


def test_landmarker_takes_the_largest_face_only() -> None:
    (faces,) = Landmarker(Head(), FRAMING, lambda _: [SMALL, LARGE], only_largest=True)([PICTURE])
    assert len(faces) == 1
    assert np.allclose(faces[0].points, LARGE.landmarks, atol=1e-3)


def test_landmarker_keeps_the_order_over_pictures_and_batches() -> None:
    head = Head()
    counts = [9, 0, 9, 1]
    sizes = iter(counts)
    found = Landmarker(head, FRAMING, lambda _: [SMALL] * next(sizes))([PICTURE] * 4)
    assert [len(faces) if isinstance(faces, list) else faces for faces in found] == [9, "no face was found", 9, 1]
    assert head.batches == [16, 3]


def test_landmarker_takes_aligned_faces_as_they_are() -> None:
    found = Landmarker(Head(), FRAMING)([np.zeros((96, 96, 3), np.uint8), PICTURE])
    assert np.allclose(found[0][0].points, (IN_CROP + 0.5) * 2 - 0.5, atol=1e-4)
    assert found[0][0].box is None
    assert found[1].startswith("an aligned face must be square, got 400 x 300")


def test_landmarker_marks_points_outside_and_drops_faces_that_are() -> None:
    half = face(0.4, 300, 60)
    (faces,) = Landmarker(Head(), FRAMING, lambda _: [half])([PICTURE])
    x = half.landmarks[:, 0]
    assert faces[0].visible.tolist() == (x < 399.5).tolist()
    assert not faces[0].visible.all()

    def far(crops: np.ndarray) -> Points:
        return Points(np.full((len(crops), 5, 2), 9000.0), np.zeros((len(crops), 5)))

    assert Landmarker(far, FRAMING, lambda _: [SMALL])([PICTURE]) == [
        "most points of its faces lie outside the picture"
    ]


@pytest.mark.parametrize("points", [np.zeros((5, 2)), TEMPLATE + 10_000])
def test_landmarker_gives_the_reason_where_a_face_cannot_be_cut(points: np.ndarray) -> None:
    (reason,) = Landmarker(Head(), FRAMING, lambda _: [Face(points)])([PICTURE])
    assert "points must not coincide" in reason or "face must lie in the photo" in reason


def test_landmarker_leaves_out_a_face_that_cannot_be_cut() -> None:
    beside = Face(TEMPLATE + 10_000)
    (faces,) = Landmarker(Head(), FRAMING, lambda _: [beside, SMALL])([PICTURE])
    assert len(faces) == 1
    assert np.allclose(faces[0].points, SMALL.landmarks, atol=1e-3)
