"""Orthographic camera: pose of the head, alignment to the frame, and the surface point seen by every pixel."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.data.synthetic.head import ANGLE_LIMIT, Y_BOTTOM, Y_TOP, Surface
from facesr_plugin.data.synthetic.parameters import Pose

FRAME = 128.0  # side of the frame in units
_PIVOT_Y = 66.0
# Where an aligned face has its eyes, nose tip and mouth corners, in units.
_ALIGNED = np.array([(46.7, 53.0), (81.3, 53.0), (64.0, 73.4), (49.6, 89.6), (78.4, 89.6)])
_FAR, _NEAR = -45.0, 80.0
_COARSE_STEP = 3.5
_FULL_STEPS = 6
_GRAZING_STEPS = 22
_REFINEMENTS = 3
_MIN_STEP, _MAX_STEP = np.float32(1.0), np.float32(4.5)
_PLANE_WIDTH = 64
_MISS = -1e3


class Camera(NamedTuple):
    """Maps head points p to frame positions ``(p - pivot) @ rotation.T`` -> ``[:2] @ similarity.T + offset``."""

    rotation: np.ndarray  # (3, 3): head frame -> viewer frame
    similarity: np.ndarray  # (2, 2)
    offset: np.ndarray  # (2,)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project (..., 3) head points to (..., 2) units of the 128 frame, pixel centres at integers."""
        return self.rotate(points)[..., :2] @ self.similarity.T + self.offset

    def rotate(self, points: np.ndarray) -> np.ndarray:
        """Return head points in the viewer frame, z towards the viewer."""
        return (points - (0.0, _PIVOT_Y, 0.0)) @ self.rotation.T

    def rays(self, size: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the ray of every pixel of a ``size`` image, in the frame of the head.

        Returns:
            Three ``(size, size)`` float32 planes (x, y, z at depth 0) and the direction ``(3,)`` towards the viewer.
        """
        axis = (np.arange(size) + 0.5) * (FRAME / size) - 0.5
        inverse = np.linalg.inv(self.similarity)
        to_head = self.rotation[:2].T @ inverse  # (3, 2)
        shift = (0.0, _PIVOT_Y, 0.0) - to_head @ self.offset
        planes = [
            (to_head[i, 0] * axis[None, :] + to_head[i, 1] * axis[:, None] + shift[i]).astype(np.float32)
            for i in range(3)
        ]
        return planes, self.rotation[2]


def rotation_matrix(pose: Pose) -> np.ndarray:
    """Return head frame -> viewer frame: yaw (to the image's right), then pitch (down); roll is not part of it."""
    yaw, pitch = np.deg2rad((pose.yaw, pose.pitch))
    turn = np.array([(np.cos(yaw), 0, np.sin(yaw)), (0, 1, 0), (-np.sin(yaw), 0, np.cos(yaw))])
    nod = np.array([(1, 0, 0), (0, np.cos(pitch), np.sin(pitch)), (0, -np.sin(pitch), np.cos(pitch))])
    return nod @ turn


def aligned_camera(pose: Pose, anchors: np.ndarray) -> Camera:
    """Choose the similarity that brings five anchors (eyes, nose tip, mouth corners; (5, 3)) to the frame."""
    rotation = rotation_matrix(pose)
    flat = ((anchors - (0.0, _PIVOT_Y, 0.0)) @ rotation.T)[:, :2]
    source, target = flat @ (1, 1j), _ALIGNED @ (1, 1j)
    centred = source - source.mean()
    factor = np.vdot(centred, target - target.mean()) / np.vdot(centred, centred).real
    factor *= pose.zoom * np.exp(1j * np.deg2rad(pose.roll))
    offset = target.mean() + complex(*pose.shift) - factor * source.mean()
    similarity = np.array([(factor.real, -factor.imag), (factor.imag, factor.real)])
    return Camera(rotation, similarity, np.array((offset.real, offset.imag)))


class Hits(NamedTuple):
    """What every pixel sees: cylinder coordinates and depth, (size, size) float32; ``mask``: False beside the head."""

    mask: np.ndarray
    angle: np.ndarray
    y: np.ndarray
    depth: np.ndarray

    def lookup(self, table: np.ndarray) -> np.ndarray:
        """Sample a (rows, columns[, channels]) table over the cylinder at every pixel."""
        rows, columns = table.shape[:2]
        return sample_cylinder(table, self.angle, self.y, rows, columns)


def sample_cylinder(table: np.ndarray, angle: np.ndarray, y: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Sample a table whose columns span the angles and whose rows span the heights (bilinear, edges repeated)."""
    map_x = (angle + np.float32(ANGLE_LIMIT)) * np.float32((columns - 1) / (2 * ANGLE_LIMIT))
    map_y = (y - np.float32(Y_TOP)) * np.float32((rows - 1) / (Y_BOTTOM - Y_TOP))
    return cv2.remap(table, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


class _Field(NamedTuple):
    """Signed distance along the radius, outside positive, on rays."""

    surface: Surface
    origin: list[np.ndarray]
    direction: np.ndarray

    def at(self, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return distance, angle, y at the given depth of every ray."""
        x, y, z = (o + np.float32(d) * depth for o, d in zip(self.origin, self.direction, strict=True))
        angle = np.arctan2(x, z)
        rows, columns = self.surface.radius.shape
        return np.sqrt(x * x + z * z) - sample_cylinder(self.surface.radius, angle, y, rows, columns), angle, y


def trace(surface: Surface, camera: Camera, size: int) -> Hits:
    """Find the first point of the surface on every ray: a coarse search, then steps and secants at full size."""
    coarse_size = max(size // 4, 16)
    coarse = _coarse_depth(surface, camera, coarse_size)
    start = cv2.dilate(coarse, np.ones((3, 3), np.uint8))
    start = cv2.resize(start, (size, size), interpolation=cv2.INTER_NEAREST)
    field = _Field(surface, *camera.rays(size))
    depth = np.where(start > _MISS, start + np.float32(_COARSE_STEP), np.float32(_NEAR))
    return _fine(field, depth.astype(np.float32), start > _MISS)


def _coarse_depth(surface: Surface, camera: Camera, size: int) -> np.ndarray:
    """Return the depth of the first hit on a small grid, or ``_MISS``; (size, size) float32."""
    origin, direction = camera.rays(size)
    depths = np.arange(_NEAR, _FAR, -_COARSE_STEP, dtype=np.float32)
    stacked = [np.tile(plane, (len(depths), 1)) for plane in origin]
    along = np.repeat(depths, size)[:, None] * np.ones((1, size), np.float32)
    inside = _Field(surface, stacked, direction).at(along)[0].reshape(len(depths), size, size) < 0
    first = inside.argmax(axis=0)
    return np.where(inside.any(axis=0), depths[first], np.float32(_MISS)).astype(np.float32)


def _fine(field: _Field, depth: np.ndarray, candidate: np.ndarray) -> Hits:
    """March from ``depth`` to the surface, then close in on it by bracketed secants."""
    bracket = _march(field, depth, _FULL_STEPS)
    missing = np.flatnonzero(candidate & np.isnan(bracket.inside))
    if missing.size:
        rest = _Field(field.surface, [_as_plane(o.ravel()[missing]) for o in field.origin], field.direction)
        grazing = _march(rest, _as_plane(bracket.outside.ravel()[missing]), _GRAZING_STEPS)
        for plane, found in zip(bracket, grazing, strict=True):
            plane.ravel()[missing] = found.ravel()[: missing.size]
    return _close_in(field, bracket, candidate & ~np.isnan(bracket.inside))


def _as_plane(values: np.ndarray) -> np.ndarray:
    """Fold a vector into rows of ``_PLANE_WIDTH`` (the last value repeated): cv2.remap wants small maps."""
    return np.pad(values, (0, -values.size % _PLANE_WIDTH), mode="edge").reshape(-1, _PLANE_WIDTH)


class _Bracket(NamedTuple):
    """Depths just outside and just inside the surface (NaN: not reached), and the distances there."""

    outside: np.ndarray
    inside: np.ndarray
    outside_distance: np.ndarray
    inside_distance: np.ndarray


def _march(field: _Field, start: np.ndarray, steps: int) -> _Bracket:
    """Advance depths until the next step is inside the surface."""
    distance = field.at(start)[0]
    bracket = _Bracket(start.copy(), np.full_like(start, np.nan), distance.copy(), np.full_like(start, -1.0))
    for _ in range(steps):
        depth = bracket.outside - np.clip(distance * np.float32(0.55), _MIN_STEP, _MAX_STEP)
        distance = field.at(depth)[0]
        running = np.isnan(bracket.inside)
        crossed = running & (distance < 0)
        running &= ~crossed
        np.copyto(bracket.inside, depth, where=crossed)
        np.copyto(bracket.inside_distance, distance, where=crossed)
        np.copyto(bracket.outside, depth, where=running)
        np.copyto(bracket.outside_distance, distance, where=running)
    return bracket


def _close_in(field: _Field, bracket: _Bracket, mask: np.ndarray) -> Hits:
    outside, inside, outside_distance, inside_distance = bracket
    np.copyto(inside, outside - 1, where=~mask)
    for _ in range(_REFINEMENTS):
        share = outside_distance / np.maximum(outside_distance - inside_distance, np.float32(1e-6))
        depth = outside + (inside - outside) * np.clip(share, np.float32(0.05), np.float32(0.95))
        distance, angle, y = field.at(depth)
        below = distance < 0
        np.copyto(inside, depth, where=below)
        np.copyto(inside_distance, distance, where=below)
        np.copyto(outside, depth, where=~below)
        np.copyto(outside_distance, distance, where=~below)
    return Hits(mask, angle, y, depth)
