"""Skin of the head: tone, blood, blotches, pores, freckles, moles, wrinkles, make-up and stubble."""

from __future__ import annotations

import numpy as np

from facesr_plugin.data.synthetic.canvas import GLOSS, OCCLUSION, SPECULAR, Canvas, Patch, fractal_noise
from facesr_plugin.data.synthetic.head import smooth_step
from facesr_plugin.data.synthetic.landmarks import jaw_drop, smooth_curve
from facesr_plugin.data.synthetic.parameters import Face, Stream, stream_rng

_BLOOD_TINT = (-0.12, 0.55, 0.42)  # what blood takes from red, green and blue
_CREASE_TINT = (0.75, 1.0, 1.0)
_BEARD_X = (0, 9, 16, 24, 32, 38, 44)  # upper edge of the beard on the cheeks
_BEARD_Y = (88, 84.5, 87.0, 88.5, 80.0, 66.0, 50.0)
_STUBBLE_TINT = (1.0, 0.93, 0.85)


def paint_skin(canvas: Canvas, face: Face) -> None:
    """Fill the albedo and material planes with bare skin."""
    identity = face.identity
    rng = stream_rng(face.seed, Stream.SKIN_DETAIL)
    canvas.albedo[:] = np.asarray(identity.skin, np.float32)
    canvas.material[..., SPECULAR] = 0.05 + 0.07 * identity.oiliness
    canvas.material[..., GLOSS] = 0.25
    canvas.material[..., OCCLUSION] = 1.0
    _paint_blood(canvas, face)
    _paint_texture(canvas, face, rng)
    _paint_spots(canvas, face, rng)
    _paint_shine(canvas, face)
    _paint_wrinkles(canvas, face)
    _paint_cavities(canvas, face)


def _gaussian(canvas: Canvas, x: float, y: float, sigma_x: float, sigma_y: float) -> tuple[Patch, np.ndarray]:
    corners = np.array([(x - 2.8 * sigma_x, y - 2.8 * sigma_y), (x + 2.8 * sigma_x, y + 2.8 * sigma_y)])
    patch = canvas.patch(corners, 0.0)
    return patch, np.exp(-0.5 * (((patch.x - x) / sigma_x) ** 2 + ((patch.y - y) / sigma_y) ** 2))


def _paint_blood(canvas: Canvas, face: Face) -> None:
    blotches, makeup = face.identity.blotches, face.identity.makeup
    cheek = 0.16 * blotches + 0.22 * makeup
    places = [(-24.0, 70.0, 9.0, 7.0, cheek), (24.0, 70.0, 9.0, 7.0, cheek), (0.0, 73.0, 6.0, 5.0, 0.16 * blotches)]
    places += [(0.0, 110.0, 9.0, 6.0, 0.07 * blotches), (-17.5, 58.0, 7.0, 3.0, 0.12), (17.5, 58.0, 7.0, 3.0, 0.12)]
    for x, y, sigma_x, sigma_y, amount in places:
        canvas.darken(*_gaussian(canvas, x, y, sigma_x, sigma_y), amount, _BLOOD_TINT)
    for side in (-1.0, 1.0):
        tired = 0.10 + 0.22 * face.identity.age
        canvas.darken(*_gaussian(canvas, side * 15.5, 57.8, 6.0, 2.6), tired, (0.8, 1.0, 0.9))


def _paint_texture(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Mottle the skin; octaves finer than a texel are left out, so a larger image has more of them."""
    shape = (canvas.rows, canvas.columns)
    scale = canvas.scale
    coarse = fractal_noise(rng, shape, [(c * scale, c * scale) for c in (14.0, 6.0)])
    strength = 0.014 + 0.022 * face.identity.blotches
    canvas.darken(canvas.everything(), coarse, strength, (0.6, 1.1, 1.0))
    cells = [c for c in (2.4, 1.1, 0.5) if c * scale >= 1.0] or [1.0 / scale]
    fine = fractal_noise(rng, shape, [(c * scale, c * scale) for c in cells])
    canvas.darken(canvas.everything(), fine, 0.015 + 0.02 * face.identity.age, (1.0, 1.0, 1.0))
    canvas.material[..., SPECULAR] *= 1.0 + 0.25 * fine


def _paint_spots(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Scatter freckles over nose and cheeks, and a few moles anywhere."""
    count = int(160 * face.identity.freckles)
    freckles = np.stack(
        [rng.normal(0.0, 17.0, count), rng.normal(68.0, 7.0, count), rng.uniform(0.25, 0.6, count)], axis=1
    )
    moles = np.stack([rng.uniform(-33, 33, 4), rng.uniform(28, 108, 4), rng.uniform(0.25, 0.6, 4)], axis=1)
    moles = moles[: rng.integers(0, 3)]
    for (x, y, radius), amount in [*((f, 0.25) for f in freckles), *((m, 0.6) for m in moles)]:
        if abs(x) < 34:
            canvas.darken(*_gaussian(canvas, x, y, radius, radius), amount, (0.7, 1.0, 1.1))


def _paint_shine(canvas: Canvas, face: Face) -> None:
    oil = 0.10 * face.identity.oiliness
    for x, y, sigma_x, sigma_y in ((0, 68, 4, 9), (0, 30, 16, 8), (-24, 63, 6, 4), (24, 63, 6, 4), (0, 110, 6, 4)):
        patch, weight = _gaussian(canvas, x, y, sigma_x, sigma_y)
        canvas.material[patch.index][..., SPECULAR] += oil * weight


def _paint_wrinkles(canvas: Canvas, face: Face) -> None:
    """Draw soft creases: nasolabial folds, forehead, frown, crow's feet, under the eyes."""
    points, age, expression = canvas.landmarks, face.identity.age, face.expression
    happy, aged = max(expression.smile, 0.0), max(age - 0.25, 0.0)
    alar, corner, brow = points[35], points[54], points[24]
    fold = np.array([alar + (1.2, -2.5), alar + (4.2, 1.8), (corner + alar) / 2 + (4.6, 0.5), corner + (4.2, 0.5)])
    _crease(canvas, [fold], 0.9, 0.10 + 0.26 * aged + 0.24 * happy)
    _crease(canvas, [np.array([corner + (0.3, 0.0), corner + (1.6, 0.7 + 2.0 * aged)])], 0.6, 0.3)
    bag = np.array([(11.0, 56.5), (16.0, 58.6), (22.0, 57.6)])
    _crease(canvas, [bag], 0.6, 0.08 + 0.22 * aged + 0.1 * happy)
    outer = points[45]
    feet = [np.array([outer + (2.5, dy), outer + (6.0, dy * 2.4 - 0.4)]) for dy in (-1.2, 0.4, 1.8)]
    _crease(canvas, feet, 0.35, 0.9 * aged * (0.3 + 0.7 * happy))
    lines = [
        np.array([(-19.0, y + 1.0), (-9.0, y), (0.0, y + 0.8), (9.0, y), (19.0, y + 1.0)])
        for y in brow[1] - (8.5, 13.5, 18.5)
    ]
    _crease(canvas, lines, 0.5, 0.45 * aged + 0.25 * max(expression.brow_raise, 0.0), mirrored=False)
    frown = np.array([points[22] + (-4.6, 1.5), points[22] + (-5.2, -4.5)])
    _crease(canvas, [frown], 0.6, 0.3 * aged + 0.4 * expression.brow_frown)


def _crease(canvas: Canvas, curves: list[np.ndarray], blur: float, amount: float, mirrored: bool = True) -> None:
    sides = (1.0, -1.0) if mirrored else (1.0,)
    for side in sides:
        smooth = [smooth_curve(c * (side, 1.0)) for c in curves]
        patch = canvas.patch(np.concatenate(smooth), 3.0 * blur + 0.5)
        coverage = canvas.stroke(patch, smooth, 1.6 * blur, blur)
        canvas.darken(patch, coverage, min(amount, 0.85), _CREASE_TINT)


def _paint_cavities(canvas: Canvas, face: Face) -> None:
    """Occlude what the ambient light hardly reaches: under the jaw, inside the ears, beside and under the nose."""
    occlusion = canvas.material[..., OCCLUSION]
    jaw = canvas.spread(canvas.head.jaw_y.astype(np.float32)[None].repeat(2, axis=0))
    below = canvas.heights[:, None] - jaw
    occlusion *= 1.0 - 0.55 * smooth_step(0.0, 7.0, below) * (1.0 - 0.6 * smooth_step(14.0, 36.0, below))
    degrees = np.abs(np.rad2deg(canvas.angles))[None]
    size = face.identity.ear_size
    bowl = np.exp(-0.5 * (((degrees - 96.0) / 2.6) ** 2 + ((canvas.heights[:, None] - 64.0) / (5.5 * size)) ** 2))
    occlusion *= 1.0 - 0.75 * bowl
    points = canvas.landmarks
    for x, y in ((points[31, 0] - 0.8, points[31, 1] - 2.0), (points[35, 0] + 0.8, points[35, 1] - 2.0)):
        patch, weight = _gaussian(canvas, x, y, 1.1, 2.6)
        occlusion[patch.index] *= 1.0 - 0.35 * weight
    patch, weight = _gaussian(canvas, 0.0, points[33, 1] + 1.4, 5.5, 1.4)
    occlusion[patch.index] *= 1.0 - 0.35 * weight
    patch, weight = _gaussian(canvas, 0.0, points[57, 1] + 2.2, 7.0, 1.6)
    occlusion[patch.index] *= 1.0 - 0.3 * weight


def beard_area(canvas: Canvas, face: Face) -> tuple[Patch, np.ndarray]:
    """Return the lower face and where a beard can grow on it, (h, w) in [0, 1]: side-burns, cheeks, lip, chin, jaw."""
    points = canvas.landmarks
    drop = jaw_drop(face.expression)
    patch = canvas.patch(np.array([(-60.0, 46.0), (60.0, 130.0)]), 0.0)
    x, y = np.abs(patch.x), patch.y
    line = np.interp(x, _BEARD_X, _BEARD_Y).astype(np.float32)
    jaw = np.interp(canvas.angles[patch.columns], canvas.head.skin.angles, canvas.head.jaw_y).astype(np.float32)
    cheeks = smooth_step(-3.0, 4.0, y - line) * smooth_step(11.0, 3.0, y - jaw[None])
    cheeks[:, np.abs(np.rad2deg(canvas.angles[patch.columns])) > 86] = 0.0
    top, base, lower, corner = points[50, 1], points[33, 1] + 0.9, points[57, 1], points[54, 0]
    bare_chin = np.exp(-(((x - 7.0) / 3.6) ** 2) - ((y - lower - 3.0) / 2.6) ** 2)
    upper_lip = smooth_step(base, base + 1.6, y) * smooth_step(
        top + 4.5, top + 1.5, y - 0.28 * np.maximum(x - 4.0, 0.0)
    )
    upper_lip *= smooth_step(17.0, 13.0, x)
    strip = np.exp(-0.5 * (((x - corner - 2.8) / 1.9) ** 2)) * smooth_step(top, top + 4, y)
    strip *= smooth_step(lower + 12, lower, y)
    area = np.maximum.reduce([cheeks * (1.0 - 0.8 * bare_chin), upper_lip, strip])
    return patch, area * smooth_step(124.0 + drop, 118.0 + drop, y)


def beard_density(canvas: Canvas, face: Face, patch: Patch) -> np.ndarray:
    """Return how dense beard and moustache grow within their area, (h, w) in [0, 1]."""
    points = canvas.landmarks
    lip = smooth_step(points[48, 1] + 4.0, points[33, 1], patch.y) * smooth_step(18.0, 14.0, np.abs(patch.x))
    return np.maximum(face.hair.beard, face.hair.moustache * lip)


def paint_stubble(canvas: Canvas, face: Face) -> None:
    """Shade the beard area with short dots of hair."""
    hair = face.hair
    if max(hair.stubble, hair.beard, hair.moustache) == 0.0:
        return
    rng = stream_rng(face.seed, Stream.BEARD_DETAIL)
    patch, area = beard_area(canvas, face)
    strength = area * np.maximum(hair.stubble, 1.35 * beard_density(canvas, face, patch))
    dots = rng.standard_normal(area.shape, np.float32) * 0.22 * min(canvas.scale, 4.0) ** 0.5
    weight = np.clip(strength * (0.42 + dots), 0.0, 0.85)
    canvas.darken(patch, weight, 1.0, _STUBBLE_TINT)
    canvas.material[patch.index][..., SPECULAR] *= 1.0 - 0.5 * area
