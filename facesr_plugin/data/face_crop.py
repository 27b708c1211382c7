"""Pure functions that cut a face out of a photo at random, with its points: scale, rotation, place.

Source: JASRNet's training crops were made beforehand, 15 of each face, by a program that was not released; this is a
reconstruction from a dead block of its data set and the SBR / SAN code that it was built on (spec 4.1), made anew in
every epoch. What differs from those: points move with the pixels (pixel centres at integers; SBR scales coordinates,
which is up to half a pixel off), and pixels from beyond the turned picture have the mean colour too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from facesr_plugin.data.transforms import hflip, hflip_landmarks, resize, resize_landmarks

FILL = (124, 116, 104)  # ImageNet's mean colour
ROTATION_KERNELS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class Ranges(NamedTuple):
    """How far a crop may vary.

    Args:
        scale: Smallest and largest factor of the face.
        rotation: Largest angle in degrees, either way.
        jitter: Largest shift in pixels of the crop, each way.
    """

    scale: tuple[float, float] = (0.9, 1.1)
    rotation: float = 20.0
    jitter: float = 30.0


class CropDraw(NamedTuple):
    """Random values of one crop: ``angle`` in degrees, counter-clockwise; ``shift`` (x, y) in whole pixels."""

    scale: float
    angle: float
    shift: tuple[int, int]


class Framed(NamedTuple):
    """``image`` (H, W, 3) uint8 RGB and ``points`` (K, 2) (x, y) in its pixels, NaN where unknown."""

    image: np.ndarray
    points: np.ndarray


def draw_crop(rng: np.random.Generator, ranges: Ranges) -> CropDraw:
    """Draw scale, angle and shift, each uniform in its range; the shift is cut to whole pixels."""
    scale = float(rng.uniform(*ranges.scale))
    angle = float(rng.uniform(-ranges.rotation, ranges.rotation))
    x, y = (int(rng.uniform(-ranges.jitter, ranges.jitter)) for _ in range(2))
    return CropDraw(scale, angle, (x, y))


def cut_box(face: Framed, box: np.ndarray, expand: float, size: int) -> Framed:
    """Cut an enlarged box out and bring it to a square, whatever its aspect (Pillow bilinear).

    Args:
        face: Photo with the points of one face.
        box: x1 y1 x2 y2 in its pixels.
        expand: Part of the box's width and height that is added on each side; what is beyond the photo is left out.
        size: Side of the result.

    Raises:
        ValueError: If the box is empty or beside the photo.
    """
    left, top, right, bottom = window_of(box, expand, face.image.shape[:2])
    part = np.ascontiguousarray(face.image[top:bottom, left:right])
    points = face.points - np.array([left, top], face.points.dtype)
    return resize_framed(Framed(part, points), (size, size))


def window_of(box: np.ndarray, expand: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom (exclusive) of the enlarged box inside an image of ``(height, width)``.

    Raises:
        ValueError: If the box is empty or beside the image.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    height, width = size
    x, y = expand * (x2 - x1), expand * (y2 - y1)
    left, top = max(math.floor(x1 - x), 0), max(math.floor(y1 - y), 0)
    right, bottom = min(math.ceil(x2 + x), width), min(math.ceil(y2 + y), height)
    if x1 >= x2 or y1 >= y2 or left >= right or top >= bottom:
        raise ValueError(f"box {[x1, y1, x2, y2]} must not be empty or beside its image of {width} x {height} pixels")
    return left, top, right, bottom


def resize_framed(face: Framed, size: tuple[int, int]) -> Framed:
    """Resize to ``(height, width)`` with Pillow's bilinear kernel."""
    points = resize_landmarks(face.points, face.image.shape[:2], size)
    return Framed(resize(face.image, size, "bilinear"), points)


def vary_crop(face: Framed, draw: CropDraw, kernel: str = "nearest") -> Framed:
    """Scale a square face, turn it about its centre, and cut the same size about its points.

    Args:
        face: Square; at least one point is known.
        draw: Random values. The crop's centre is the mean of the known points before the turn, plus the shift.
        kernel: Of the turn: ``nearest``, ``bilinear`` or ``bicubic``.

    Returns:
        A face of the same size; beyond the picture it has the mean colour.
    """
    size = len(face.image)
    side = int(draw.scale * size)
    scaled = resize_framed(face, (side, side))
    centre = np.nanmean(scaled.points, axis=0)
    turned = _turn(scaled, draw.angle, kernel)
    left, top = (math.floor(place - (size - 1) / 2 + 0.5) for place in centre + draw.shift)
    canvas = Image.new("RGB", (size, size), FILL)
    canvas.paste(Image.fromarray(turned.image), (-left, -top))
    return Framed(np.array(canvas), turned.points - np.array([left, top], turned.points.dtype))


def _turn(face: Framed, angle: float, kernel: str) -> Framed:
    """Turn about the centre, without enlargement."""
    turned = Image.fromarray(face.image).rotate(angle, ROTATION_KERNELS[kernel], fillcolor=FILL)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    centre = (np.array(face.image.shape[1::-1], face.points.dtype) - 1) / 2
    matrix = np.array([[cosine, -sine], [sine, cosine]], face.points.dtype)  # for rows (x, y), y downwards
    return Framed(np.array(turned), (face.points - centre) @ matrix + centre)


def mirror(face: Framed, released: bool = False) -> Framed:
    """Mirror a face; its points get their new numbers.

    Args:
        face: With 5, 19, 68, 98 or 194 points.
        released: Points as in JASRNet's program, x' = W - x, a pixel beside theirs.

    Raises:
        ValueError: If the number of points has no table.
    """
    width = face.image.shape[1] + released
    return Framed(hflip(face.image), hflip_landmarks(face.points, width))


def forget_outside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return ``(K, 2)`` points with NaN for those beyond [0, width] x [0, height], borders included as released."""
    height, width = size
    with np.errstate(invalid="ignore"):
        inside = ((points >= 0) & (points <= [width, height])).all(-1)
    return np.where(inside[:, None], points, np.nan).astype(points.dtype)
