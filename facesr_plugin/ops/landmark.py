"""Index tables of facial landmarks: from one layout to a smaller one, and to the mirrored face.

Layouts go by their number of points: 5 (left eye, right eye, nose tip, left and right mouth corner, as seen in the
picture), 19 (AFLW), 68 (iBUG/300-W), 98 (WFLW) and 194 (Helen). Sources: JASRNet's released code for the mirrored 19,
68 and 194 points (DIC's table of 68 exchanges the corners of each eye instead of the eyes), WFLW's figure of 98 points.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

LAYOUTS = {5: "eyes, nose, mouth corners", 19: "AFLW", 68: "iBUG/300-W", 98: "WFLW", 194: "Helen"}

_PLAIN_OF_98 = {  # first point of 68: points of 98
    0: range(0, 33, 2),  # jaw
    27: range(51, 60),  # nose
    36: (60, 61, 63, 64, 65, 67),  # eyes: WFLW has one more point in the middle of each lid
    42: (68, 69, 71, 72, 73, 75),
    48: range(76, 96),  # mouth
}
_BROWS_OF_98 = {  # first point of 68: upper and lower edge, whose means the 68 points are
    17: ((33, 34, 35, 36, 37), (33, 41, 40, 39, 38)),
    22: ((42, 43, 44, 45, 46), (50, 49, 48, 47, 46)),
}
_FIVE_OF_19 = (7, 10, 13, 15, 17)
_FIVE_OF_68 = ((36, 42), (42, 48), (30, 31), (48, 49), (54, 55))  # ranges whose means they are


def _pairs_of_98() -> np.ndarray:
    """Two points of 98 whose mean is each of the 68, ``(2, 68)``."""
    pairs = np.zeros((2, 68), np.int64)
    for first, points in _PLAIN_OF_98.items():
        pairs[:, first : first + len(points)] = points
    for first, edges in _BROWS_OF_98.items():
        pairs[:, first : first + 5] = edges
    return pairs


_PAIRS_OF_98 = _pairs_of_98()


def points_68(points: np.ndarray) -> np.ndarray:
    """Return the 68 points of iBUG/300-W of the 68, or of the 98 of WFLW.

    Args:
        points: ``(..., K, 2)`` (x, y), any frame.

    Returns:
        ``(..., 68, 2)``; brows are the middle between the two edges that WFLW has.

    Raises:
        ValueError: If K is neither 68 nor 98.
    """
    count = points.shape[-2]
    if count not in (68, 98):
        raise ValueError(f"landmarks must have 68 or 98 points to give 68, got {count}")
    return points if count == 68 else points[..., _PAIRS_OF_98, :].mean(-3)


def five_points(points: np.ndarray) -> np.ndarray:
    """Return eyes, nose tip and mouth corners of 5, 19, 68 or 98 points.

    Args:
        points: ``(..., K, 2)`` (x, y), any frame.

    Returns:
        ``(..., 5, 2)``; an eye is its centre among 19 points, else the mean of the six points about it.

    Raises:
        ValueError: If K is another number.
    """
    count = points.shape[-2]
    if count not in (5, 19, 68, 98):
        raise ValueError(f"landmarks must have 5, 19, 68 or 98 points to give 5, got {count}")
    if count == 5:
        return points
    if count == 19:
        return points[..., _FIVE_OF_19, :]
    points = points_68(points)
    return np.stack([points[..., first:end, :].mean(-2) for first, end in _FIVE_OF_68], axis=-2)


def flip_permutation(num_points: int, released: bool = False) -> np.ndarray:
    """Return which point of the original becomes point k of the mirrored face, ``(K)`` int64; its own inverse.

    Args:
        num_points: K.
        released: The table of DIC's program (68 points): each eye keeps its points, in mirrored order.

    Raises:
        ValueError: If no table is known for this number of points.
    """
    tables = _RELEASED_FLIPS if released else _FLIPS
    if num_points not in tables:
        known = ", ".join(str(number) for number in tables)
        raise ValueError(f"landmarks must have {known} points to be mirrored, got {num_points}. Set use_hflip: false.")
    return tables[num_points].copy()


def _flip(
    num_points: int,
    reversed_ranges: Iterable[tuple[int, int]],
    exchanged: Iterable[tuple[Iterable[int], Iterable[int]]],
) -> np.ndarray:
    """Build a table: points of the half-open ranges in reverse order, pairs of points exchanged, others fixed."""
    table = np.arange(num_points)
    for first, end in reversed_ranges:
        table[first:end] = table[first:end][::-1].copy()
    for left, right in exchanged:
        table[list(left)], table[list(right)] = list(right), list(left)
    return table


_RANGES_OF_68 = ((0, 17), (17, 27), (31, 36), (48, 55), (55, 60), (60, 65), (65, 68))  # all but the eyes
_FLIPS = {
    5: _flip(5, (), [((0, 3), (1, 4))]),
    19: _flip(19, ((0, 6), (6, 12), (12, 15), (15, 18)), ()),
    68: _flip(68, _RANGES_OF_68, [(range(36, 42), (45, 44, 43, 42, 47, 46))]),
    98: _flip(
        98,
        ((0, 33), (55, 60), (76, 83), (83, 88), (88, 93), (93, 96), (96, 98)),
        [(range(33, 42), (46, 45, 44, 43, 42, 50, 49, 48, 47)), (range(60, 68), (72, 71, 70, 69, 68, 75, 74, 73))],
    ),
    194: _flip(
        194,
        ((0, 41), (41, 58), (58, 71), (71, 86), (86, 100), (100, 114)),
        [(range(114, 134), range(134, 154)), (range(154, 174), range(174, 194))],
    ),
}

_RELEASED_FLIPS = {68: _flip(68, _RANGES_OF_68, [((36, 37, 40, 42, 43, 46), (39, 38, 41, 45, 44, 47))])}

_GROUPS = {  # left eye, right eye, nose, mouth, silhouette: half-open ranges
    5: (((0, 1),), ((1, 2),), ((2, 3),), ((3, 4),), ((4, 5),)),  # here each point is a group
    68: (((36, 42),), ((42, 48),), ((27, 36),), ((48, 68),), ((0, 27),)),
    194: (((134, 153), (174, 193)), ((114, 133), (154, 173)), ((41, 57),), ((58, 113),), ((0, 40),)),
}


def group_matrix(num_points: int, whole_contours: bool = False) -> np.ndarray:
    """Return which points make up the five groups that DIC attends to.

    Groups are the left and the right eye, as seen in the picture, nose, mouth and silhouette. With 68 points the brows
    belong to the silhouette, with 194 to the eyes; of 5 points each is a group of its own.

    Args:
        num_points: 5, 68 or 194.
        whole_contours: With 194 points, include the last point of every contour, which the released table leaves out.

    Returns:
        ``(5, num_points)`` float32: 1 for a point of the group, else 0.

    Raises:
        ValueError: If there is no table for this number of points, or ``whole_contours`` changes nothing for it.
    """
    if num_points not in _GROUPS:
        known = ", ".join(str(number) for number in _GROUPS)
        raise ValueError(f"num_landmarks must be one of {known} to be merged into groups, got {num_points}")
    if whole_contours and num_points != 194:
        raise ValueError(f"whole_contours must be false unless num_landmarks is 194, got it with {num_points}")
    matrix = np.zeros((5, num_points), np.float32)
    for row, ranges in zip(matrix, _GROUPS[num_points], strict=True):
        for first, end in ranges:
            row[first : end + whole_contours] = 1
    return matrix
