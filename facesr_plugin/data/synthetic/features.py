"""Eyes, brows, nostrils and mouth, painted through the landmarks."""

from __future__ import annotations

import numpy as np

from facesr_plugin.data.synthetic.canvas import HAIR, Canvas, Patch
from facesr_plugin.data.synthetic.head import smooth_step
from facesr_plugin.data.synthetic.landmarks import eye_outline, lip_outlines, smooth_curve
from facesr_plugin.data.synthetic.parameters import Face, Stream, stream_rng

_SCLERA = np.array((0.74, 0.69, 0.66), np.float32)
_CARUNCLE = np.array((0.50, 0.22, 0.19), np.float32)
_LASHES = np.array((0.012, 0.009, 0.008), np.float32)
_CREASE_TINT = (0.85, 1.0, 1.0)
_IRIS_RADIUS, _PUPIL_RADIUS = 3.25, 1.2
_EYEBALL_RADIUS = 7.5
_EYE_SPECULAR, _EYE_GLOSS = 0.7, 1.0
_CAVITY = np.array((0.055, 0.013, 0.011), np.float32)
_TONGUE = np.array((0.33, 0.095, 0.085), np.float32)
_TEETH = np.array((0.66, 0.61, 0.52), np.float32)
_TOOTH_EDGES = np.array((0.0, 4.3, 7.6, 10.8, 13.4))


def paint_eyes(canvas: Canvas, face: Face) -> None:
    """Paint both eyes, their lids, creases and lashes."""
    rng = stream_rng(face.seed, Stream.EYE_DETAIL)
    fibres = rng.standard_normal(48)
    for first in (36, 42):
        outline = eye_outline(canvas.landmarks, first)
        patch = canvas.patch(outline, 6.0)
        _paint_lids(canvas, face, patch, first)
        opening = canvas.fill(patch, [outline])
        _paint_eyeball(canvas, face, patch, first, opening, fibres)
        _paint_lashes(canvas, face, patch, first, rng)


def _lids(canvas: Canvas, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper and lower lid as open curves, from left to right."""
    eye = canvas.landmarks[first : first + 6]
    return smooth_curve(eye[:4]), smooth_curve(eye[[0, 5, 4, 3]])


def _paint_lids(canvas: Canvas, face: Face, patch: Patch, first: int) -> None:
    upper, lower = _lids(canvas, first)
    centre = canvas.landmarks[first : first + 6].mean(axis=0)
    makeup, opened = face.identity.makeup, face.expression.eye_open
    rise = 1.3 + 1.0 * opened
    bow = np.sin(np.linspace(0.05, np.pi - 0.05, len(upper)))[:, None]
    crease = upper + bow * (0.0, -rise) + (upper - centre) * (0.10, 0.0)
    canvas.darken(patch, canvas.stroke(patch, [crease], 0.7, 0.35), 0.45, _CREASE_TINT)
    if makeup:
        shade = canvas.fill(patch, [np.concatenate([upper, crease[::-1] + (0.0, -1.0)])], 1.2)
        canvas.darken(patch, shade, 0.5 * makeup, tuple(1.0 - np.array(face.identity.lip_colour)))
    canvas.darken(patch, canvas.stroke(patch, [lower + (0.0, 0.35)], 1.2, 0.5), 0.25, (0.6, 1.0, 0.95))


def _paint_eyeball(
    canvas: Canvas, face: Face, patch: Patch, first: int, opening: np.ndarray, fibres: np.ndarray
) -> None:
    eye = canvas.landmarks[first : first + 6]
    upper, lower = _lids(canvas, first)
    left, right = eye[0], eye[3]
    middle = 0.5 * (left + right)
    half = 0.5 * (right[0] - left[0])
    along = (patch.x - middle[0]) / half
    colour = _SCLERA * (1.0 - 0.38 * np.clip(np.abs(along), 0, 1) ** 2.2)[..., None]
    inner = right if first == 36 else left
    pink = np.exp(-0.5 * ((patch.x - inner[0]) / 1.1) ** 2)[..., None]
    colour = colour + pink * (_CARUNCLE - colour)
    iris = middle + np.array(face.expression.gaze) + (0.0, -0.55)
    _paint_iris(canvas, face, patch, colour, iris, fibres)
    lid_y = np.interp(patch.x, upper[:, 0], upper[:, 1])
    under_y = np.interp(patch.x, lower[:, 0], lower[:, 1])
    shadow = 0.48 * np.exp(-np.clip(patch.y - lid_y, 0, None) / 1.0) + 0.15 * np.exp(
        -np.clip(under_y - patch.y, 0, None) / 0.5
    )
    colour *= (1.0 - shadow)[..., None]
    canvas.blend(patch, opening, colour)
    canvas.set_material(patch, opening, _EYE_SPECULAR, _EYE_GLOSS)
    _bulge(canvas, patch, middle, opening)


def _paint_iris(
    canvas: Canvas, face: Face, patch: Patch, colour: np.ndarray, centre: np.ndarray, fibres: np.ndarray
) -> None:
    dx, dy = patch.x - centre[0], patch.y - centre[1]
    distance = np.sqrt(dx * dx + dy * dy)
    edge = 0.5 / canvas.scale
    turn = (np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * len(fibres)
    fibre = np.interp(turn, np.arange(len(fibres) + 1), np.append(fibres, fibres[0]))
    ring = 1.0 + 0.35 * smooth_step(2.3, 1.3, distance) - 0.65 * smooth_step(2.5, _IRIS_RADIUS, distance)
    iris = np.asarray(face.identity.iris, np.float32) * ((1.0 + 0.22 * fibre) * ring * (1.0 + 0.12 * dy))[..., None]
    weight = smooth_step(_IRIS_RADIUS + 0.25 + edge, _IRIS_RADIUS - 0.2 - edge, distance)[..., None]
    colour += weight * (iris - colour)
    pupil = smooth_step(_PUPIL_RADIUS + 0.1 + edge, _PUPIL_RADIUS - 0.1 - edge, distance)[..., None]
    colour += pupil * (0.004 - colour)


def _bulge(canvas: Canvas, patch: Patch, centre: np.ndarray, opening: np.ndarray) -> None:
    """Turn the normals of the opening into those of a ball."""
    side = (patch.x - centre[0]) / _EYEBALL_RADIUS + 0.12 * np.sign(centre[0])
    down = np.broadcast_to((patch.y - centre[1]) / _EYEBALL_RADIUS, side.shape)
    front = np.sqrt(np.maximum(1.0 - side**2 - down**2, 0.05))
    ball = np.stack([side, down, front], axis=-1)
    area = canvas.normal[patch.index]
    area += opening[..., None] * (ball - area)


def _paint_lashes(canvas: Canvas, face: Face, patch: Patch, first: int, rng: np.random.Generator) -> None:
    upper, lower = _lids(canvas, first)
    feminine = 1.0 - face.identity.masculine
    width = 0.55 + 0.45 * feminine + 0.4 * face.identity.makeup
    canvas.blend(patch, 0.9 * canvas.stroke(patch, [upper + (0.0, -0.15)], width, 0.15), _LASHES)
    canvas.blend(patch, (0.3 + 0.4 * face.identity.makeup) * canvas.stroke(patch, [lower], 0.4, 0.15), _LASHES)
    outward = -1.0 if first == 36 else 1.0
    share = np.linspace(0.08, 0.97, 22) if outward > 0 else np.linspace(0.03, 0.92, 22)
    roots = upper[np.round(share * (len(upper) - 1)).astype(int)]
    lean = (roots[:, 0] - upper[:, 0].mean()) / 6.5
    length = (0.9 + 1.5 * feminine) * rng.uniform(0.7, 1.1, len(roots)) * (0.75 + 0.35 * outward * lean)
    tips = roots + np.stack([0.65 * lean + 0.25 * outward, -0.75 * np.ones_like(lean)], axis=1) * length[:, None]
    bends = 0.5 * (roots + tips) + np.stack([0.12 * lean, 0.18 * length], axis=1)
    curves = list(np.stack([roots, bends, tips], axis=1))
    canvas.blend(patch, (0.35 + 0.4 * feminine) * canvas.stroke(patch, curves, 0.22), _LASHES)


def paint_brows(canvas: Canvas, face: Face) -> None:
    """Draw the brows hair by hair along points 17 to 26."""
    rng = stream_rng(face.seed, Stream.BROW_DETAIL)
    identity, colour = face.identity, face.hair.brow_colour
    for points, outward in ((canvas.landmarks[17:22][::-1], -1.0), (canvas.landmarks[22:27], 1.0)):
        centre = smooth_curve(points, 12)
        share = np.linspace(0.0, 1.0, len(centre))
        half = identity.brow_thickness * 1.3 * np.interp(share, (0, 0.1, 0.55, 1), (0.3, 0.9, 0.85, 0.22))
        patch = canvas.patch(centre, 4.5)
        band = np.concatenate([centre - np.stack([0 * half, half], 1), (centre + np.stack([0 * half, half], 1))[::-1]])
        canvas.blend(patch, 0.45 * canvas.fill(patch, [band], 0.5), colour)
        count = int(110 * identity.brow_thickness * max(1.0, 0.5 * canvas.scale))
        where = rng.uniform(0.0, 1.0, count) ** 0.85
        index = np.round(where * (len(centre) - 1)).astype(int)
        roots = centre[index] + np.stack([np.zeros(count), rng.uniform(-1, 1, count) * half[index]], 1)
        rise = np.interp(where, (0.0, 0.25, 0.6, 1.0), (-1.25, -0.75, -0.25, 0.25)) + rng.normal(0, 0.15, count)
        sides = np.interp(where, (0.0, 0.2, 1.0), (0.25, 0.8, 1.0)) * outward
        length = rng.uniform(1.3, 2.9, count) * np.interp(where, (0, 0.2, 1), (0.7, 1.0, 0.8))
        tips = roots + np.stack([sides, rise], 1) * length[:, None]
        strands = canvas.stroke(patch, list(np.stack([roots, tips], axis=1)), 0.28)
        canvas.blend(patch, 0.75 * strands, colour)
        canvas.set_material(patch, strands, 0.02, 0.2)


def paint_nose(canvas: Canvas, face: Face) -> None:
    """Darken the nostrils and the crease around the wings of the nose."""
    points = canvas.landmarks
    for side, wing in ((-1.0, points[31]), (1.0, points[35])):
        base = points[33, 1]
        x = 0.53 * wing[0]
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        outline = np.stack(
            [
                x + 1.75 * np.cos(turn) * abs(wing[0]) / 6.7,
                base - 0.9 - 0.25 * side * np.cos(turn) + 0.75 * np.sin(turn),
            ],
            1,
        )
        patch = canvas.patch(outline, 3.0)
        canvas.darken(patch, canvas.fill(patch, [outline], 0.3), 0.86, (0.93, 1.0, 1.0))
        crease = smooth_curve(
            np.array(
                [
                    wing + (0.9 * side, -4.6),
                    wing + (1.7 * side, -2.4),
                    wing + (0.9 * side, -0.3),
                    wing + (-1.2 * side, 0.8),
                ]
            )
        )
        patch = canvas.patch(crease, 2.5)
        canvas.darken(patch, canvas.stroke(patch, [crease], 0.9, 0.5), 0.30, _CREASE_TINT)


def paint_mouth(canvas: Canvas, face: Face) -> None:
    """Paint the lips, and what shows between them."""
    outer, inner = lip_outlines(canvas.landmarks)
    patch = canvas.patch(outer, 4.0)
    rng = stream_rng(face.seed, Stream.LIP_DETAIL)
    lips = canvas.fill(patch, [outer], 0.30 - 0.15 * face.identity.makeup)
    middle = canvas.landmarks[[62, 66], 1].mean()
    folds = rng.standard_normal(patch.x.shape[1]).astype(np.float32)[None]
    folds = np.repeat(folds, patch.x.shape[0], axis=0) * (
        0.05 + 0.03 * rng.standard_normal(patch.x.shape).astype(np.float32)
    )
    tone = 1.0 - 0.17 * smooth_step(middle + 0.8, middle - 0.8, patch.y) + folds
    canvas.blend(patch, 0.92 * lips, np.asarray(face.identity.lip_colour, np.float32) * tone[..., None])
    canvas.set_material(patch, lips, 0.10 + 0.22 * face.identity.lip_gloss, 0.6)
    canvas.material[patch.index][..., HAIR] *= 1.0 - lips
    _paint_inside(canvas, face, patch, inner)
    corners = [canvas.landmarks[[48, 60]], canvas.landmarks[[64, 54]]]
    canvas.darken(patch, canvas.stroke(patch, corners, 1.0, 0.4), 0.6, _CREASE_TINT)
    seam = [smooth_curve(canvas.landmarks[60:65])]
    canvas.blend(patch, 0.75 * canvas.stroke(patch, seam, 0.5, 0.22), _CAVITY)


def _paint_inside(canvas: Canvas, face: Face, patch: Patch, inner: np.ndarray) -> None:
    points = canvas.landmarks
    opening = canvas.fill(patch, [inner], 0.12)
    upper = smooth_curve(points[60:65])
    lower = smooth_curve(points[[60, 67, 66, 65, 64]])
    top = np.interp(patch.x, upper[:, 0], upper[:, 1])
    bottom = np.interp(patch.x, lower[:, 0], lower[:, 1])
    gap = points[66, 1] - points[62, 1]
    half = points[64, 0]
    colour = np.broadcast_to(_CAVITY, (*patch.x.shape, 3)).copy()
    tongue = smooth_step(0.45 * gap, 0.75 * gap, patch.y - points[62, 1] + 0.02 * patch.x**2) * (gap > 3.0)
    colour += tongue[..., None] * (_TONGUE * 0.7 - colour)
    shown = min(0.82 * gap, 2.2 + 3.4 * max(face.expression.smile, 0.25))
    bite = np.interp(np.abs(patch.x), _TOOTH_EDGES, (1.0, 0.93, 0.98, 0.88, 0.8)) * shown
    edge = 0.3 + 0.5 / canvas.scale
    teeth = smooth_step(edge, -edge, patch.y - points[62, 1] - bite + 0.012 * patch.x**2)
    between = np.min(np.abs(np.abs(patch.x)[..., None] - _TOOTH_EDGES), axis=-1)
    enamel = 1.0 - 0.38 * np.exp(-((between / (0.16 + 0.25 / canvas.scale)) ** 2))
    enamel *= (1.0 - 0.65 * np.clip(np.abs(patch.x) / half, 0, 1) ** 2.5) * (
        1.0 - 0.45 * np.exp(-np.clip(patch.y - top, 0, None) / 0.8)
    )
    colour += teeth[..., None] * (_TEETH * enamel[..., None] - colour)
    colour *= (1.0 - 0.5 * np.exp(-np.clip(bottom - patch.y, 0, None) / 0.6))[..., None]
    canvas.blend(patch, opening, colour)
    canvas.set_material(patch, opening, 0.12, 0.8)
