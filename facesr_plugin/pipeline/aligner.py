"""From five points to the matrix of the crop that a system takes.

``ffhq`` is the published alignment of SPARNetHD: a similarity to the FFHQ template. ``loose`` is SPARNet's: an upright
square about the face, as an enlarged detector's box, without rotation. ``celeba`` is the central 178 x 178 pixels of
aligned CelebA (Liu et al., ICCV 2015), by a similarity to the mean points there. ``box`` is JASRNet's: the box
about the points of a face, enlarged by a fifth on each side, by a similarity to the mean points there.
``ops.align.crop_face`` cuts the crop.
"""

from __future__ import annotations

import numpy as np

from facesr_plugin.cards import SystemCard
from facesr_plugin.ops.affine import fit_similarity
from facesr_plugin.ops.align import ffhq_matrix

_LOOSE_SIDE, _LOOSE_DOWN = 3.6, 0.32  # side in distances, centre below the eyes in parts of eyes to mouth

_CELEBA_SIDE = 178
# Mean points in the central square, to about a pixel; order of ``Face``.
_CELEBA_TEMPLATE = np.array([(69.7, 91.5), (107.9, 91.6), (88.8, 114.7), (72.5, 131.8), (105.5, 132.0)])
# Parts of the side; means of 2546 faces with 68 points, made symmetric. Other layouts lack the jaw and fit roughly.
_BOX_TEMPLATE = np.array([(0.346, 0.266), (0.654, 0.266), (0.5, 0.458), (0.362, 0.603), (0.638, 0.603)])


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


def _celeba(landmarks: np.ndarray, side: int) -> np.ndarray:
    return fit_similarity(landmarks, (_CELEBA_TEMPLATE + 0.5) * side / _CELEBA_SIDE - 0.5)


def _box(landmarks: np.ndarray, side: int) -> np.ndarray:
    return fit_similarity(landmarks, _BOX_TEMPLATE * side - 0.5)


_FRAMINGS = {"box": _box, "celeba": _celeba, "ffhq": ffhq_matrix, "loose": _loose}
