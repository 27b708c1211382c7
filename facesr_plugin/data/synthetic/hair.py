"""Head hair: where it grows, how thick it stands, and the strands painted on it.

Hair is part of the head's surface: the radius grows where hair is, and strands are drawn into the albedo plane along
a flow.
A style is a row of ``_STYLES``; shapes are distances (units) to the edge of the hair, positive inside.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.data.synthetic.canvas import GLOSS, HAIR, OCCLUSION, SPECULAR, Canvas, Patch, fractal_noise
from facesr_plugin.data.synthetic.head import Head, Surface, smooth_step
from facesr_plugin.data.synthetic.parameters import Face, Hair, Stream, stream_rng
from facesr_plugin.data.synthetic.skin import beard_area, beard_density

# Forehead, temple, side-burn, above and behind the ear, nape: height of the hairline by angle from the front (degrees).
_LINE_ANGLE = (0, 18, 34, 46, 56, 64, 70, 76, 81, 85, 90, 104, 114, 125)
_LINE_Y = (14.0, 15.0, 18.5, 25.0, 34.0, 42.0, 50.0, 60.0, 63.0, 50.0, 46.0, 46.0, 72.0, 96.0)
_RECESSION = (8.0, 9.0, 17.0, 16.0, 10.0, 4.0, 0.0, 0, 0, 0, 0, 0, 0, 0)
_CURTAIN_Y = (6.0, 14.0, 26.0, 44.0, 64.0, 84.0, 104.0, 126.0, 156.0)
_CURTAIN_ANGLE = (8.0, 26.0, 47.0, 61.0, 67.0, 66.0, 61.0, 57.0, 56.0)
_FRINGE_FROM = 0.5  # below this value hair is brushed away from the forehead
_SHADES = 20
_STRAND_POINTS = 6
_CURLY = 0.3  # curl from which hair hangs in waves
_CLOTH_STYLE = "cap"


class _Style(NamedTuple):
    """Numbers of one style; lengths in units."""

    top: float  # thickness over the skull
    side: float  # thickness at the temples
    curtain: bool  # hair hangs beside the face
    recession: float  # share of the receding hairline
    fringe: float  # how far hair may fall over the forehead
    sweep: float  # sideways part of the flow on the forehead
    length: float  # of the strands
    curl: float  # bending of the strands
    ruggedness: float  # unevenness of the outline


_STYLES = {
    "bald": _Style(0.2, 0.8, False, 5.5, 0.0, 0.0, 2.0, 0.4, 0.0),
    "buzz": _Style(0.8, 0.7, False, 0.25, 0.0, 0.0, 1.2, 0.8, 0.1),
    "short": _Style(6.0, 2.0, False, 0.2, 9.0, 0.5, 8.0, 0.5, 0.8),
    "swept": _Style(8.0, 2.5, False, 0.1, 15.0, 1.6, 15.0, 0.3, 0.7),
    "receding": _Style(3.0, 2.0, False, 1.0, 0.0, 0.4, 7.0, 0.4, 0.5),
    "slick": _Style(2.5, 1.5, False, 0.2, 0.0, 0.1, 22.0, 0.12, 0.15),
    "bob": _Style(7.0, 4.5, True, 0.0, 20.0, 0.5, 26.0, 0.12, 0.35),
    "long": _Style(6.0, 4.0, True, 0.0, 18.0, 0.7, 36.0, 0.12, 0.3),
    "wavy": _Style(8.0, 6.0, True, 0.0, 8.0, 0.9, 24.0, 0.5, 1.2),
    "afro": _Style(15.0, 10.0, False, 0.0, 0.0, 0.0, 4.0, 2.2, 1.4),
    "cap": _Style(5.0, 3.5, False, 0.0, 0.0, 0.0, 6.0, 0.1, 0.1),
}


class HairShape(NamedTuple):
    """Hair over the head: distance to its edge (rows, columns), the surface with hair, and that without locks."""

    inside: np.ndarray
    surface: Surface
    smooth: Surface


def grow_hair(head: Head, face: Face) -> HairShape:
    """Return the surface of the head with hair on it."""
    hair, style = face.hair, _STYLES[face.hair.style]
    angles, heights = head.skin.angles.astype(np.float32), head.skin.heights.astype(np.float32)
    inside = _edge_distance(hair, style, np.rad2deg(angles)[None], heights[:, None]).astype(np.float32)
    top = hair.volume * style.top
    lifted_rows = head.skin.rows_of(heights + top * smooth_step(34.0, 2.0, heights)).astype(np.float32)
    columns = np.arange(len(angles), dtype=np.float32)
    raised = cv2.remap(head.base, *np.meshgrid(columns, lifted_rows), cv2.INTER_LINEAR)
    thickness = hair.volume * style.side * smooth_step(0.0, 7.0, inside) + _waves(hair, style, heights)[:, None]
    rng = stream_rng(face.seed, Stream.HAIR)
    rough = fractal_noise(rng, inside.shape, [(22.0, 14.0), (9.0, 6.0), (40.0, 2.6)])
    ramp = 5.0 + 11.0 * smooth_step(76.0, 48.0, np.abs(np.rad2deg(angles)))[None]  # hair rises slowly from the forehead
    cover = smooth_step(-0.4, ramp if style.curtain else 11.0, inside)
    skin = np.where(head.skin.radius > 0, head.skin.radius, raised)
    if not style.curtain:  # short hair follows the neck
        raised = raised + (np.minimum(raised, skin) - raised) * smooth_step(66.0, 80.0, heights)[:, None]
    smooth = skin + (raised + thickness - skin) * cover
    uneven = smooth + style.ruggedness * hair.volume * rough * smooth_step(0.0, 9.0, inside)
    for radius in (smooth, uneven):
        radius[heights < head.skull_top - top] = -10.0
    return HairShape(inside, Surface(uneven.astype(np.float32)), Surface(smooth.astype(np.float32)))


def _waves(hair: Hair, style: _Style, heights: np.ndarray) -> np.ndarray:
    """Return how far long, curly hair swings out below the cheeks, by height."""
    if not style.curtain or style.curl < _CURLY:
        return np.zeros_like(heights)
    return 4.0 * hair.waviness * smooth_step(70.0, 120.0, heights) * np.sin(heights / 7.0 + 5.0 * hair.part)


def _edge_distance(hair: Hair, style: _Style, degrees: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance inside the hair, over signed angles (1, columns) and heights (rows, 1)."""
    if hair.style == _CLOTH_STYLE:
        return 27.0 + 0.3 * hair.hairline - 0.0016 * (np.abs(degrees) - 40.0) * np.abs(degrees) - y
    away = np.abs(degrees)
    line = np.interp(away, _LINE_ANGLE, _LINE_Y) + hair.hairline * (away < 60)
    line = line - style.recession * np.interp(away, _LINE_ANGLE, _RECESSION)
    side = smooth_step(-34.0, 34.0, (degrees - 26.0 * hair.part) * (1.0 if hair.part > 0 else -1.0) * -1.0)
    reach = style.fringe * max(hair.fringe - _FRINGE_FROM, 0.0) / (1.0 - _FRINGE_FROM)
    front = smooth_step(62.0, 30.0, away)
    line = line + reach * front * (0.35 + 0.65 * side if style.sweep > 0.45 else 1.0)
    inside = line - y
    if style.curtain:
        opening = np.interp(y, _CURTAIN_Y, _CURTAIN_ANGLE) + 9.0 * (hair.waviness - 0.5) - 10.0 * (hair.volume - 1.0)
        shifted = np.abs(degrees - 14.0 * hair.part * smooth_step(50.0, 10.0, y))
        curtain = (shifted - opening) * 0.85
        end = 90.0 + 22.0 * hair.length if hair.style == "bob" else 118.0 + 45.0 * hair.length
        inside = np.maximum(inside, np.minimum(curtain, end - y))
    return inside


def paint_hair(canvas: Canvas, face: Face, shape: HairShape) -> None:
    """Paint hair (or a cap), its shadow on the skin, and the beard."""
    inside = canvas.spread(shape.inside)
    rng = stream_rng(face.seed, Stream.HAIR_DETAIL)
    soft = 0.0 if face.hair.style == _CLOTH_STYLE else 1.0
    ragged = fractal_noise(
        rng, inside.shape, [(5 * canvas.scale, 1.0 * canvas.scale), (14 * canvas.scale, 9 * canvas.scale)]
    )
    inside = inside + soft * 1.1 * ragged
    cover = smooth_step(-0.3 - 0.8 * soft, 0.6 + 2.6 * soft, inside)
    shadow = cv2.GaussianBlur(cover, (0, 0), 2.2 * canvas.scale)
    canvas.material[..., OCCLUSION] *= 1.0 - 0.5 * shadow * (1.0 - cover)
    if face.hair.style == _CLOTH_STYLE:
        _paint_cloth(canvas, face, cover)
        return
    style = _STYLES[face.hair.style]
    if face.hair.style in ("buzz", "bald"):
        _paint_cropped(canvas, face, inside, rng)
        return
    shade = fractal_noise(
        rng, inside.shape, [(30 * canvas.scale, 5 * canvas.scale), (40 * canvas.scale, 1.6 * canvas.scale)]
    )
    base = np.asarray(face.hair.colour, np.float32) * np.clip(0.55 + 0.12 * shade, 0.2, 1.0)[..., None]
    canvas.blend(canvas.everything(), cover, base)
    _set_hair_material(canvas, canvas.everything(), cover)
    curves, tones = _strands(canvas, face, style, inside, rng)
    _draw_strands(canvas, canvas.everything(), curves, tones, np.asarray(face.hair.colour), 0.9)
    depth = smooth_step(6.0, 0.0, inside) * cover
    canvas.material[..., OCCLUSION] *= 1.0 - 0.15 * depth


def _set_hair_material(canvas: Canvas, patch: Patch, cover: np.ndarray) -> None:
    material = canvas.material[patch.index]
    material[..., HAIR] = np.maximum(material[..., HAIR], cover)
    material[..., GLOSS] *= 1.0 - 0.5 * cover
    material[..., SPECULAR] *= 1.0 - 0.8 * cover


def _paint_cloth(canvas: Canvas, face: Face, cover: np.ndarray) -> None:
    """Paint a knitted cap."""
    row, column = np.mgrid[0 : canvas.rows, 0 : canvas.columns].astype(np.float32)
    ribs = np.sin(column * (2 * np.pi / (2.4 * canvas.scale))) * (
        0.7 + 0.3 * np.sin(row * (2 * np.pi / (1.9 * canvas.scale)))
    )
    colour = np.asarray(face.hair.cloth, np.float32) * (0.85 + 0.22 * ribs)[..., None]
    canvas.blend(canvas.everything(), cover, colour)
    canvas.material[..., SPECULAR] *= 1.0 - cover
    canvas.material[..., OCCLUSION] *= 1.0 - 0.25 * cover * (0.5 - 0.5 * ribs)


def _paint_cropped(canvas: Canvas, face: Face, inside: np.ndarray, rng: np.random.Generator) -> None:
    """Darken the scalp with very short hair."""
    dense = smooth_step(-1.0, 5.0, inside) * (0.75 if face.hair.style == "buzz" else 0.6)
    dots = rng.standard_normal(inside.shape, np.float32) * 0.25 * min(canvas.scale, 4.0) ** 0.5
    canvas.blend(canvas.everything(), np.clip(dense * (1.0 + dots), 0.0, 0.95), face.hair.colour)
    _set_hair_material(canvas, canvas.everything(), 0.6 * dense)


def _strands(
    canvas: Canvas, face: Face, style: _Style, inside: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Grow strands from random places of the hair along its flow.

    Returns:
        ``(N, points, 2)`` texels (column, row), and the tone of each strand in [0, 1].
    """
    candidates = int(5200 * canvas.scale / 2 * np.clip(26.0 / style.length, 0.8, 2.5))
    place = rng.random((candidates, 2), np.float32) * np.array((canvas.columns - 1, canvas.rows - 1), np.float32)
    grow = inside[place[:, 1].astype(int), place[:, 0].astype(int)]
    keep = grow > rng.uniform(-0.3, 1.5, candidates)
    place = place[keep]
    turn = rng.standard_normal((len(place), _STRAND_POINTS), np.float32).cumsum(axis=1) * 0.22 * style.curl
    turn += style.curl * rng.normal(0.0, 0.35, (len(place), 1))
    phase = 2.5 * canvas.angles[place[:, 0].astype(int)] + 6.0 * face.hair.part
    brushed_back = not style.curtain and face.hair.fringe < _FRINGE_FROM
    step = (
        (-1.0 if brushed_back else 1.0)
        * style.length
        * canvas.scale
        / (_STRAND_POINTS - 1)
        * rng.uniform(0.5, 1.2, len(place))
    )
    clump = np.sin(place[:, 0] / canvas.scale * 1.7 + 3.0 * np.sin(place[:, 0] / canvas.scale * 0.31))
    tones = np.clip(0.5 + 0.17 * clump + rng.normal(0.0, 0.2, len(place)), 0.0, 1.0)
    points = [place]
    for i in range(1, _STRAND_POINTS):
        here = points[-1]
        lean = _lean(canvas, face, style, here) + turn[:, i]
        if style.curtain:
            lean = lean + face.hair.waviness * style.curl * 1.4 * np.sin(here[:, 1] / canvas.scale / 4.5 + phase)
        points.append(here + step[:, None] * np.stack([np.sin(lean), np.cos(lean)], axis=1))
    return np.stack(points, axis=1), tones


def _lean(canvas: Canvas, face: Face, style: _Style, texels: np.ndarray) -> np.ndarray:
    """Return the direction of the flow, radians from straight down towards the right."""
    degrees = np.interp(texels[:, 0], (0, canvas.columns - 1), np.rad2deg(canvas.angles[[0, -1]]))
    y = np.interp(texels[:, 1], (0, canvas.rows - 1), canvas.heights[[0, -1]])
    parting = 26.0 * face.hair.part
    front = smooth_step(52.0, 8.0, y) * smooth_step(80.0, 40.0, np.abs(degrees))
    away = 1.0 if face.hair.fringe > _FRINGE_FROM or not style.curtain else 2.4
    direction = np.tanh((degrees - parting) / (5.0 if style.curtain else 14.0))
    if style.sweep > 1.2:
        direction = -np.sign(face.hair.part) * np.ones_like(degrees)
    return front * np.minimum(style.sweep * 0.8 * away, 1.35) * direction


def _draw_strands(
    canvas: Canvas, patch: Patch, curves: np.ndarray, tones: np.ndarray, colour: np.ndarray, opacity: float
) -> None:
    """Draw strands (N, points, 2), texels of a patch, on albedo and material: dark ones first, as 8-bit roots."""
    area = canvas.albedo[patch.index]
    layer = np.zeros((*area.shape[:2], 4), np.uint8)
    for channel in range(3):
        layer[..., channel] = cv2.sqrt(np.clip(area[..., channel], 0.0, 1.0)) * 255
    fixed = np.round(curves * 8).astype(np.int32)
    shade = np.minimum((tones * _SHADES).astype(int), _SHADES - 1)
    for index in range(_SHADES):
        tone = 0.3 + 1.75 * index / _SHADES
        value = [float(v) for v in 255 * np.sqrt(np.clip(colour * tone, 0.0, 1.0))]
        cv2.polylines(layer, list(fixed[shade == index]), False, (*value, 255.0), 1, cv2.LINE_AA, 3)
    decoded = np.linspace(0.0, 1.0, 256, dtype=np.float32)
    drawn = [np.take(decoded**2, layer[..., channel]) for channel in range(3)]
    coverage = np.float32(opacity) * np.take(decoded, layer[..., 3])
    canvas.blend(patch, np.minimum(coverage * 4.0, opacity), np.dstack(drawn))
    _set_hair_material(canvas, patch, coverage)


def paint_beard(canvas: Canvas, face: Face) -> None:
    """Draw a beard and a moustache strand by strand."""
    if max(face.hair.beard, face.hair.moustache) == 0.0:
        return
    rng = stream_rng(face.seed, Stream.BEARD_DETAIL)
    patch, area = beard_area(canvas, face)
    dense = area * beard_density(canvas, face, patch)
    count = int(2600 * canvas.scale)
    place = rng.random((count, 2), np.float32) * (dense.shape[1] - 1, dense.shape[0] - 1)
    column, row = place.T.astype(int)
    keep = dense[row, column] > rng.uniform(0.15, 1.0, count)
    x = patch.x[row, column][keep]
    place = place[keep]
    lean = np.clip(x / 24.0, -0.9, 0.9) * 0.8 + rng.normal(0.0, 0.35, len(place))
    steps = np.linspace(0.0, 1.0, 4)[None, :, None] * rng.uniform(2.0, 5.0, (len(place), 1, 1)) * canvas.scale
    curves = place[:, None] + steps * np.stack([np.sin(lean), np.cos(lean)], axis=1)[:, None]
    colour = np.asarray(face.hair.colour) * (0.8, 0.74, 0.7)
    tones = np.clip(rng.normal(0.4, 0.22, len(place)), 0.0, 1.0)
    _draw_strands(canvas, patch, curves, tones, colour, min(0.45 + 0.05 * canvas.scale, 0.85))
