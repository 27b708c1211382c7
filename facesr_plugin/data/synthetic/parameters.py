"""Random description of one synthetic face: everything that does not depend on the image size.

Each group of parameters draws from its own random stream, so that a new parameter in one group leaves the others alone.
Lengths are in *units*: one unit is one pixel of an upright 128x128 image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Colour = tuple[float, float, float]


class Stream:
    """Numbers of the independent random streams of one face."""

    IDENTITY, EXPRESSION, POSE, LIGHT, HAIR, SCENE, GLASSES = range(7)
    SKIN_DETAIL, HAIR_DETAIL, BEARD_DETAIL, EYE_DETAIL, BROW_DETAIL, LIP_DETAIL, SCENE_DETAIL, CLOTH_DETAIL, SENSOR = (
        range(7, 16)
    )


def stream_rng(seed: int, stream: int) -> np.random.Generator:
    """Return the generator of one random stream of the face ``seed``."""
    return np.random.default_rng((seed, stream))


@dataclass(frozen=True)
class Identity:
    """Shape of the head at rest, and skin. Factors are relative to an average face."""

    masculine: float
    age: float
    face_width: float
    jaw_width: float
    chin_drop: float
    eye_size: float
    eye_height: float
    eye_slant: float
    eye_spacing: float
    brow_height: float
    brow_thickness: float
    brow_arch: float
    nose_length: float
    nose_width: float
    nose_height: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    cheek: float
    ear_size: float
    asymmetry: float
    skin: Colour
    skin_darkness: float
    lip_colour: Colour
    lip_gloss: float
    iris: Colour
    freckles: float
    blotches: float
    oiliness: float
    makeup: float


@dataclass(frozen=True)
class Expression:
    """Deformation of the rest shape: 0 is neutral."""

    smile: float
    mouth_open: float
    pucker: float
    brow_raise: float
    brow_frown: float
    eye_open: float
    gaze: tuple[float, float]


@dataclass(frozen=True)
class Pose:
    """Head rotation in degrees, and the jitter of the alignment (units, degrees, factor)."""

    yaw: float
    pitch: float
    roll: float
    shift: tuple[float, float]
    zoom: float


@dataclass(frozen=True)
class Light:
    """Key light, fill and ambient, linear RGB; directions are unit vectors: x right, y down, z to the viewer."""

    direction: tuple[float, float, float]
    key: Colour
    fill_direction: tuple[float, float, float]
    fill: Colour
    ambient: Colour
    softness: float


@dataclass(frozen=True)
class Hair:
    """Head hair, brows and beard."""

    style: str
    colour: Colour
    brow_colour: Colour
    volume: float
    hairline: float
    part: float
    length: float
    waviness: float
    fringe: float
    grey: float
    shine: float
    moustache: float
    beard: float
    stubble: float
    cloth: Colour


@dataclass(frozen=True)
class Glasses:
    """Shape of a pair of glasses."""

    width: float
    height: float
    squareness: float
    rim: float
    colour: Colour
    tint: float
    reflection: float


@dataclass(frozen=True)
class Scene:
    """What is around the head, and how the camera records it."""

    background: str
    back_colours: tuple[Colour, Colour, Colour]
    back_blur: float
    clothing: Colour
    clothing_second: Colour
    garment: str
    saturation: float
    exposure: float
    gamma: float
    contrast: float
    white_balance: Colour
    blur_px: float
    noise: float


class Face(NamedTuple):
    """All parameters of one face."""

    seed: int
    identity: Identity
    expression: Expression
    pose: Pose
    light: Light
    hair: Hair
    glasses: Glasses | None
    scene: Scene
