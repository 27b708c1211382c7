"""Painting on the unrolled head: texture planes over (y, angle), with anti-aliased shapes given in rest coordinates."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.data.synthetic.head import ANGLE_LIMIT, Y_BOTTOM, Y_TOP, Head

TEXELS_PER_RADIAN = 46.0  # at one texel per unit: about the radius of the face
_SUBPIXEL_BITS = 4
SPECULAR, GLOSS, HAIR, OCCLUSION = range(4)  # channels of the material plane


class Patch(NamedTuple):
    """A window of the canvas with the rest coordinates of its texels."""

    rows: slice
    columns: slice
    x: np.ndarray  # (h, w) float32
    y: np.ndarray  # (h, 1) float32

    @property
    def index(self) -> tuple[slice, slice]:
        """Index of the window in a plane."""
        return self.rows, self.columns


class Canvas:
    """Texture planes of one head.

    Args:
        head: Surface and rest coordinates.
        scale: Texels per unit.
    """

    def __init__(self, head: Head, scale: float) -> None:
        self.head, self.scale = head, scale
        self.landmarks = head.landmarks.astype(np.float32)  # single precision keeps the planes so
        self.rows = round((Y_BOTTOM - Y_TOP) * scale) + 1
        self.columns = round(2 * ANGLE_LIMIT * TEXELS_PER_RADIAN * scale) + 1
        self.heights = np.linspace(Y_TOP, Y_BOTTOM, self.rows, dtype=np.float32)
        self.angles = np.linspace(-ANGLE_LIMIT, ANGLE_LIMIT, self.columns, dtype=np.float32)
        self.rest_x = self.spread(head.rest_x)
        self.albedo = np.empty((self.rows, self.columns, 3), np.float32)
        self.material = np.zeros((self.rows, self.columns, 4), np.float32)
        self.normal = np.empty((self.rows, self.columns, 3), np.float32)

    def spread(self, table: np.ndarray) -> np.ndarray:
        """Interpolate a table over the head to the texels."""
        rows, columns = table.shape[:2]
        map_x = np.linspace(0, columns - 1, self.columns, dtype=np.float32)[None].repeat(self.rows, axis=0)
        map_y = np.linspace(0, rows - 1, self.rows, dtype=np.float32)[:, None].repeat(self.columns, axis=1)
        return cv2.remap(table, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def texels(self, points: np.ndarray) -> np.ndarray:
        """Return (..., 2) rest points as (column, row) texels."""
        return self.cylinder_texels(self.head.angle_of(points), points[..., 1])

    def cylinder_texels(self, angle: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return cylinder coordinates as (column, row) texels."""
        column = (angle + ANGLE_LIMIT) * ((self.columns - 1) / (2 * ANGLE_LIMIT))
        row = (y - Y_TOP) * ((self.rows - 1) / (Y_BOTTOM - Y_TOP))
        return np.stack(np.broadcast_arrays(column, row), axis=-1)

    def patch(self, points: np.ndarray, margin: float) -> Patch:
        """Return the window around rest points, ``margin`` units wider."""
        texels = self.texels(points)
        low = np.floor(texels.min(axis=0) - margin * self.scale).astype(int)
        high = np.ceil(texels.max(axis=0) + margin * self.scale).astype(int) + 1
        rows = slice(max(low[1], 0), min(high[1], self.rows))
        columns = slice(max(low[0], 0), min(high[0], self.columns))
        return Patch(rows, columns, self.rest_x[rows, columns], self.heights[rows, None])

    def everything(self) -> Patch:
        """Return the window of the whole canvas."""
        return Patch(slice(0, self.rows), slice(0, self.columns), self.rest_x, self.heights[:, None])

    def fill(self, patch: Patch, outlines: list[np.ndarray], blur: float = 0.0) -> np.ndarray:
        """Fill closed rest outlines; returns coverage (h, w) float32 in [0, 1], softened by ``blur`` units."""
        mask = np.zeros(patch.x.shape, np.uint8)
        cv2.fillPoly(mask, self._fixed_curves(patch, outlines), 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        return self._soften(mask, blur)

    def stroke(self, patch: Patch, curves: list[np.ndarray], thickness: float, blur: float = 0.0) -> np.ndarray:
        """Draw open rest curves ``thickness`` units wide; returns coverage (h, w) float32 in [0, 1]."""
        mask = np.zeros(patch.x.shape, np.uint8)
        width = thickness * self.scale
        level = int(255 * min(1.0, width))
        fixed = self._fixed_curves(patch, curves)
        cv2.polylines(mask, fixed, False, level, max(1, round(width)), cv2.LINE_AA, _SUBPIXEL_BITS)
        return self._soften(mask, blur)

    def blend(self, patch: Patch, coverage: np.ndarray, colour: np.ndarray | tuple[float, ...]) -> None:
        """Paint a colour (3,) or (h, w, 3) over the albedo."""
        area, colour = self.albedo[patch.index], np.asarray(colour, np.float32)
        for channel in range(3):
            plane = area[..., channel]
            plane += coverage * (colour[..., channel] - plane)

    def darken(self, patch: Patch, coverage: np.ndarray, amount: float, tint: tuple[float, float, float]) -> None:
        """Multiply the albedo by ``1 - amount * coverage * tint``."""
        area, taken = self.albedo[patch.index], np.float32(amount) * coverage
        for channel in range(3):
            area[..., channel] *= 1.0 - np.float32(tint[channel]) * taken

    def set_material(self, patch: Patch, coverage: np.ndarray, specular: float, gloss: float) -> None:
        """Blend the specular strength and gloss of a patch."""
        area = self.material[patch.index]
        for channel, value in ((SPECULAR, specular), (GLOSS, gloss)):
            area[..., channel] += coverage * (value - area[..., channel])

    def _fixed_curves(self, patch: Patch, curves: list[np.ndarray]) -> list[np.ndarray]:
        texels = self.texels(np.concatenate(curves)) - (patch.columns.start, patch.rows.start)
        fixed = np.round(texels * 2**_SUBPIXEL_BITS).astype(np.int32)
        return np.split(fixed, np.cumsum([len(c) for c in curves])[:-1])

    def _soften(self, mask: np.ndarray, blur: float) -> np.ndarray:
        coverage = mask.astype(np.float32) * np.float32(1 / 255)
        sigma = blur * self.scale
        return cv2.GaussianBlur(coverage, (0, 0), sigma) if sigma > 0.3 else coverage


def fractal_noise(rng: np.random.Generator, shape: tuple[int, int], cells: list[tuple[float, float]]) -> np.ndarray:
    """Sum octaves of smooth noise, each normalised to unit variance and weighted equally.

    Every octave draws a field whose size depends on ``cells`` relative to ``shape`` only, so cells that scale with
    the image give the same field at another size.

    Args:
        rng: Source of randomness.
        shape: (rows, columns) of the result.
        cells: (height, width) of the noise cells in texels, one pair per octave.
    """
    total = np.zeros(shape, np.float32)
    for height, width in cells:
        grid = rng.standard_normal(
            (max(2, round(shape[0] / height)) + 1, max(2, round(shape[1] / width)) + 1), np.float32
        )
        total += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) * np.float32(1.35)
    return total / np.float32(np.sqrt(len(cells)))
