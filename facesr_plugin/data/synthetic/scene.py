"""Everything around the head: background, clothes, glasses, and the camera that records the picture."""

from __future__ import annotations

import math

import cv2
import numpy as np

from facesr_plugin.data.synthetic.camera import FRAME, Camera, Hits
from facesr_plugin.data.synthetic.canvas import fractal_noise
from facesr_plugin.data.synthetic.head import Head, smooth_step
from facesr_plugin.data.synthetic.landmarks import smooth_curve
from facesr_plugin.data.synthetic.parameters import Face, Glasses, Scene, Stream, stream_rng

_FIXED_BITS = 3
_LENS_CLEARANCE = 6.5
_EAR_ANGLE = np.deg2rad(93.0)
_SHADOW_SHIFT = np.array((0.3, 1.4))


def background(face: Face, size: int) -> np.ndarray:
    """Return linear RGB (size, size, 3) behind the head."""
    rng = stream_rng(face.seed, Stream.SCENE_DETAIL)
    unit = size / FRAME
    first, second, third = (np.asarray(c, np.float32) for c in face.scene.back_colours)
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    angle = rng.uniform(0.0, 2 * np.pi)
    ramp = 0.5 + axis[None] * (0.35 * math.cos(angle)) + axis[:, None] * (0.35 * math.sin(angle))
    plane = first + ramp[..., None] * (second - first)
    plane = _PAINTERS[face.scene.background](plane.astype(np.float32), third, rng, unit)
    blur = face.scene.back_blur * unit * (0.4 if face.scene.background in ("wall", "studio") else 1.0)
    return cv2.GaussianBlur(plane, (0, 0), max(blur, 0.3))


def _studio(plane: np.ndarray, colour: np.ndarray, rng: np.random.Generator, unit: float) -> np.ndarray:
    cloud = fractal_noise(rng, plane.shape[:2], [(60 * unit, 60 * unit), (25 * unit, 25 * unit), (4 * unit, 4 * unit)])
    return plane * (1.0 + 0.05 * cloud[..., None])


def _bokeh(plane: np.ndarray, colour: np.ndarray, rng: np.random.Generator, unit: float) -> np.ndarray:
    for _ in range(28):
        centre = tuple(int(v) for v in rng.uniform(0, plane.shape[0], 2))
        tint = np.clip(colour * rng.uniform(0.4, 2.2, 3), 0, 2.0)
        cv2.circle(plane, centre, int(rng.uniform(3, 13) * unit), [float(v) for v in tint], -1)
    return plane


def _wall(plane: np.ndarray, colour: np.ndarray, rng: np.random.Generator, unit: float) -> np.ndarray:
    """Lay bricks, boards or panels."""
    height, width = rng.uniform(5, 18), rng.uniform(14, 60)
    size = plane.shape[0]
    rows = int(FRAME / height) + 1
    for row in range(rows):
        offset = (row % 2) * width / 2
        for column in range(-1, int(FRAME / width) + 2):
            x, y = (column * width - offset) * unit, row * height * unit
            corner = (int(x + (width - 0.9) * unit), int(y + (height - 0.9) * unit))
            shade = plane[min(int(y), size - 1), int(np.clip(x, 0, size - 1))] * rng.uniform(0.75, 1.2)
            cv2.rectangle(plane, (int(x), int(y)), corner, [float(v) for v in shade], -1)
        line = (int(row * height * unit), int((row * height + height) * unit - 0.9 * unit))
        plane[line[1] : line[1] + max(1, int(0.9 * unit))] *= 0.6
    grain = fractal_noise(rng, plane.shape[:2], [(3 * unit, 3 * unit), (1.2 * unit, 1.2 * unit)])
    return plane * (1.0 + 0.06 * grain[..., None])


def _foliage(plane: np.ndarray, colour: np.ndarray, rng: np.random.Generator, unit: float) -> np.ndarray:
    green = np.array((0.10, 0.22, 0.04), np.float32) * rng.uniform(0.4, 1.8)
    plane = 0.25 * plane + green * 0.6
    for _ in range(260):
        centre = tuple(int(v) for v in rng.uniform(0, plane.shape[0], 2))
        axes = (int(rng.uniform(1.5, 6.0) * unit), int(rng.uniform(0.8, 2.5) * unit))
        tint = green * rng.uniform(0.2, 2.6) + 0.05 * colour
        cv2.ellipse(plane, centre, axes, rng.uniform(0, 180), 0, 360, [float(v) for v in tint], -1)
    return plane


def _room(plane: np.ndarray, colour: np.ndarray, rng: np.random.Generator, unit: float) -> np.ndarray:
    """Place furniture, frames, books: upright boxes."""
    for _ in range(26):
        x, y = rng.uniform(-10, FRAME, 2)
        width, height = rng.uniform(3, 40), rng.uniform(8, 60)
        tint = plane[0, 0] * rng.uniform(0.3, 1.4) if rng.uniform() < 0.6 else colour * rng.uniform(0.2, 1.6, 3)
        low, high = (int(x * unit), int(y * unit)), (int((x + width) * unit), int((y + height) * unit))
        cv2.rectangle(plane, low, high, [float(v) for v in tint], -1)
    return plane


def _sky(plane: np.ndarray, colour: np.ndarray, rng: np.random.Generator, unit: float) -> np.ndarray:
    size = plane.shape[0]
    blue = np.array((0.25, 0.42, 0.75), np.float32) * rng.uniform(0.6, 1.3)
    cloud = fractal_noise(rng, plane.shape[:2], [(40 * unit, 60 * unit), (18 * unit, 26 * unit), (7 * unit, 10 * unit)])
    plane = blue + np.clip(0.5 * cloud, 0.0, 0.9)[..., None] * (0.9 - blue)
    horizon = int(size * rng.uniform(0.45, 1.1))
    ridge = horizon + 5 * unit * fractal_noise(rng, (2, size), [(2, 20 * unit), (2, 6 * unit)])[0]
    ground = np.arange(size)[:, None] > ridge[None]
    return np.where(ground[..., None], 0.4 * colour, plane).astype(np.float32)


_PAINTERS = {"studio": _studio, "bokeh": _bokeh, "wall": _wall, "foliage": _foliage, "room": _room, "sky": _sky}


def _pixels(points: np.ndarray, size: int) -> np.ndarray:
    """Convert positions in the 128 frame to fixed-point pixels of a ``size`` image."""
    return np.round(((points + 0.5) * (size / FRAME) - 0.5) * 2**_FIXED_BITS).astype(np.int32)


def _fill(shape: tuple[int, int], outlines: list[np.ndarray], size: int) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [_pixels(o, size) for o in outlines], 255, cv2.LINE_AA, _FIXED_BITS)
    return mask.astype(np.float32) / 255


def _stroke(shape: tuple[int, int], curves: list[np.ndarray], thickness: float, size: int) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    width = max(1, round(thickness * size / FRAME))
    cv2.polylines(mask, [_pixels(c, size) for c in curves], False, 255, width, cv2.LINE_AA, _FIXED_BITS)
    return mask.astype(np.float32) / 255


def _shoulders(face: Face, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return the neckline, left to right, and the closed outline of the clothes, in the 128 frame."""
    neck = camera.project(np.array([(-29.0, 122.0, -4.0), (29.0, 122.0, -4.0)]))
    middle, half = neck.mean(axis=0), 0.5 * (neck[1, 0] - neck[0, 0])
    depth = {"crew": 9.0, "v": 24.0, "collar": 13.0, "suit": 20.0}[face.scene.garment]
    turn = np.linspace(-1.0, 1.0, 21)
    round_line = np.sqrt(np.maximum(1.0 - turn**2, 0.0)) if depth < 12 else 1.0 - np.abs(turn) ** 1.1
    line = middle + np.stack([turn * (half + 3.0), depth * round_line], axis=1)
    fall = 10.0 + 8.0 * face.identity.masculine
    right = middle + np.array(
        [(half + 16.0, 4.0), (half + 45.0, 26.0 - fall), (half + 75.0, 50.0 - fall), (half + 80.0, 120.0)]
    )
    right[1:3, 1] = middle[1] + np.array((12.0, 24.0)) * (1.3 - 0.5 * face.identity.masculine)
    left = np.stack([2 * middle[0] - right[:, 0], right[:, 1]], axis=1)
    return line, np.concatenate([line, right, left[::-1]])


def dress(image: np.ndarray, face: Face, camera: Camera, bare: np.ndarray) -> None:
    """Draw the clothes over neck and background.

    Args:
        image: Linear RGB (size, size, 3), changed in place.
        face: Parameters.
        camera: Camera.
        bare: (size, size) float32 in [0, 1]: 1 where clothes may cover (background, neck, hair behind the shoulders).
    """
    size = image.shape[0]
    line, outline = _shoulders(face, camera)
    mask = _fill(image.shape[:2], [outline], size) * bare
    rng = stream_rng(face.seed, Stream.CLOTH_DETAIL)
    unit = size / FRAME
    folds = fractal_noise(rng, image.shape[:2], [(40 * unit, 12 * unit), (50 * unit, 5 * unit)])
    light = face.light
    level = 0.75 * np.asarray(light.key, np.float32) + np.asarray(light.ambient, np.float32)
    axis = (((np.arange(size) + 0.5) / unit - 64.0) / 64.0).astype(np.float32)
    turned = 1.0 + 0.5 * light.direction[0] * axis[None]
    shade = (0.62 + 0.11 * folds) * turned
    colour = (
        np.asarray(face.scene.clothing, np.float32) * level * np.clip(shade, 0.08, None)[..., None].astype(np.float32)
    )
    image += mask[..., None] * (colour - image)
    seam = _stroke(image.shape[:2], [line], 1.6, size) * bare
    image *= 1.0 - 0.35 * seam[..., None]
    if face.scene.garment in ("collar", "suit"):
        _draw_collar(image, face, line, level * 0.75, bare)


def _draw_collar(image: np.ndarray, face: Face, line: np.ndarray, level: np.ndarray, bare: np.ndarray) -> None:
    size = image.shape[0]
    second = np.asarray(face.scene.clothing_second, np.float32) * level
    bottom = line[len(line) // 2]
    for side, top in ((-1.0, line[0]), (1.0, line[-1])):
        flap = np.array(
            [top + (0, -3.0), top + (6.0 * side, 2.0), bottom + (11.0 * side, 6.0), bottom + (0.5 * side, 1.0)]
        )
        mask = _fill(image.shape[:2], [flap], size) * bare
        image += mask[..., None] * (second - image)
        edge = _stroke(image.shape[:2], [np.concatenate([flap[1:], flap[:1]])], 0.6, size) * bare
        image *= 1.0 - 0.4 * edge[..., None]


def wear_glasses(image: np.ndarray, face: Face, head: Head, camera: Camera, hits: Hits) -> None:
    """Draw glasses in front of the eyes: shadow, lenses, rims, bridge and the visible parts of the arms."""
    glasses = face.glasses
    if glasses is None:
        return
    size = image.shape[0]
    rims, bridge, arms = _glasses_curves(glasses, head)
    flat = [camera.project(r) for r in rims]
    frame = [*flat, camera.project(bridge)]
    visible = [_visible_part(a, camera, hits) for a in arms]
    arms_flat = [a for a in visible if len(a) > 1]
    skin = hits.mask.astype(np.float32)
    shadow = _stroke(image.shape[:2], [c + _SHADOW_SHIFT for c in frame], glasses.rim + 0.4, size) * skin
    image *= 1.0 - 0.35 * cv2.GaussianBlur(shadow, (0, 0), 0.7 * size / FRAME)[..., None]
    _draw_lenses(image, face, glasses, flat)
    colour = np.asarray(glasses.colour, np.float32)
    rim = _stroke(image.shape[:2], frame, glasses.rim, size)
    shine = _stroke(image.shape[:2], [c + (-0.15, -0.25) for c in frame], 0.3 * glasses.rim, size)
    side = _stroke(image.shape[:2], arms_flat, 1.3 * glasses.rim, size) if arms_flat else np.zeros_like(rim)
    for mask, tint in ((side, 0.8 * colour), (rim, colour), (0.35 * shine * rim, colour * 2.0 + 0.12)):
        image += mask[..., None] * (tint - image)


def _glasses_curves(glasses: Glasses, head: Head) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    """Return rims, bridge and arms as 3-D curves."""
    points = head.landmarks
    turn = np.linspace(0.0, 2 * np.pi, 41)
    power = 2.0 / glasses.squareness
    shape = np.stack(
        [np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power, np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power],
        1,
    )
    eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
    level = 0.5 * (eyes[0][1] + eyes[1][1]) + 1.2
    depth = head.skin.points(head.angle_of(np.array((0.0, level))), np.array(level))[2] - 1.0
    rims, arms = [], []
    for side, eye in zip((-1.0, 1.0), eyes, strict=True):
        x = side * max(abs(eye[0]), glasses.width + 4.6) + shape[:, 0] * glasses.width
        y = level + shape[:, 1] * glasses.height * (1.0 - 0.12 * side * shape[:, 0] * (shape[:, 1] > 0))
        rims.append(np.stack([x, y, depth - 0.010 * x * x + 1.0], axis=1))
        outer = rims[-1][np.argmax(side * x)] + (0.0, -0.45 * glasses.height, 0.0)
        ear = head.skin.points(np.array(side * _EAR_ANGLE), np.array(level - 4.5), 1.0)
        ear[0] = side * max(abs(ear[0]), abs(outer[0]))
        arms.append(outer + np.linspace(0.0, 1.0, 24)[:, None] * (ear - outer))
    inner = [rims[0][np.argmax(rims[0][:, 0])], rims[1][np.argmin(rims[1][:, 0])]]
    bridge = smooth_curve(np.array([inner[0] + (0, -1.5, 0), (0.0, level - 2.6, depth + 1.2), inner[1] + (0, -1.5, 0)]))
    return rims, bridge, arms


def _visible_part(curve: np.ndarray, camera: Camera, hits: Hits) -> np.ndarray:
    """Project a 3-D curve and keep its leading part that is not hidden by the head."""
    size = hits.mask.shape[0]
    flat = camera.project(curve)
    pixel = np.clip(np.round((flat + 0.5) * (size / FRAME) - 0.5).astype(int), 0, size - 1)
    seen = ~hits.mask[pixel[:, 1], pixel[:, 0]] | (
        camera.rotate(curve)[:, 2] > hits.depth[pixel[:, 1], pixel[:, 0]] - 2.5
    )
    hidden = np.flatnonzero(~seen)
    return flat[: hidden[0]] if hidden.size else flat


def _draw_lenses(image: np.ndarray, face: Face, glasses: Glasses, rims: list[np.ndarray]) -> None:
    size = image.shape[0]
    mask = _fill(image.shape[:2], rims, size)
    image *= 1.0 - glasses.tint * mask[..., None]
    axis = ((np.arange(size) + 0.5) * (FRAME / size)).astype(np.float32)
    band = axis[None] * 0.7 + axis[:, None] + 40.0 * face.light.direction[0]
    glare = smooth_step(0.55, 1.0, np.sin(band * 0.16 + 6.0 * glasses.reflection))
    amount = (0.02 + 0.10 * glasses.reflection) * mask * glare
    image += amount[..., None].astype(np.float32) * np.asarray(face.light.key, np.float32)


def record(linear: np.ndarray, face: Face, size: int) -> np.ndarray:
    """Expose, reduce to ``size``, blur lightly, encode, add sensor noise: uint8 RGB (size, size, 3)."""
    scene: Scene = face.scene
    image = cv2.resize(linear, (size, size), interpolation=cv2.INTER_AREA)
    if scene.blur_px > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur_px)
    image = np.maximum(image, 0.0) * (scene.exposure * np.asarray(scene.white_balance, np.float32))
    image = image * (1.0 + 0.10 * image) / (1.0 + 0.28 * image)  # a soft shoulder keeps highlights from clipping hard
    luma = image @ np.array((0.2126, 0.7152, 0.0722), np.float32)
    image = np.maximum(luma[..., None] + scene.saturation * (image - luma[..., None]), 0.0)
    encoded = np.minimum(np.power(image, np.float32(scene.gamma / 2.2)), 1.0)
    encoded = 255.0 * (encoded + scene.contrast * (smooth_step(0.0, 1.0, encoded) - encoded))
    rng = stream_rng(face.seed, Stream.SENSOR)
    noise = rng.standard_normal((size, size, 4), np.float32)
    encoded += scene.noise * (0.8 * noise[..., 3:] + 0.6 * noise[..., :3])
    return np.clip(np.rint(encoded), 0, 255).astype(np.uint8)
