"""From a seed to a picture and its landmarks."""

from __future__ import annotations

from operator import index

import numpy as np

from facesr_plugin.data.synthetic.camera import FRAME, Camera, Hits, aligned_camera, trace
from facesr_plugin.data.synthetic.canvas import Canvas
from facesr_plugin.data.synthetic.features import paint_brows, paint_eyes, paint_mouth, paint_nose
from facesr_plugin.data.synthetic.hair import HairShape, grow_hair, paint_beard, paint_hair
from facesr_plugin.data.synthetic.head import Head, build_head, smooth_step
from facesr_plugin.data.synthetic.landmarks import rest_landmarks
from facesr_plugin.data.synthetic.parameters import Face
from facesr_plugin.data.synthetic.sampling import sample_face
from facesr_plugin.data.synthetic.scene import background, dress, record, wear_glasses
from facesr_plugin.data.synthetic.shading import sample_textures, shade, shadow_map, surface_normals
from facesr_plugin.data.synthetic.skin import paint_skin, paint_stubble

MIN_SIZE, MAX_SIZE = 32, 1024
_SUPERSAMPLING = 1.5


def generate_face(seed: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Draw one face. The same seed, size and library versions give the same bytes; no global random state is used.

    The 68 landmarks are points of the drawn surface, in iBUG order: 0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes,
    48-67 mouth. A jaw point that the turned head hides gives way to the visible contour of the face at its height on
    the head. All other points, hidden or not (behind hair, glasses or the nose), are the true 3-D points, projected.

    Args:
        seed: Not negative; every seed is another person, pose, light and scene. A face keeps its look at all sizes.
        size: Side of the square image, 32 to 1024 pixels. Framing is that of aligned 128x128 faces.

    Returns:
        The image, ``(size, size, 3)`` uint8 RGB, and the landmarks, ``(68, 2)`` float32, (x, y) in its pixels, pixel
        centres at integers.

    Raises:
        TypeError: If ``seed`` or ``size`` is not an integer.
        ValueError: If ``seed`` is negative or ``size`` out of range.
    """
    seed, size = _checked_integer("seed", seed), _checked_integer("size", size)
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size must be from {MIN_SIZE} to {MAX_SIZE}, got {size}")
    face = sample_face(seed)
    head = build_head(face.identity, face.expression, rest_landmarks(face.identity, face.expression))
    camera, landmarks = _place(face, head)
    image = record(_render(face, head, camera, round(size * _SUPERSAMPLING)), face, size)
    return image, ((landmarks + 0.5) * (size / FRAME) - 0.5).astype(np.float32)


def _checked_integer(name: str, value: int) -> int:
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def _place(face: Face, head: Head) -> tuple[Camera, np.ndarray]:
    """Align the camera to the face; return it with the landmarks in units of the 128 frame."""
    rest = head.landmarks
    points = head.skin.points(head.angle_of(rest), rest[:, 1])
    anchors = np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])
    camera = aligned_camera(face.pose, anchors)
    points[:17] = head.jaw_points(camera.rotation[0])
    return camera, camera.project(points)


def _render(face: Face, head: Head, camera: Camera, size: int) -> np.ndarray:
    """Return linear RGB (size, size, 3)."""
    hair = grow_hair(head, face)
    canvas = _paint(face, head, hair, size / FRAME)
    hits = trace(hair.surface, camera, size)
    planes = sample_textures(canvas, camera, hits, face.light)
    shaded = shade(planes, face.light, shadow_map(hair.surface, camera, hits, face.light), face.hair.shine)
    image = background(face, size)
    np.copyto(image, shaded, where=hits.mask[..., None])
    dress(image, face, camera, _bare(face, head, hits))
    wear_glasses(image, face, head, camera, hits)
    return image


def _paint(face: Face, head: Head, hair: HairShape, scale: float) -> Canvas:
    canvas = Canvas(head, scale)
    canvas.normal[:] = canvas.spread(surface_normals(hair.smooth))
    paint_skin(canvas, face)
    paint_stubble(canvas, face)
    paint_nose(canvas, face)
    paint_beard(canvas, face)
    paint_mouth(canvas, face)
    paint_eyes(canvas, face)
    paint_brows(canvas, face)
    paint_hair(canvas, face, hair)
    return canvas


def _bare(face: Face, head: Head, hits: Hits) -> np.ndarray:
    """Return where clothes may be drawn: not over the face, and not over long hair that falls in front."""
    jaw = hits.lookup(head.jaw_y.astype(np.float32)[None].repeat(2, axis=0))
    neck = smooth_step(6.0, 9.0, hits.y - jaw)
    return np.where(hits.mask, neck, 1.0).astype(np.float32)
