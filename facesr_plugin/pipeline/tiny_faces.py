"""Points of tiny faces, from which they are aligned, by a network that was trained on faces of that size.

A detector's five points are coarse on a face of 16 pixels. JASRNet finds 68 (or as trained) in a first crop that is
made with them; of its points come better five. Of a larger face it would see less than the detector does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from facesr_plugin.ops.affine import invert, transform
from facesr_plugin.ops.align import crop_face
from facesr_plugin.ops.landmark import five_points
from facesr_plugin.pipeline.face import Face
from facesr_plugin.pipeline.landmark_heads import HEADS, Framing, Head

_TIMES_INPUT = 2  # faces up to this many times the network's input are tiny by default


class TinyFaceAligner:
    """A detector whose tiny faces have the points of a landmark network.

    Args:
        find_faces: Maps ``(H, W, 3)`` uint8 RGB to its faces.
        head: Landmark network.
        framing: What it wants to see, with its ``side``.
        below: Faces of fewer pixels are tiny (longer side of the box); by default of twice the network's input.

    Raises:
        ValueError: If ``below`` is not positive, or the network's layout does not hold eyes, nose and mouth corners.
    """

    def __init__(
        self,
        find_faces: Callable[[np.ndarray], list[Face]],
        head: Head,
        framing: Framing,
        below: float | None = None,
    ) -> None:
        if below is not None and not below > 0:
            raise ValueError(f"below must be a positive number of pixels, got {below}")
        five_points(head(np.zeros((1, framing.side, framing.side, 3), np.uint8)).points)  # refuses other layouts
        self._find_faces = find_faces
        self._head = head
        self._framing = framing
        self.below = _TIMES_INPUT * framing.side if below is None else below

    def __call__(self, photo: np.ndarray) -> list[Face]:
        """Return the faces of ``(H, W, 3)`` uint8 RGB, in the detector's order.

        A face that lies so far outside that it cannot be cut keeps the detector's points, which its ``note`` says.
        """
        faces = self._find_faces(photo)
        return [self._refine(photo, face) if face.size < self.below else face for face in faces]

    def _refine(self, photo: np.ndarray, face: Face) -> Face:
        try:
            matrix = self._framing.matrix(face.landmarks)
            crop = crop_face(photo, matrix, self._framing.side)
        except ValueError as error:
            return replace(face, note=f"aligned by the detector's points: {error}")
        points = five_points(self._head(crop[None]).points[0].astype(np.float64))
        return replace(face, landmarks=transform(points, invert(matrix)))


def align_tiny_faces(
    find_faces: Callable[[np.ndarray], list[Face]],
    weights: str | os.PathLike,
    device: torch.device,
    below: float | None = None,
) -> TinyFaceAligner:
    """Give a detector's tiny faces the points of the JASRNet in a file; see ``TinyFaceAligner``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds another network, or one of a layout without the five points.
    """
    kind = HEADS["jasrnet"]
    head = kind.load(weights, device)
    return TinyFaceAligner(find_faces, head, head.framing or kind.framing, below)
