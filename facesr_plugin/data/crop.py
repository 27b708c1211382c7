"""From a photograph to a square face: the windows that ``facesr prepare faces`` can cut.

``none`` takes square images as they are; ``center`` the largest centred square; ``celeba178`` the centred 178 x 178
square of CelebA's aligned images; ``box:MARGIN`` a square about the face's box or points, whose side is the box's
longer side enlarged by MARGIN at each end (beyond its border the image is mirrored). ``dic`` is the box itself, as DIC
slices it: columns x1 to x2 - 1, rows y1 to y2 - 1; such boxes are square, of whole pixels and inside their image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from facesr_plugin.data.transforms import resize, resize_landmarks

CROPS = ("none", "center", "celeba178", "dic", "box:MARGIN")
_CELEBA_SIDE = 178
_LARGEST_BOX = 4  # times the image's longer side: farther out is a mistake in the annotation


class Crop(NamedTuple):
    """How to cut.

    Args:
        kind: ``none``, ``center``, ``celeba178``, ``dic`` or ``box``.
        margin: Of ``box``, as a part of its longer side.
    """

    kind: str
    margin: float = 0.0


class Window(NamedTuple):
    """A square in pixels of the source image; it may reach beyond it."""

    left: int
    top: int
    side: int


def parse_crop(text: str) -> Crop:
    """Parse ``none``, ``center``, ``celeba178``, ``dic`` or ``box:MARGIN`` (such as ``box:0.3``).

    Raises:
        ValueError: If the text is none of these, or MARGIN is not a number from 0 to 5.
    """
    kind, colon, margin = text.partition(":")
    if kind in ("none", "center", "celeba178", "dic") and not colon:
        return Crop(kind)
    if kind == "box" and colon:
        try:
            value = float(margin)
        except ValueError:
            value = math.nan
        if 0 <= value <= 5:
            return Crop("box", value)
        raise ValueError(f"MARGIN of box:MARGIN must be a number from 0 to 5, got {margin!r}")
    raise ValueError(f"crop must be one of {', '.join(CROPS)}, got {text!r}")


def find_window(size: tuple[int, int], crop: Crop, box: np.ndarray | None) -> Window:
    """Return the square to cut.

    Args:
        size: ``(height, width)`` of the image.
        crop: How.
        box: x1 y1 x2 y2 in pixels, pixel centres at integers; for ``box`` and ``dic`` only.

    Raises:
        ValueError: If the image or its box is not fit for this crop.
    """
    return _WINDOWS[crop.kind](size, crop, box)


def _whole(size: tuple[int, int], _crop: Crop, _box: np.ndarray | None) -> Window:
    height, width = size
    if height != width:
        raise ValueError(f"image must be square, got {width} x {height} pixels. Choose a --crop.")
    return Window(0, 0, width)


def _centred(size: tuple[int, int], side: int) -> Window:
    """Centre a square as torchvision does: halves go to the even number."""
    height, width = size
    return Window(round((width - side) / 2), round((height - side) / 2), side)


def _center(size: tuple[int, int], _crop: Crop, _box: np.ndarray | None) -> Window:
    return _centred(size, min(size))


def _celeba(size: tuple[int, int], _crop: Crop, _box: np.ndarray | None) -> Window:
    height, width = size
    if min(size) < _CELEBA_SIDE:
        raise ValueError(f"image must be at least 178 x 178 for celeba178, got {width} x {height} pixels")
    return _centred(size, _CELEBA_SIDE)


def _around_box(size: tuple[int, int], crop: Crop, box: np.ndarray | None) -> Window:
    height, width = size
    if box is None:
        raise ValueError("image has no landmarks, which the crop box needs")
    x1, y1, x2, y2 = (float(value) for value in box)
    side = round(max(x2 - x1, y2 - y1) * (1 + 2 * crop.margin))
    left = math.floor((x1 + x2 - side) / 2 + 1)
    top = math.floor((y1 + y2 - side) / 2 + 1)
    beside = left >= width or top >= height or left + side <= 0 or top + side <= 0
    if not 1 <= side <= _LARGEST_BOX * max(size) or beside:
        raise ValueError(f"box {[x1, y1, x2, y2]} does not fit an image of {width} x {height} pixels")
    return Window(left, top, side)


def _box_itself(size: tuple[int, int], _crop: Crop, box: np.ndarray | None) -> Window:
    height, width = size
    if box is None:
        raise ValueError("image has no landmarks with a box, which the crop dic needs")
    x1, y1, x2, y2 = (float(value) for value in box)
    inside = x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height
    if not inside or x2 - x1 < 1 or x2 - x1 != y2 - y1 or not (x1.is_integer() and y1.is_integer()):
        raise ValueError(
            f"box must be square, of whole pixels and inside the image of {width} x {height} pixels for dic, got "
            f"{[x1, y1, x2, y2]}. Choose --crop box:MARGIN."
        )
    return Window(int(x1), int(y1), int(x2 - x1))


_WINDOWS = {"dic": _box_itself, "none": _whole, "center": _center, "celeba178": _celeba, "box": _around_box}


def cut(image: np.ndarray, window: Window, size: int, kernel: str) -> np.ndarray:
    """Cut a window out and resize it.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        window: What to cut; beyond its border the image is mirrored.
        size: Side of the result.
        kernel: ``bicubic`` or ``bilinear``, Pillow's.

    Returns:
        ``(size, size, 3)`` uint8 RGB.
    """
    rows = _mirrored(window.top, window.side, image.shape[0])
    columns = _mirrored(window.left, window.side, image.shape[1])
    return resize(np.ascontiguousarray(image[rows][:, columns]), (size, size), kernel)


def _mirrored(first: int, count: int, length: int) -> np.ndarray:
    """Return the indices ``first, first + 1, ...`` reflected into ``0 .. length - 1`` without repeating the border."""
    period = max(2 * (length - 1), 1)
    places = np.arange(first, first + count) % period
    return np.minimum(places, period - places)


def cut_landmarks(points: np.ndarray, window: Window, size: int) -> np.ndarray:
    """Move ``(K, 2)`` points (x, y) as ``cut`` moves the image; pixel centres at integers in both."""
    shifted = points - np.array([window.left, window.top], dtype=points.dtype)
    return resize_landmarks(shifted, (window.side, window.side), (size, size))
