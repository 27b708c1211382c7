"""From a photo and five points to the crop that a system takes.

``ffhq`` is the published alignment of SPARNetHD: a similarity to the FFHQ template, warped with Catmull-Rom. ``loose``
is SPARNet's: an upright square about the face, as an enlarged detector's box, without rotation.
What differs from the released code: beyond the photo the picture is mirrored instead of black, a face that is more than
twice as large as the crop is first reduced by area (the released warp aliases), and the crop is rounded to 8 bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.cards import SystemCard
from facesr_plugin.ops.affine import (
    FFHQ_SIZE,
    FFHQ_TEMPLATE,
    fit_similarity,
    invert,
    rescale_source,
    rescale_target,
    scale_of,
    transform,
    warp_cubic,
)

_LOOSE_SIDE, _LOOSE_DOWN = 3.6, 0.32  # side in distances, centre below the eyes in parts of eyes to mouth
_TAPS_PX = 3


class Region(NamedTuple):
    """Pixels ``[top:bottom, left:right]``; they may reach beyond the photo."""

    top: int
    bottom: int
    left: int
    right: int

    def within(self, size: tuple[int, int]) -> Region:
        """Return the part inside a photo of ``(height, width)``; it is empty where ``bottom <= top``."""
        height, width = size
        top, left = max(self.top, 0), max(self.left, 0)
        return Region(top, max(min(self.bottom, height), top), left, max(min(self.right, width), left))


def alignment(landmarks: np.ndarray, card: SystemCard) -> np.ndarray:
    """Return the 2x3 matrix from the photo to the card's crop of side ``lq_size``.

    Args:
        landmarks: ``(5, 2)`` (x, y) in photo pixels; order of ``Face``.
        card: Of the system that shall restore the face.

    Raises:
        ValueError: If the points do not determine it.
    """
    return _FRAMINGS[card.framing](landmarks, card.lq_size)


def _ffhq(landmarks: np.ndarray, side: int) -> np.ndarray:
    return rescale_target(fit_similarity(landmarks, np.array(FFHQ_TEMPLATE)), side / FFHQ_SIZE)


def _loose(landmarks: np.ndarray, side: int) -> np.ndarray:
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    distance = max(np.hypot(*(landmarks[1] - landmarks[0])), 0.9 * np.hypot(*(mouth - eyes)))
    if distance == 0:
        raise ValueError("points must not coincide")
    scale = side / (_LOOSE_SIDE * distance)
    centre = eyes + _LOOSE_DOWN * (mouth - eyes)
    return np.column_stack([scale * np.eye(2), (side - 1) / 2 - scale * centre])


_FRAMINGS = {"ffhq": _ffhq, "loose": _loose}


def bounds(matrix: np.ndarray, side: int, margin: int = 0) -> Region:
    """Return the pixels that a square of ``side`` pixels covers after ``matrix``, and ``margin`` about them."""
    end = side - 0.5
    corners = transform([[-0.5, -0.5], [end, -0.5], [-0.5, end], [end, end]], matrix)
    (left, top), (right, bottom) = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    return Region(int(top) - margin, int(bottom) + 1 + margin, int(left) - margin, int(right) + 1 + margin)


def crop_face(photo: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Cut an aligned face out; only its surroundings are touched.

    Args:
        photo: ``(H, W, 3)`` uint8 RGB.
        matrix: From the photo to the crop.
        side: Of the crop, in pixels.

    Returns:
        ``(side, side, 3)`` uint8 RGB.

    Raises:
        ValueError: If the face lies beside the photo.
    """
    region = bounds(invert(matrix), side, _TAPS_PX)
    inside = region.within(photo.shape[:2])
    if inside.bottom <= inside.top or inside.right <= inside.left:
        raise ValueError("face must lie in the photo, got points beside it")
    matrix = matrix + np.column_stack([np.zeros((2, 2)), matrix[:, :2] @ [inside.left, inside.top]])
    window = photo[inside.top : inside.bottom, inside.left : inside.right]
    pad = (inside.top - region.top, region.bottom - inside.bottom, inside.left - region.left)
    window = cv2.copyMakeBorder(window, *pad, region.right - inside.right, cv2.BORDER_REFLECT_101)
    matrix = matrix - np.column_stack([np.zeros((2, 2)), matrix[:, :2] @ [pad[2], pad[0]]])
    window, matrix = reduce(window, matrix)
    return np.rint(warp_cubic(window, matrix, (side, side))).astype(np.uint8)


def reduce(image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce an image by area as far as a whole factor goes, if ``matrix`` shrinks it to half or less.

    Returns:
        The smaller image (cut to multiples of the factor on the right and below) and the matrix from it.
    """
    factor = math.floor(1 / scale_of(matrix) + 1e-6)
    if factor < 2:
        return image, matrix
    height, width = (max(length // factor, 1) for length in image.shape[:2])
    image = np.ascontiguousarray(image[: height * factor, : width * factor])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), rescale_source(matrix, 1 / factor)
