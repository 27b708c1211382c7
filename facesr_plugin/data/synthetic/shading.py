"""From surface, textures and lights to linear RGB, pixel by pixel."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.data.synthetic.camera import Camera, Hits, sample_cylinder
from facesr_plugin.data.synthetic.canvas import GLOSS, HAIR, OCCLUSION, SPECULAR, Canvas
from facesr_plugin.data.synthetic.head import Surface
from facesr_plugin.data.synthetic.parameters import Light

_WRAP = np.array((0.30, 0.16, 0.12), np.float32)  # light that bleeds past the terminator, by channel
_SHADOW_REACH = (1.6, 3.2, 5.5, 9.0, 14.0, 21.0, 31.0, 44.0)
_VIEW = np.array((0.0, 0.0, 1.0))
_WET_GLOSS = 0.9  # above it a material mirrors small lamps: eyes
_CATCH_LIGHT = np.array((-0.30, -0.42, 0.86))


def surface_normals(surface: Surface) -> np.ndarray:
    """Return outward unit normals on the grid of the surface, (rows, columns, 3) float32, head frame."""
    angles, heights = surface.angles.astype(np.float32), surface.heights.astype(np.float32)
    radius = cv2.GaussianBlur(surface.radius, (3, 3), 0)
    sine, cosine = np.sin(angles)[None], np.cos(angles)[None]
    by_angle = np.gradient(radius, angles[1] - angles[0], axis=1)
    by_height = np.gradient(radius, heights[1] - heights[0], axis=0)
    # Cross product of d/dy (r_y sin, 1, r_y cos) and d/dangle (r_a sin + r cos, 0, r_a cos - r sin), negated.
    normal = np.stack(
        [radius * sine - by_angle * cosine, -by_height * radius, by_angle * sine + radius * cosine], axis=-1
    )
    return normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), np.float32(1e-6))


def shadow_map(surface: Surface, camera: Camera, hits: Hits, light: Light) -> np.ndarray:
    """Return how much of the key light arrives, (size, size) float32, from a march at half size."""
    size = hits.mask.shape[0]
    half = size // 2
    angle, y = hits.angle[::2, ::2], hits.y[::2, ::2]
    rows, columns = surface.radius.shape
    radius = sample_cylinder(surface.radius, angle, y, rows, columns) + np.float32(0.5)
    x, z = radius * np.sin(angle), radius * np.cos(angle)
    to_light = (camera.rotation.T @ np.asarray(light.direction)).astype(np.float32)
    lit = np.ones((half, half), np.float32)
    hardness = np.float32(9.0 - 5.0 * light.softness)
    for reach in _SHADOW_REACH:
        px, py, pz = x + to_light[0] * reach, y + to_light[1] * reach, z + to_light[2] * reach
        clearance = np.sqrt(px * px + pz * pz) - sample_cylinder(surface.radius, np.arctan2(px, pz), py, rows, columns)
        np.minimum(lit, np.float32(0.55) + hardness * clearance / np.float32(reach + 3.0), out=lit)
    lit = cv2.GaussianBlur(np.clip(lit, 0.0, 1.0), (0, 0), (0.6 + 1.2 * light.softness) * half / 128)
    return cv2.resize(lit, (size, size), interpolation=cv2.INTER_LINEAR)


class Shading(NamedTuple):
    """Planes sampled at every pixel."""

    albedo: np.ndarray
    material: np.ndarray
    normal: np.ndarray  # viewer frame
    strand: np.ndarray  # viewer frame, unit tangent of the hair


def sample_textures(canvas: Canvas, camera: Camera, hits: Hits) -> Shading:
    """Look the textures up for every pixel."""
    rotation = camera.rotation.T.astype(np.float32)
    normal = hits.lookup(canvas.normal) @ rotation
    normal /= np.maximum(np.sqrt(np.einsum("ijk,ijk->ij", normal, normal)), np.float32(1e-6))[..., None]
    down = camera.rotation[:, 1].astype(np.float32)
    strand = down - (normal @ down)[..., None] * normal
    strand /= np.maximum(np.sqrt(np.einsum("ijk,ijk->ij", strand, strand)), np.float32(1e-6))[..., None]
    return Shading(hits.lookup(canvas.albedo), hits.lookup(canvas.material), normal, strand)


def shade(planes: Shading, light: Light, lit: np.ndarray, shine: float) -> np.ndarray:
    """Return linear RGB (size, size, 3): wrapped diffuse, two lights, ambient from above, highlights, hair."""
    normal, material = planes.normal, planes.material
    key_direction, fill_direction = (
        np.asarray(light.direction, np.float32),
        np.asarray(light.fill_direction, np.float32),
    )
    key, fill = np.asarray(light.key, np.float32), np.asarray(light.fill, np.float32)
    facing = (normal @ key_direction)[..., None]
    wrapped = np.clip((facing + _WRAP) / (1.0 + _WRAP), 0.0, None)
    hair = material[..., HAIR, None]
    along = planes.strand @ key_direction
    fibre = np.sqrt(np.clip(1.0 - along * along, 0.0, 1.0))[..., None] * np.clip(facing * 0.7 + 0.4, 0.0, 1.0)
    diffuse = (wrapped + hair * (fibre - wrapped)) * lit[..., None]
    occlusion = material[..., OCCLUSION, None]
    ambient = np.asarray(light.ambient, np.float32) * (
        (0.80 - 0.20 * normal[..., 1] + 0.15 * normal[..., 2])[..., None] * occlusion
    )
    filled = np.clip(normal @ fill_direction * 0.8 + 0.2, 0.0, None)[..., None] * fill * occlusion
    result = planes.albedo * (key * diffuse * (0.4 + 0.6 * occlusion) + filled + ambient)
    return result + _highlights(planes, light, lit, shine)


def _highlights(planes: Shading, light: Light, lit: np.ndarray, shine: float) -> np.ndarray:
    normal, material = planes.normal, planes.material
    half = np.asarray(light.direction) + _VIEW
    half = (half / np.linalg.norm(half)).astype(np.float32)
    exponent = np.exp2(3.2 + 4.3 * np.clip(material[..., GLOSS], 0.0, 1.0))
    aligned = np.clip(normal @ half, 0.0, 1.0) ** exponent
    grazing = 1.0 + 2.0 * np.clip(1.0 - normal[..., 2], 0.0, 1.0) ** 3
    strength = material[..., SPECULAR] * aligned * grazing * lit * (1.0 - material[..., HAIR])
    across = np.clip(1.0 - (planes.strand @ half) ** 2, 0.0, 1.0) ** 40
    facing = np.clip(normal @ np.asarray(light.direction, np.float32) + 0.2, 0.0, 1.0)
    sheen = across * lit * material[..., HAIR] * facing * shine
    strength += 0.02 * sheen
    catch_half = _CATCH_LIGHT + _VIEW
    catch_half = (catch_half / np.linalg.norm(catch_half)).astype(np.float32)
    wet = np.nonzero(material[..., GLOSS] > _WET_GLOSS)
    strength[wet] += 1.1 * np.clip(normal[wet] @ catch_half, 0.0, 1.0) ** 220
    coloured = (1.6 * sheen)[..., None] * planes.albedo
    return (strength[..., None] + coloured) * np.asarray(light.key, np.float32)
