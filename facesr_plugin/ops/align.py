"""Cut an aligned face out of a photo, touching its surroundings only.

What differs from the released whole-photo program: beyond the photo the picture is mirrored instead of black, a face
that is at least twice as large as the crop is first reduced by area (the released warp aliases), and the crop is
rounded to 8 bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

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

_TAPS_PX = 3
_LARGEST_WINDOW = 4  # times the photo's longer side: farther out is a mistake in the points


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


def ffhq_matrix(points: np.ndarray, side: int) -> np.ndarray:
    """Return the 2x3 similarity from a photo to the FFHQ crop of ``side`` pixels.

    Args:
        points: ``(5, 2)`` (x, y) in photo pixels, pixel centres at integers; order of ``FFHQ_TEMPLATE``.
        side: Of the crop.

    Raises:
        ValueError: If the points coincide or are not finite.
    """
    return rescale_target(fit_similarity(points, np.array(FFHQ_TEMPLATE)), side / FFHQ_SIZE)


def bounds(matrix: np.ndarray, side: int, margin: int = 0) -> Region:
    """Return the pixels that a square of ``side`` pixels covers after ``matrix``, and ``margin`` about them."""
    end = side - 0.5
    corners = transform([[-0.5, -0.5], [end, -0.5], [-0.5, end], [end, end]], matrix)
    (left, top), (right, bottom) = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    return Region(int(top) - margin, int(bottom) + 1 + margin, int(left) - margin, int(right) + 1 + margin)


def crop_face(photo: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Cut an aligned face out.

    Args:
        photo: ``(H, W, 3)`` uint8 RGB.
        matrix: From the photo to the crop.
        side: Of the crop, in pixels.

    Returns:
        ``(side, side, 3)`` uint8 RGB.

    Raises:
        ValueError: If the face's centre lies beside the photo, or the face is far larger than it.
    """
    region = bounds(invert(matrix), side, _TAPS_PX)
    _check_region(region, photo.shape[:2])
    inside = region.within(photo.shape[:2])
    window = photo[inside.top : inside.bottom, inside.left : inside.right]
    pad = (inside.top - region.top, region.bottom - inside.bottom, inside.left - region.left)
    window = cv2.copyMakeBorder(window, *pad, region.right - inside.right, cv2.BORDER_REFLECT_101)
    window, matrix = reduce(window, np.column_stack([matrix[:, :2], transform([region.left, region.top], matrix)]))
    return np.rint(warp_cubic(window, matrix, (side, side))).astype(np.uint8)


def _check_region(region: Region, size: tuple[int, int]) -> None:
    height, width = size
    x, y = (region.left + region.right - 1) / 2, (region.top + region.bottom - 1) / 2
    longest = max(region.bottom - region.top, region.right - region.left)
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1) or longest > _LARGEST_WINDOW * max(size):
        raise ValueError(
            f"face must lie in the photo of {width} x {height} pixels, got points about ({x:.0f}, {y:.0f}) that ask "
            f"for {longest} pixels. Check the landmarks."
        )


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
