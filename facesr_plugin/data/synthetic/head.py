"""The head as a surface of radii over a vertical cylinder, r(angle, y), with the exact landmarks on it.

A point of the surface is (r sin(angle), y, r cos(angle)): x to the right, y down, z to the front. The base is a stack
of super-ellipses; brows, eyes, nose, lips, cheeks, chin and ears are smooth bumps on it, placed by the rest landmarks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from facesr_plugin.data.synthetic.landmarks import jaw_drop
from facesr_plugin.data.synthetic.parameters import Expression, Identity

ANGLE_LIMIT = np.deg2rad(121.0)
Y_TOP, Y_BOTTOM = -24.0, 140.0
_COLUMNS, _ROWS = 281, 221
_ELLIPSE_POWER = 2.25
_PROFILE_ROUNDING = 19  # rows
_SKULL_TOP = -13.0
# Half width and front depth of the head at rest, by height.
_PROFILE_Y = np.array((-13, -11, -7, 0, 8, 20, 32, 44, 54, 64, 74, 84, 94, 103, 112, 122, 156.0))
_WIDTH = np.array((1, 12, 21, 29, 34.5, 39.3, 41.3, 41.6, 41.0, 40.4, 39.0, 37.2, 35.2, 33.4, 31.5, 30, 30.0))
_DEPTH = np.array((1, 14, 25, 35, 42, 49, 52.5, 53.5, 52.0, 52, 52.8, 53.8, 54, 54, 54, 53, 52.0))
_BACK_DEPTH = 50.0
# Lower edge of the mandible by angle (degrees), then up behind it to the ear.
_JAW_ANGLE = np.array((0, 13, 25.6, 38, 54, 70, 84, 96, 125.0))
_JAW_Y = np.array((115.0, 112.4, 107.6, 101.6, 93.8, 89.6, 86.0, 72.0, 68.0))
_NECK_RADIUS = 25.5, 31.0  # feminine, masculine
_JAW_ROLL_OFF = 9.0
_CONTOUR_ANGLE = np.deg2rad(80.0)  # jaw points 0 to 3 of a frontal face: where the cheek turns away, before the ear
_CONTOUR_Y = np.array((54.0, 64.5, 74.3, 83.8))
_RIDGE_ANGLE = np.deg2rad(np.array((54.0, 38.0, 25.6, 13.0, 0.0)))  # jaw points 4 to 8
_RIDGE_ROLL = 0.12  # share of the roll-off at which the ridge of the jaw is seen


class Surface(NamedTuple):
    """Radii on a regular (y, angle) grid, ``(rows, columns)`` float32, in units."""

    radius: np.ndarray

    @property
    def angles(self) -> np.ndarray:
        """Angle of every column, radians."""
        return np.linspace(-ANGLE_LIMIT, ANGLE_LIMIT, self.radius.shape[1])

    @property
    def heights(self) -> np.ndarray:
        """Y of every row, units."""
        return np.linspace(Y_TOP, Y_BOTTOM, self.radius.shape[0])

    def columns_of(self, angle: np.ndarray) -> np.ndarray:
        """Return fractional columns of angles."""
        return (angle + ANGLE_LIMIT) * ((self.radius.shape[1] - 1) / (2 * ANGLE_LIMIT))

    def rows_of(self, y: np.ndarray) -> np.ndarray:
        """Return fractional rows of heights."""
        return (y - Y_TOP) * ((self.radius.shape[0] - 1) / (Y_BOTTOM - Y_TOP))

    def radius_at(self, angle: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Interpolate the radius bilinearly."""
        rows, columns = self.radius.shape
        column = np.clip(self.columns_of(np.asarray(angle, dtype=np.float64)), 0, columns - 1.001)
        row = np.clip(self.rows_of(np.asarray(y, dtype=np.float64)), 0, rows - 1.001)
        left, top = column.astype(int), row.astype(int)
        fx, fy = column - left, row - top
        table = self.radius
        upper = table[top, left] * (1 - fx) + table[top, left + 1] * fx
        lower = table[top + 1, left] * (1 - fx) + table[top + 1, left + 1] * fx
        return upper * (1 - fy) + lower * fy

    def points(self, angle: np.ndarray, y: np.ndarray, lift: float | np.ndarray = 0.0) -> np.ndarray:
        """Return the 3-D points ``(..., 3)`` at ``lift`` units above the surface."""
        radius = self.radius_at(angle, y) + lift
        return np.stack(np.broadcast_arrays(radius * np.sin(angle), y, radius * np.cos(angle)), axis=-1)


class Head(NamedTuple):
    """Skin surface of one face, and the maps that features are painted with."""

    skin: Surface
    rest_x: np.ndarray  # (rows, columns) float32: rest x of every grid point, NaN-free, beyond +-width on the back
    width_scale: np.ndarray  # (rows,): half width of the base by row
    depth: np.ndarray  # (rows,): front depth of the base by row
    landmarks: np.ndarray  # (68, 2) rest coordinates; the jaw rows are zero
    jaw_y: np.ndarray  # (columns,): lower edge of the jaw
    base: np.ndarray  # (rows, columns) float32: radii without any feature
    skull_top: float = _SKULL_TOP

    def angle_of(self, points: np.ndarray) -> np.ndarray:
        """Return the cylinder angle of (..., 2) rest points."""
        heights = self.skin.heights
        width = np.interp(points[..., 1], heights, self.width_scale)
        depth = np.interp(points[..., 1], heights, self.depth)
        share = np.clip(points[..., 0] / width, -0.999, 0.999)
        front = depth * (1.0 - np.abs(share) ** _ELLIPSE_POWER) ** (1.0 / _ELLIPSE_POWER)
        return np.arctan2(share * width, front)

    def jaw_points(self, side_view: np.ndarray) -> np.ndarray:
        """Return the 3-D jaw points (17, 3): on the jaw's ridge, or on the visible contour where that hides them.

        Args:
            side_view: Unit vector ``(3,)``: the image's x axis in the frame of the head. A point whose own side is
                turned away is moved along its row to where the row reaches farthest out in the image.
        """
        jaw_heights = np.interp(_RIDGE_ANGLE, self.skin.angles, self.jaw_y) + _RIDGE_ROLL * _JAW_ROLL_OFF
        lowest = jaw_heights[-1] - _JAW_Y[0]
        heights = np.concatenate([_CONTOUR_Y + lowest * np.array((0.0, 0.1, 0.2, 0.3)), jaw_heights])
        limits = np.concatenate([np.full(4, _CONTOUR_ANGLE), _RIDGE_ANGLE])
        left = [self._outermost(y, limit, -1.0, side_view) for y, limit in zip(heights, limits, strict=True)]
        right = [self._outermost(y, limit, 1.0, side_view) for y, limit in zip(heights[:-1], limits[:-1], strict=True)]
        return np.array(left + right[::-1])

    def _outermost(self, y: float, limit: float, side: float, side_view: np.ndarray) -> np.ndarray:
        angles = side * np.linspace(0.0, limit, 181)
        row = self.skin.points(angles, np.full_like(angles, y))
        return row[np.argmax(side * (row @ side_view))]


def build_head(identity: Identity, expression: Expression, landmarks: np.ndarray) -> Head:
    """Build the skin surface of a face from its rest landmarks."""
    empty = Surface(np.empty((_ROWS, _COLUMNS), np.float32))
    angles, heights = empty.angles, empty.heights
    chin = identity.chin_drop + jaw_drop(expression)
    base_y = heights - chin * np.clip((heights - 84.0) / 33.0, 0.0, 1.0)
    jaw_factor = 1.0 + (identity.jaw_width - 1.0) * np.clip((heights - 64.0) / 25.0, 0.0, 1.0)
    width = _smooth_profile(np.interp(base_y, _PROFILE_Y, _WIDTH) * identity.face_width * jaw_factor)
    depth = _smooth_profile(np.interp(base_y, _PROFILE_Y, _DEPTH))
    base, rest_x = _base(angles, width, depth)
    radius = base.copy()
    _add_features(radius, rest_x, heights, identity, expression, landmarks)
    jaw_y = np.interp(np.abs(np.rad2deg(angles)), _JAW_ANGLE, _JAW_Y)
    jaw_y = jaw_y + chin * np.clip((jaw_y - 84.0) / 33.0, 0.0, 1.0)
    neck = _NECK_RADIUS[0] + (_NECK_RADIUS[1] - _NECK_RADIUS[0]) * identity.masculine
    radius = _cut_below_jaw(radius, *(a.astype(np.float32) for a in (angles, heights, jaw_y)), neck)
    _add_ears(radius, angles, heights, identity.ear_size)
    radius[heights < _SKULL_TOP] = -10.0
    return Head(Surface(radius.astype(np.float32)), rest_x, width, depth, landmarks, jaw_y, base)


def _smooth_profile(values: np.ndarray) -> np.ndarray:
    """Round the corners of a polyline sampled by row."""
    kernel = np.hanning(_PROFILE_ROUNDING + 2)[1:-1]
    padded = np.pad(values, _PROFILE_ROUNDING // 2, mode="reflect", reflect_type="odd")
    return np.maximum(np.convolve(padded, kernel / kernel.sum(), mode="valid"), 1.0)


def _base(angles: np.ndarray, width: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stack the super-ellipses: radii and rest x, both (rows, columns) float32."""
    power = _ELLIPSE_POWER
    angles, width, depth = (a.astype(np.float32) for a in (angles, width, depth))
    side = np.abs(np.sin(angles))[None] / width[:, None]
    reach = np.where(np.cos(angles)[None] > 0, depth[:, None], np.minimum(depth, np.float32(_BACK_DEPTH))[:, None])
    front = np.abs(np.cos(angles))[None] / reach
    radius = (side**power + front**power) ** (-1.0 / power)
    rest_x = radius * np.sin(angles)[None]
    behind = np.abs(angles) > np.pi / 2
    rest_x[:, behind] = np.sign(angles[behind]) * 60.0
    return radius, rest_x


def smooth_step(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Rise smoothly from 0 at ``low`` to 1 at ``high`` (falls if ``high`` < ``low``)."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


class _Sculptor:
    """Adds bumps to a radius table, in small windows."""

    def __init__(self, radius: np.ndarray, rest_x: np.ndarray, heights: np.ndarray) -> None:
        self.radius, self.rest_x, self.heights = radius, rest_x, heights

    def window(self, x: float, y: float, reach_x: float, reach_y: float) -> tuple[slice, slice]:
        rows = np.searchsorted(self.heights, (y - reach_y, y + reach_y))
        middle = self.rest_x[np.searchsorted(self.heights, y)]
        columns = np.searchsorted(middle, (x - reach_x, x + reach_x))
        return slice(*rows), slice(*columns)

    def bump(self, x: float, y: float, sigma_x: float, sigma_y: float, height: float) -> None:
        """Add a Gaussian bump on the midline or on one side."""
        rows, columns = self.window(x, y, 3.1 * sigma_x, 3.1 * sigma_y)
        dx = (self.rest_x[rows, columns] - np.float32(x)) * np.float32(1 / sigma_x)
        dy = ((self.heights[rows, None] - y) / sigma_y).astype(np.float32)
        self.radius[rows, columns] += np.float32(height) * np.exp(np.float32(-0.5) * (dx * dx + dy * dy))

    def pair(self, x: float, y: float, sigma_x: float, sigma_y: float, height: float) -> None:
        """Add a bump on both sides."""
        self.bump(-x, y, sigma_x, sigma_y, height)
        self.bump(x, y, sigma_x, sigma_y, height)


def _add_features(
    radius: np.ndarray,
    rest_x: np.ndarray,
    heights: np.ndarray,
    identity: Identity,
    expression: Expression,
    landmarks: np.ndarray,
) -> None:
    sculptor = _Sculptor(radius, rest_x, heights)
    _add_eye_region(sculptor, identity, landmarks)
    _add_nose(sculptor, identity, landmarks)
    _add_mouth(sculptor, expression, landmarks)
    happy = max(expression.smile, 0.0)
    sculptor.pair(26.5, 67.0, 8.0, 7.0, 1.6 + identity.cheek)
    sculptor.pair(20.0, 73.5 - happy, 6.5, 5.5, 0.4 + 2.3 * happy)
    sculptor.pair(26.0, 84.0, 7.0, 8.0, 0.9 * identity.cheek - 0.8)
    sculptor.pair(38.0, 36.0, 5.0, 9.0, -1.2)
    sculptor.bump(0.0, 28.0, 20.0, 12.0, 1.0)
    drop = identity.chin_drop + jaw_drop(expression)
    sculptor.bump(0.0, landmarks[57, 1] + 3.6, 9.0, 2.6, -2.0)
    sculptor.bump(0.0, 110.0 + drop, 8.5, 5.5, 1.6 + 1.4 * identity.masculine)


def _add_eye_region(sculptor: _Sculptor, identity: Identity, landmarks: np.ndarray) -> None:
    for first, brow in ((36, 19), (42, 24)):
        x, y = landmarks[first : first + 6].mean(axis=0)
        sculptor.bump(x * 0.95, y - 1.0, 8.0, 4.8, -3.4 - 0.9 * identity.masculine)
        sculptor.bump(x, y, 5.2, 3.6, 3.6)
        sculptor.bump(x * 1.05, landmarks[brow, 1] + 1.0, 9.5, 3.2, 0.5 + 1.6 * identity.masculine)
        sculptor.bump(x * 1.02, y + 7.0, 7.5, 2.0, -0.7)
    sculptor.bump(0.0, landmarks[21, 1] + 0.5, 6.0, 3.5, 0.8 * identity.masculine)


def _add_nose(sculptor: _Sculptor, identity: Identity, landmarks: np.ndarray) -> None:
    nasion, tip, base = landmarks[27, 1], landmarks[30, 1], landmarks[33, 1]
    alar_x, alar_y = abs(landmarks[31, 0]), landmarks[31, 1]
    height = identity.nose_height
    rows, columns = sculptor.window(0.0, 0.5 * (nasion + base), 17.0, 26.0)
    y, x = sculptor.heights[rows, None], sculptor.rest_x[rows, columns]
    share = (y - nasion) / (tip - nasion)
    ridge = height * np.interp(share, (-0.35, 0.0, 0.35, 0.8, 1.0, 1.3), (0.0, 2.2, 5.6, 10.2, 11.8, 11.0))
    ridge = ridge * smooth_step(base + 1.2, base - 2.2, y)
    half_width = np.interp(share, (0.0, 0.5, 1.0), (3.5, 4.0, 4.9)) * (0.55 + 0.45 * identity.nose_width)
    bump = ridge * np.exp(-((np.abs(x) / half_width) ** 2.2))
    sculptor.radius[rows, columns] += bump.astype(np.float32)
    sculptor.bump(0.0, tip, 3.4 * identity.nose_width, 2.9, 2.4)
    sculptor.pair(0.80 * alar_x, alar_y - 1.9, 2.3, 2.4, 4.4)
    sculptor.pair(0.5 * alar_x, base - 0.8, 1.2, 0.9, -1.6)
    sculptor.bump(0.0, 0.5 * (base + landmarks[51, 1]), 1.2, 2.2, -0.7)


def _add_mouth(sculptor: _Sculptor, expression: Expression, landmarks: np.ndarray) -> None:
    width = landmarks[54, 0]
    upper = 0.5 * (landmarks[51, 1] + landmarks[62, 1])
    lower = 0.5 * (landmarks[66, 1] + landmarks[57, 1])
    sculptor.bump(0.0, upper, 0.85 * width, 7.0, 2.0)
    sculptor.bump(0.0, upper, 0.5 * width, 0.5 * (landmarks[62, 1] - landmarks[51, 1]), 1.3)
    sculptor.bump(0.0, lower, 0.5 * width, 0.45 * (landmarks[57, 1] - landmarks[66, 1]), 2.0)
    gap = landmarks[66, 1] - landmarks[62, 1]
    sculptor.bump(0.0, 0.5 * (landmarks[62, 1] + landmarks[66, 1]), 0.5 * width, 0.6 + 0.35 * gap, -1.2 - 0.2 * gap)
    sculptor.pair(width + 1.0, landmarks[54, 1] + 0.3, 1.8, 2.0, -0.9 - 0.4 * max(expression.smile, 0.0))


def _cut_below_jaw(
    radius: np.ndarray, angles: np.ndarray, heights: np.ndarray, jaw_y: np.ndarray, neck_radius: float
) -> np.ndarray:
    """Roll the surface off below the jaw, towards the neck."""
    share = np.clip((heights[:, None] - jaw_y[None]) / _JAW_ROLL_OFF, 0.0, 1.0).astype(np.float32)
    share = share * np.sqrt(share) * (2.5 - 1.5 * share)
    neck = neck_radius - 1.5 * np.cos(2 * angles)[None] + 0.05 * np.maximum(heights - 118.0, 0.0)[:, None]
    return radius + (np.minimum(neck, radius) - radius) * share


def _add_ears(radius: np.ndarray, angles: np.ndarray, heights: np.ndarray, size: float) -> None:
    """Raise a thin, ear-shaped wall on both sides of the head."""
    centre_y, half_height = 63.0, 13.5 * size
    v = np.clip((heights - centre_y) / half_height, -1.0, 1.0)
    outline = np.sqrt(np.maximum(1.0 - v * v, 0.0)) * (1.0 - 0.30 * smooth_step(-0.2, 1.0, v))
    degrees = np.abs(np.rad2deg(angles))
    front = smooth_step(87.0, 99.0, degrees)
    behind = smooth_step(116.0, 106.0, degrees)
    radius += (8.0 * size * outline[:, None] * (front * behind)[None]).astype(radius.dtype)
