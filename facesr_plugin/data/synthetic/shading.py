"""From surface, textures and lights to linear RGB, pixel by pixel."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.data.synthetic.camera import Camera, Hits, sample_cylinder
from facesr_plugin.data.synthetic.canvas import Canvas
from facesr_plugin.data.synthetic.head import Surface
from facesr_plugin.data.synthetic.parameters import Light

_WRAP = (0.30, 0.16, 0.12)  # light that bleeds past the terminator, by channel
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
    """Planes sampled at every pixel, and cosines of the normal with directions of the light, (size, size) float32."""

    albedo: np.ndarray  # (size, size, 3)
    specular: np.ndarray
    gloss: np.ndarray
    hair: np.ndarray
    occlusion: np.ndarray
    right: np.ndarray  # the normal itself, viewer frame
    down: np.ndarray
    front: np.ndarray
    key: np.ndarray
    fill: np.ndarray
    half: np.ndarray  # between key light and viewer
    catch: np.ndarray  # between catch light and viewer
    strand_key: np.ndarray  # cosine of the hair's tangent with the key light
    strand_half: np.ndarray


def sample_textures(canvas: Canvas, camera: Camera, hits: Hits, light: Light) -> Shading:
    """Look the textures up for every pixel and turn the normals into cosines."""
    shape = hits.mask.shape
    half, catch = _unit(np.asarray(light.direction) + _VIEW), _unit(_CATCH_LIGHT + _VIEW)
    hang = camera.rotation[:, 1]  # the head's downward axis, along which hair lies
    directions = np.stack([*np.eye(3), light.direction, light.fill_direction, half, catch, hang])
    normal = hits.lookup(canvas.normal).reshape(-1, 3)
    length = np.sqrt(np.einsum("ij,ij->i", normal, normal))
    cosines = (directions @ camera.rotation).astype(np.float32) @ normal.T / np.maximum(length, np.float32(1e-6))
    right, down, front, key, fill, half_cos, catch_cos, hang_cos = cosines.reshape(-1, *shape)
    tangent = np.sqrt(np.maximum(1.0 - hang_cos * hang_cos, np.float32(1e-4)))
    strand_key = (np.float32(hang @ light.direction) - hang_cos * key) / tangent
    strand_half = (np.float32(hang @ half) - hang_cos * half_cos) / tangent
    material = cv2.split(hits.lookup(canvas.material))
    albedo = hits.lookup(canvas.albedo)
    return Shading(albedo, *material, right, down, front, key, fill, half_cos, catch_cos, strand_key, strand_half)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def shade(planes: Shading, light: Light, lit: np.ndarray, shine: float) -> np.ndarray:
    """Return linear RGB (size, size, 3): wrapped diffuse, fill, ambient from above, highlights, hair by its fibres."""
    fibre = np.sqrt(np.clip(1.0 - planes.strand_key**2, 0.0, 1.0)) * np.clip(planes.key * 0.7 + 0.4, 0.0, 1.0)
    reached = lit * (0.4 + 0.6 * planes.occlusion)
    filled = np.clip(planes.fill * 0.8 + 0.2, 0.0, None) * planes.occlusion
    ambient = (0.80 - 0.20 * planes.down + 0.15 * planes.front) * planes.occlusion
    strength, sheen = _highlights(planes, lit, shine)
    channels = []
    for c, wrap in enumerate(_WRAP):
        wrapped = np.clip((planes.key + wrap) / (1.0 + wrap), 0.0, None)
        diffuse = (wrapped + planes.hair * (fibre - wrapped)) * reached
        incoming = light.key[c] * (diffuse + sheen) + light.fill[c] * filled + light.ambient[c] * ambient
        channels.append(planes.albedo[..., c] * incoming + light.key[c] * strength)
    return cv2.merge(channels)


def _highlights(planes: Shading, lit: np.ndarray, shine: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the white highlights of skin, lips and eyes, and the coloured sheen of hair, (size, size)."""
    exponent = np.exp2(3.2 + 4.3 * np.clip(planes.gloss, 0.0, 1.0))
    aligned = np.clip(planes.half, 0.0, 1.0) ** exponent
    grazing = 1.0 + 2.0 * np.clip(1.0 - planes.front, 0.0, 1.0) ** 3
    strength = planes.specular * aligned * grazing * lit * (1.0 - planes.hair)
    across = np.clip(1.0 - planes.strand_half**2, 0.0, 1.0) ** 40
    sheen = np.float32(shine) * across * lit * planes.hair * np.clip(planes.key + 0.2, 0.0, 1.0)
    wet = np.nonzero(planes.gloss > _WET_GLOSS)
    strength[wet] += 1.1 * np.clip(planes.catch[wet], 0.0, 1.0) ** 220
    return strength + 0.02 * sheen, 1.6 * sheen
