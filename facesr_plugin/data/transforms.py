"""Pure functions that make training pairs: reduction, zoom, mirror, turns, distortion; images with their landmarks.

Sources: the released code of SPARNet and, for turns and distortion, of DIC, as measured (Pillow on 8-bit RGB
throughout). DIC's does not turn the landmarks. The zoom differs from SPARNet's:
``official`` draws the window's place for the original size and applies it to the enlarged image, so the right and
bottom parts are never reached, and leaves the image alone if the enlargement rounds to nothing;
``corrected`` places the same window anywhere in the enlarged image and always resizes. Random values are
drawn first (``draw_*``) and passed in.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from facesr_plugin.cards import Reduction
from facesr_plugin.ops.landmark import flip_permutation

ZOOM_MODES = ("official", "corrected")
_AREA_RANGE = (0.7, 1.0)
_ASPECT_RANGE = (3 / 4, 4 / 3)
_TRIES = 10
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class Patch(NamedTuple):
    """A rectangle in pixels of an image."""

    left: int
    top: int
    width: int
    height: int


class ZoomDraw(NamedTuple):
    """Random values of one zoom: the enlargement, and the window to cut out of the enlarged image, in its pixels."""

    factor: float
    top: int
    left: int
    height: int
    width: int


def resize(image: np.ndarray, size: tuple[int, int], kernel: str = "bicubic") -> np.ndarray:
    """Resize with Pillow (antialiased).

    Args:
        image: ``(h, w, 3)`` uint8 RGB.
        size: ``(height, width)``.
        kernel: ``bicubic`` or ``bilinear``.
    """
    if image.shape[:2] == tuple(size):
        return image
    return np.array(Image.fromarray(image).resize((size[1], size[0]), _FILTERS[kernel]))


def make_lq(gt: np.ndarray, scale: int, reduction: Reduction) -> np.ndarray:
    """Return the published small input of a face.

    Args:
        gt: ``(H, W, 3)`` uint8 RGB.
        scale: H and W are multiples of it.
        reduction: Of the system's card.

    Returns:
        ``(H / scale, W / scale, 3)`` uint8 RGB.

    Raises:
        ValueError: If a side is not a multiple of ``scale``, or ``scale`` no power of 2 where it has to be.
    """
    height, width = gt.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"sides of gt must be multiples of scale {scale}, got {height}x{width}")
    for factor in reduction.factors(scale):
        gt = resize(gt, (gt.shape[0] // factor, gt.shape[1] // factor), reduction.kernel)
    return gt


def hflip(image: np.ndarray) -> np.ndarray:
    """Mirror ``(H, W, 3)`` left to right."""
    return np.ascontiguousarray(image[:, ::-1])


def hflip_landmarks(points: np.ndarray, width: int, released: bool = False) -> np.ndarray:
    """Mirror points with their image and give each its new index.

    Args:
        points: ``(K, 2)`` (x, y) in pixels, pixel centres at integers; 68 or 5 points.
        width: Of the image, in pixels.
        released: By DIC's table, which leaves each eye its points.

    Raises:
        ValueError: If the number of points has no table.
    """
    mirrored = points[flip_permutation(len(points), released)]
    mirrored[:, 0] = width - 1 - mirrored[:, 0]
    return mirrored


def draw_turns(rng: np.random.Generator) -> int:
    """Draw how many quarter turns counter-clockwise a face gets, 0 to 3 with equal chance, as DIC does."""
    share = rng.random()
    return next((turns for turns, above in ((1, 0.75), (2, 0.5), (3, 0.25)) if share > above), 0)


def turn(image: np.ndarray, turns: int) -> np.ndarray:
    """Turn ``(H, W, 3)`` by quarters, counter-clockwise as seen."""
    return np.ascontiguousarray(np.rot90(image, turns))


def turn_landmarks(points: np.ndarray, side: int, turns: int) -> np.ndarray:
    """Turn ``(K, 2)`` points (x, y) with their square image of ``side`` pixels; each keeps its index."""
    x, y = points[:, 0], points[:, 1]
    last = side - 1
    turned = ((x, y), (y, last - x), (last - x, last - y), (last - y, x))[turns % 4]
    return np.stack(turned, axis=1)


def distortion_patch(points: np.ndarray, side: int, ratio: float) -> Patch:
    """Return the part of a square face that becomes the whole one, whose aspect so changes.

    The ratio is limited to what keeps the extent of the landmarks; the patch is centred on them where there is room.

    Args:
        points: ``(K, 2)`` (x, y) in pixels of the face.
        side: Of the face, in pixels.
        ratio: Height to width of the patch; below 1 it is as wide as the face, else as high.
    """
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    width, height = np.maximum(high - low, 1)
    ratio = float(np.clip(ratio, height / side, side / width))
    x, y = ((low + high) / 2).tolist()
    if ratio < 1:
        first, last = _span(y, side * ratio, side)
        return Patch(0, first, side, last - first)
    first, last = _span(x, side / ratio, side)
    return Patch(first, 0, last - first, side)


def _span(middle: float, length: float, side: int) -> tuple[int, int]:
    """Return first and end of a stretch inside ``0 .. side``, a pixel or more; int() cuts each border, as published."""
    length = max(length, 1.0)
    if middle - length / 2 < 0:
        return 0, int(length)
    if middle + length / 2 > side:
        return side - int(length), side
    return int(middle - length / 2), int(middle + length / 2)


def cut_patch(image: np.ndarray, patch: Patch, side: int) -> np.ndarray:
    """Cut a patch out of ``(H, W, 3)`` uint8 RGB and bring it to a square of ``side`` pixels (bicubic)."""
    part = image[patch.top : patch.top + patch.height, patch.left : patch.left + patch.width]
    return resize(np.ascontiguousarray(part), (side, side))


def cut_patch_landmarks(points: np.ndarray, patch: Patch, side: int) -> np.ndarray:
    """Move ``(K, 2)`` points (x, y) as ``cut_patch`` moves the image; pixel centres at integers in both."""
    shifted = points - np.array([patch.left, patch.top], dtype=points.dtype)
    return resize_landmarks(shifted, (patch.height, patch.width), (side, side))


def draw_zoom(
    rng: np.random.Generator, size: tuple[int, int], mode: str, zoom_range: tuple[float, float] = (1.0, 1.3)
) -> ZoomDraw:
    """Draw a zoom: factor, area and aspect of the window as published, its place as ``mode`` says.

    Args:
        rng: Source of the random numbers.
        size: ``(height, width)`` of the image.
        mode: ``official`` or ``corrected``.
        zoom_range: Of the enlargement.
    """
    factor = float(rng.uniform(*zoom_range))
    height, width = _draw_window(rng, size)
    room = size if mode == "official" else _enlarged(size, factor)
    top = int(rng.integers(0, room[0] - height + 1))
    left = int(rng.integers(0, room[1] - width + 1))
    return ZoomDraw(factor, top, left, height, width)


def _draw_window(rng: np.random.Generator, size: tuple[int, int]) -> tuple[int, int]:
    """Draw height and width of a random resized crop (torchvision's rule) for an image of ``size``."""
    full_height, full_width = size
    for _ in range(_TRIES):
        area = full_height * full_width * rng.uniform(*_AREA_RANGE)
        aspect = math.exp(rng.uniform(math.log(_ASPECT_RANGE[0]), math.log(_ASPECT_RANGE[1])))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= full_width and 0 < height <= full_height:
            return height, width
    aspect = min(max(full_width / full_height, _ASPECT_RANGE[0]), _ASPECT_RANGE[1])
    return min(full_height, round(full_width / aspect)), min(full_width, round(full_height * aspect))


def zoom(image: np.ndarray, draw: ZoomDraw, mode: str) -> np.ndarray:
    """Enlarge (bilinear), cut the window out, and bring it to the image's size (bicubic): may distort the aspect.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        draw: From ``draw_zoom`` with the same mode.
        mode: ``official`` leaves the image untouched when ``int(factor * W) == W``; ``corrected`` does not.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    size = image.shape[:2]
    if _is_untouched(size, draw, mode):
        return image
    enlarged = resize(image, _enlarged(size, draw.factor), "bilinear")
    window = enlarged[draw.top : draw.top + draw.height, draw.left : draw.left + draw.width]
    return resize(np.ascontiguousarray(window), size, "bicubic")


def zoom_landmarks(points: np.ndarray, size: tuple[int, int], draw: ZoomDraw, mode: str) -> np.ndarray:
    """Move points as ``zoom`` moves the image.

    Args:
        points: ``(K, 2)`` (x, y) in pixels, pixel centres at integers.
        size: ``(height, width)`` of the image.
        draw: As for the image.
        mode: As for the image.
    """
    if _is_untouched(size, draw, mode):
        return points.copy()
    enlarged = resize_landmarks(points, size, _enlarged(size, draw.factor))
    shifted = enlarged - np.array([draw.left, draw.top], dtype=points.dtype)
    return resize_landmarks(shifted, (draw.height, draw.width), size)


def resize_landmarks(points: np.ndarray, source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """Move ``(..., 2)`` points (x, y) from an image of ``source`` (height, width) to it at ``target`` size."""
    factors = np.array([target[1] / source[1], target[0] / source[0]], dtype=points.dtype)
    half = points.dtype.type(0.5)
    return (points + half) * factors - half


def _enlarged(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return int(factor * size[0]), int(factor * size[1])


def _is_untouched(size: tuple[int, int], draw: ZoomDraw, mode: str) -> bool:
    return mode == "official" and int(draw.factor * size[1]) == size[1]
