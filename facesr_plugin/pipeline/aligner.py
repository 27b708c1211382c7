"""From five points to the matrix of the crop that a system takes.

``ffhq`` is the published alignment of SPARNetHD: a similarity to the FFHQ template. ``loose`` is SPARNet's: an upright
square about the face, as an enlarged detector's box, without rotation. ``ops.align.crop_face`` cuts the crop.
"""

from __future__ import annotations

import numpy as np

from facesr_plugin.cards import SystemCard
from facesr_plugin.ops.align import ffhq_matrix

_LOOSE_SIDE, _LOOSE_DOWN = 3.6, 0.32  # side in distances, centre below the eyes in parts of eyes to mouth


def alignment(landmarks: np.ndarray, card: SystemCard) -> np.ndarray:
    """Return the 2x3 matrix from the photo to the card's crop of side ``lq_size``.

    Args:
        landmarks: ``(5, 2)`` (x, y) in photo pixels; order of ``Face``.
        card: Of the system that shall restore the face.

    Raises:
        ValueError: If the points do not determine it.
    """
    return _FRAMINGS[card.framing](landmarks, card.lq_size)


def _loose(landmarks: np.ndarray, side: int) -> np.ndarray:
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    distance = max(np.hypot(*(landmarks[1] - landmarks[0])), 0.9 * np.hypot(*(mouth - eyes)))
    if distance == 0:
        raise ValueError("points must not coincide")
    scale = side / (_LOOSE_SIDE * distance)
    centre = eyes + _LOOSE_DOWN * (mouth - eyes)
    return np.column_stack([scale * np.eye(2), (side - 1) / 2 - scale * centre])


_FRAMINGS = {"ffhq": ffhq_matrix, "loose": _loose}
