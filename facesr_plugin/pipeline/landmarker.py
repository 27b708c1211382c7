"""Landmarks of the faces in pictures: find the faces, frame each one as the network wants it, map its points back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from facesr_plugin.ops.affine import invert, transform
from facesr_plugin.ops.align import crop_face
from facesr_plugin.pipeline.face import Face
from facesr_plugin.pipeline.landmark_heads import Crop, Framing, Points

T = TypeVar("T")
_BATCH = 16


class LandmarkFace(NamedTuple):
    """One face; coordinates are pixels of the picture, pixel centres at integers.

    Args:
        points: ``(K, 2)`` float32 (x, y).
        visible: ``(K)`` bool: inside the picture.
        score: Mean over the points of the heatmap's peak; comparable within one network.
        box: ``(4,)`` float32 of the detector, None for an aligned face.
    """

    points: np.ndarray
    visible: np.ndarray
    score: float
    box: np.ndarray | None


class Landmarker:
    """Find the landmarks of pictures.

    Args:
        head: Maps crops ``(N, S, S, 3)`` uint8 RGB to their ``Points``.
        framing: What the head wants to see.
        find_faces: Maps a picture to its faces, the best first; None: each picture is one aligned face.
        only_largest: Take the largest face of a picture only.
    """

    def __init__(
        self,
        head: Callable[[np.ndarray], Points],
        framing: Framing,
        find_faces: Callable[[np.ndarray], list[Face]] | None = None,
        *,
        only_largest: bool = False,
    ) -> None:
        self._head = head
        self._framing = framing
        self._find_faces = find_faces
        self._only_largest = only_largest

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[list[LandmarkFace] | str]:
        """Find the landmarks of ``(H, W, 3)`` uint8 RGB pictures.

        Returns:
            For each picture its faces, at least one, the best first; or the reason why there is none. Faces of photos
            of which the centre, or most points, lie outside are left out.
        """
        framed = [self._frame(picture) for picture in pictures]
        crops = [crop.image for faces in framed if not isinstance(faces, str) for crop, _ in faces]
        found = iter(self._run(crops))
        return [
            faces if isinstance(faces, str) else _finish(picture, [(*face, *next(found)) for face in faces])
            for picture, faces in zip(pictures, framed, strict=True)
        ]

    def _frame(self, picture: np.ndarray) -> list[tuple[Crop, Face | None]] | str:
        """Return the crops of a picture, or the reason of the first face if none can be cut."""
        if self._find_faces is None:
            return _tried([lambda: (self._framing.ready(picture), None)])
        faces = self._find_faces(picture)
        if self._only_largest and faces:
            faces = [max(faces, key=lambda face: face.size)]
        return _tried([partial(self._cut, picture, face) for face in faces]) if faces else "no face was found"

    def _cut(self, picture: np.ndarray, face: Face) -> tuple[Crop, Face]:
        matrix = self._framing.matrix(face.landmarks)
        return Crop(crop_face(picture, matrix, self._framing.side), matrix), face

    def _run(self, crops: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for start in range(0, len(crops), _BATCH):
            points, score = self._head(np.stack(crops[start : start + _BATCH]))
            found += zip(points, score, strict=True)
        return found


def _tried(cuts: Sequence[Callable[[], T]]) -> list[T] | str:
    """Return what works, or why the first one does not."""
    done, reasons = [], []
    for cut in cuts:
        try:
            done.append(cut())
        except ValueError as error:
            reasons.append(str(error))
    return done or reasons[0]


def _finish(
    picture: np.ndarray, faces: Sequence[tuple[Crop, Face | None, np.ndarray, np.ndarray]]
) -> list[LandmarkFace] | str:
    height, width = picture.shape[:2]
    done = []
    for crop, face, in_crop, score in faces:
        points = transform(in_crop, invert(crop.matrix)).astype(np.float32)
        visible = ((points >= -0.5) & (points <= [width - 0.5, height - 0.5])).all(-1)
        if 2 * visible.sum() >= len(points):
            box = None if face is None or face.box is None else face.box.astype(np.float32)
            done.append(LandmarkFace(points, visible, round(float(score.mean()), 4), box))
    return done or "most points of its faces lie outside the picture"
