"""Normalised error of landmarks, its cumulative curve and the area below it, and the failure rate.

The error of a face is the mean distance of its visible points from the reference, divided by a length of the reference:

- ``inter_ocular``: between the outer eye corners (49, 51, 68 and 98 points);
- ``inter_pupil``: between the centres of the eyes (all layouts);
- ``box``: sqrt(width * height) of the given box, else of the box about the visible points of the reference;
- ``diagonal``: sqrt(width^2 + height^2) of the same box;
- ``image``: sqrt(width * height) of the image;
- ``width``: of the box about the visible points of the reference;
- ``dic_eye_outer_width``, ``dic_eye_dist``, ``dic_inter_ocular`` (68 points): as DIC's evaluation has them, which
  counts from 1 and so takes points beside the corners of the eyes, the first two along x alone. ``inter_ocular`` and
  ``inter_pupil`` are what they were meant to be.

49 and 51 points are iBUG's 68 without jaw and, of 49, without the inner mouth corners. JASRNet's protocol is
``inter_ocular`` for 49, 51 and 68 points, ``box`` for 19 and 194. The area under the curve is exact; the released code
approximates it with 2000 thresholds (and never sums it up over images).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from facesr_plugin.registry import METRIC_REGISTRY

OUTER_EYE_CORNERS = {49: ([19], [28]), 51: ([19], [28]), 68: ([36], [45]), 98: ([60], [72])}
_DIC_CORNERS = {68: ([37], [46])}  # of an index that counts from 0: beside the corners
_DIC_EYES = {68: ([37, 40], [43, 46])}
_EYES = {  # points whose mean is the centre of an eye
    5: ([0], [1]),
    19: ([7], [10]),
    49: (range(19, 25), range(25, 31)),
    51: (range(19, 25), range(25, 31)),
    68: (range(36, 42), range(42, 48)),
    98: ((60, 61, 63, 64, 65, 67), (68, 69, 71, 72, 73, 75)),
    194: (range(114, 134), range(134, 154)),
}


@METRIC_REGISTRY.register()
def calculate_nme(points: np.ndarray, reference: np.ndarray, *, normaliser: str = "inter_ocular", **more: Any) -> float:
    """Return the mean over faces of the normalised error, as a fraction (0.05 is 5 %).

    Args:
        points: Found, ``(N, K, 2)`` (x, y).
        reference: True, same shape and frame; NaN for a point that is not known.
        normaliser: See the top of the file.
        **more: ``visible``, ``boxes``, ``image_size`` of ``landmark_errors``; others are ignored.

    Raises:
        ValueError: See ``landmark_errors``.
    """
    return float(_errors(points, reference, normaliser, more).mean())


@METRIC_REGISTRY.register()
def calculate_nrmse(points: np.ndarray, reference: np.ndarray, *, normaliser: str = "width", **more: Any) -> float:
    """Return the mean over faces of the root mean square distance of the points, normalised, as a fraction.

    DIC's evaluation has it with ``width``, ``dic_eye_outer_width`` and ``dic_eye_dist``.

    Args:
        points: As in ``calculate_nme``.
        reference: As in ``calculate_nme``.
        normaliser: See the top of the file.
        **more: As in ``calculate_nme``.

    Raises:
        ValueError: See ``landmark_errors``.
    """
    return float(_errors(points, reference, normaliser, more, root_mean_square=True).mean())


@METRIC_REGISTRY.register()
def calculate_landmark_auc(
    points: np.ndarray, reference: np.ndarray, *, normaliser: str = "inter_ocular", limit: float = 0.08, **more: Any
) -> float:
    """Return the area under the cumulative distribution of the errors of faces from 0 to ``limit``, in [0, 1].

    Args:
        points: As in ``calculate_nme``.
        reference: As in ``calculate_nme``.
        normaliser: As in ``calculate_nme``.
        limit: Error at which the curve ends, as a fraction.
        **more: As in ``calculate_nme``.

    Raises:
        ValueError: See ``landmark_errors``; if ``limit`` is not positive.
    """
    _check_limit(limit)
    errors = _errors(points, reference, normaliser, more)
    return float(np.maximum(0, 1 - errors / limit).mean())  # the integral of the step function, face by face


@METRIC_REGISTRY.register()
def calculate_landmark_failure_rate(
    points: np.ndarray, reference: np.ndarray, *, normaliser: str = "inter_ocular", limit: float = 0.08, **more: Any
) -> float:
    """Return the part of the faces whose error is ``limit`` or more, in [0, 1].

    Args:
        points: As in ``calculate_nme``.
        reference: As in ``calculate_nme``.
        normaliser: As in ``calculate_nme``.
        limit: Smallest error of a failure, as a fraction.
        **more: As in ``calculate_nme``.

    Raises:
        ValueError: See ``landmark_errors``; if ``limit`` is not positive.
    """
    _check_limit(limit)
    return float((_errors(points, reference, normaliser, more) >= limit).mean())


class _Reference(NamedTuple):
    """The truth of N faces."""

    points: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray | None
    image_size: np.ndarray | None


def landmark_errors(
    points: np.ndarray,
    reference: np.ndarray,
    *,
    normaliser: str = "inter_ocular",
    visible: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    image_size: np.ndarray | None = None,
    root_mean_square: bool = False,
) -> np.ndarray:
    """Return the normalised error of each face, ``(N)`` float64.

    Args:
        points: Found, ``(N, K, 2)`` (x, y).
        reference: True, same shape and frame; NaN for a point that is not known.
        normaliser: See the top of the file.
        visible: ``(N, K)`` bool; other points do not count, nor do unknown ones. All by default.
        boxes: ``(N, 4)`` x1 y1 x2 y2 in the same frame.
        image_size: ``(N, 2)`` height and width.
        root_mean_square: Of the distances of a face, take the root mean square instead of the mean.

    Raises:
        ValueError: If shapes do not fit, there is no face, a face has no visible point, the normaliser is unknown,
            not known for this layout, or lacks what it needs, or a length is not positive.
    """
    if normaliser not in _LENGTHS:
        raise ValueError(f"normaliser must be one of {', '.join(_LENGTHS)}, got {normaliser!r}")
    points, reference = np.asarray(points, np.float64), np.asarray(reference, np.float64)
    if points.shape != reference.shape or points.ndim != 3 or points.shape[2] != 2 or not len(points):
        raise ValueError(
            f"points and reference must both have shape (N, K, 2), N >= 1, got {points.shape} and {reference.shape}"
        )
    seen = _find_visible(reference, visible)
    lengths = _LENGTHS[normaliser](_Reference(reference, seen, boxes, image_size))
    if lengths.shape != (len(points),) or not (lengths > 0).all():
        raise ValueError(f"normaliser {normaliser} must be one positive length per face. Check the reference.")
    distances = np.linalg.norm(np.where(seen[..., None], points - reference, 0), axis=-1)
    if root_mean_square:
        return np.sqrt((distances**2).sum(1) / seen.sum(1)) / lengths
    return distances.sum(1) / seen.sum(1) / lengths


def ced_curve(errors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the cumulative error distribution: the part of the faces with an error below each threshold.

    Args:
        errors: ``(N)`` of ``landmark_errors``, at least one.
        thresholds: ``(T)``, any order.

    Returns:
        ``(T)`` float64 in [0, 1].

    Raises:
        ValueError: If ``errors`` is not ``(N)`` or empty.
    """
    errors = np.asarray(errors, np.float64)
    if errors.ndim != 1 or not len(errors):
        raise ValueError(f"errors must have shape (N), N >= 1, got {errors.shape}")
    return np.searchsorted(np.sort(errors), thresholds, side="left") / len(errors)


def _errors(
    points: np.ndarray, reference: np.ndarray, normaliser: str, more: dict[str, Any], **options: bool
) -> np.ndarray:
    known = {name: more[name] for name in ("visible", "boxes", "image_size") if name in more}
    return landmark_errors(points, reference, normaliser=normaliser, **known, **options)


def _find_visible(reference: np.ndarray, visible: np.ndarray | None) -> np.ndarray:
    seen = np.isfinite(reference).all(-1)
    if visible is not None:
        visible = np.asarray(visible, bool)
        if visible.shape != seen.shape:
            raise ValueError(f"visible must have shape {seen.shape}, got {visible.shape}")
        seen &= visible
    empty = np.flatnonzero(~seen.any(1))
    if len(empty):
        raise ValueError(f"faces must have a visible point each, got none in face {empty[0]}")
    return seen


def _inter_ocular(reference: _Reference) -> np.ndarray:
    return _norms(_between(reference, OUTER_EYE_CORNERS, "inter_ocular", "both outer eye corners"))


def _inter_pupil(reference: _Reference) -> np.ndarray:
    return _norms(_between(reference, _EYES, "inter_pupil", "all points of both eyes"))


def _dic_eye_outer_width(reference: _Reference) -> np.ndarray:
    return _between(reference, _DIC_CORNERS, "dic_eye_outer_width", "two points of the eyes")[:, 0]


def _dic_eye_dist(reference: _Reference) -> np.ndarray:
    return _between(reference, _DIC_EYES, "dic_eye_dist", "four points of the eyes")[:, 0]


def _dic_inter_ocular(reference: _Reference) -> np.ndarray:
    return _norms(_between(reference, _DIC_CORNERS, "dic_inter_ocular", "two points of the eyes"))


def _between(
    reference: _Reference, table: dict[int, tuple[Sequence[int], Sequence[int]]], name: str, needed: str
) -> np.ndarray:
    """From the mean of a group of points to that of another, ``(N, 2)``."""
    count = reference.points.shape[1]
    if count not in table:
        known = ", ".join(map(str, table))
        raise ValueError(f"{name} needs {needed}, known of {known} points, got {count} points. Use box.")
    left, right = (list(group) for group in table[count])
    hidden = np.flatnonzero(~reference.visible[:, left + right].all(1))
    if len(hidden):
        raise ValueError(f"{name} needs {needed}, which are not visible in face {hidden[0]}. Use box.")
    return reference.points[:, right].mean(1) - reference.points[:, left].mean(1)


def _norms(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=-1)


def _width(reference: _Reference) -> np.ndarray:
    return _box_sides(reference._replace(boxes=None))[:, 0]


def _box(reference: _Reference) -> np.ndarray:
    return np.sqrt(_box_sides(reference).prod(1))


def _diagonal(reference: _Reference) -> np.ndarray:
    return np.linalg.norm(_box_sides(reference), axis=1)


def _box_sides(reference: _Reference) -> np.ndarray:
    """Width and height, ``(N, 2)``, of the given box, else of that about the visible points."""
    if reference.boxes is not None:
        boxes = np.asarray(reference.boxes, np.float64)
        return (boxes[:, 2:] - boxes[:, :2]).clip(0)
    seen = reference.visible[..., None]
    low, high = (np.where(seen, reference.points, sign * np.inf) for sign in (1, -1))
    return high.max(1) - low.min(1)


def _image(reference: _Reference) -> np.ndarray:
    if reference.image_size is None:
        raise ValueError("normaliser image needs image_size (N, 2)")
    return np.sqrt(np.asarray(reference.image_size, np.float64).prod(1))


_LENGTHS: dict[str, Callable[[_Reference], np.ndarray]] = {
    "inter_ocular": _inter_ocular,
    "inter_pupil": _inter_pupil,
    "box": _box,
    "diagonal": _diagonal,
    "image": _image,
    "width": _width,
    "dic_eye_outer_width": _dic_eye_outer_width,
    "dic_eye_dist": _dic_eye_dist,
    "dic_inter_ocular": _dic_inter_ocular,
}


def _check_limit(limit: float) -> None:
    if limit <= 0:
        raise ValueError(f"limit must be positive, got {limit}")
