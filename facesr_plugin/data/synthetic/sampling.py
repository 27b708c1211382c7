"""Draws the parameters of a face: the distributions of shapes, colours, expressions, poses, lights and scenes."""

from __future__ import annotations

import numpy as np

from facesr_plugin.data.synthetic.parameters import (
    Colour,
    Expression,
    Face,
    Glasses,
    Hair,
    Identity,
    Light,
    Pose,
    Scene,
    Stream,
    stream_rng,
)

# Linear-light RGB albedos, light to dark.
SKIN_TONES = np.array(
    [
        (0.80, 0.56, 0.46),
        (0.74, 0.49, 0.37),
        (0.64, 0.41, 0.29),
        (0.50, 0.31, 0.20),
        (0.34, 0.19, 0.12),
        (0.19, 0.10, 0.065),
    ]
)
HAIR_COLOURS = np.array(
    [
        (0.018, 0.014, 0.013),
        (0.035, 0.022, 0.015),
        (0.075, 0.040, 0.022),
        (0.14, 0.075, 0.038),
        (0.36, 0.23, 0.11),
        (0.55, 0.41, 0.22),
        (0.26, 0.085, 0.03),
        (0.33, 0.32, 0.31),
        (0.62, 0.61, 0.59),
    ]
)
HAIR_WEIGHTS = np.array([0.22, 0.20, 0.18, 0.13, 0.08, 0.05, 0.05, 0.06, 0.03])
NUM_DARK_HAIR_COLOURS = 3
IRIS_COLOURS = np.array(
    [(0.06, 0.028, 0.014), (0.13, 0.065, 0.025), (0.16, 0.15, 0.055), (0.10, 0.20, 0.30), (0.17, 0.22, 0.24)]
)
IRIS_WEIGHTS = np.array([0.45, 0.22, 0.10, 0.14, 0.09])
HAIR_STYLES = ("bald", "buzz", "short", "swept", "receding", "slick", "bob", "long", "wavy", "afro", "cap")
HAIR_STYLE_WEIGHTS = {
    "masculine": np.array([0.07, 0.13, 0.27, 0.20, 0.10, 0.07, 0.01, 0.03, 0.02, 0.05, 0.05]),
    "feminine": np.array([0.005, 0.01, 0.05, 0.06, 0.0, 0.13, 0.19, 0.26, 0.20, 0.055, 0.04]),
}
BACKGROUNDS = ("studio", "bokeh", "wall", "foliage", "room", "sky")


def sample_face(seed: int) -> Face:
    """Draw all parameters of the face ``seed``."""
    identity = _sample_identity(stream_rng(seed, Stream.IDENTITY))
    return Face(
        seed=seed,
        identity=identity,
        expression=_sample_expression(stream_rng(seed, Stream.EXPRESSION)),
        pose=_sample_pose(stream_rng(seed, Stream.POSE)),
        light=_sample_light(stream_rng(seed, Stream.LIGHT)),
        hair=_sample_hair(stream_rng(seed, Stream.HAIR), identity),
        glasses=_sample_glasses(stream_rng(seed, Stream.GLASSES)),
        scene=_sample_scene(stream_rng(seed, Stream.SCENE)),
    )


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def _bounded(rng: np.random.Generator, centre: float, sigma: float) -> float:
    """Draw a normal number, cut at 2.2 sigma."""
    return float(centre + sigma * np.clip(rng.standard_normal(), -2.2, 2.2))


def _mix_table(table: np.ndarray, position: float) -> np.ndarray:
    """Interpolate the rows of a colour table; ``position`` in [0, 1]."""
    rows = np.arange(len(table))
    return np.array([np.interp(position * (len(table) - 1), rows, table[:, c]) for c in range(3)])


def _sample_identity(rng: np.random.Generator) -> Identity:
    masculine = float(np.clip(rng.choice((0.15, 0.85)) + 0.12 * rng.standard_normal(), 0.0, 1.0))
    age = float(rng.beta(1.6, 2.2))
    darkness = float(rng.uniform(0.0, 1.0) ** 1.15)
    skin = _mix_table(SKIN_TONES, darkness) * rng.uniform(0.92, 1.08) * (1.0 + rng.normal(0.0, 0.025, 3))
    makeup = float((rng.uniform() < 0.6) * (masculine < 0.4) * rng.uniform(0.2, 1.0))
    natural_lips = skin * np.array((0.86, 0.57, 0.60) if masculine > 0.5 else (0.86, 0.48, 0.54)) + (0.03, 0.0, 0.012)
    painted = np.array(rng.choice([(0.48, 0.05, 0.07), (0.50, 0.15, 0.17), (0.36, 0.08, 0.12), (0.60, 0.20, 0.20)]))
    lip = natural_lips + 0.75 * makeup * (painted * (1.0 - 0.45 * darkness) - natural_lips)
    return Identity(
        masculine=masculine,
        age=age,
        face_width=_bounded(rng, 1.0 + 0.02 * (masculine - 0.5), 0.035),
        jaw_width=_bounded(rng, 0.99 + 0.13 * (masculine - 0.5), 0.04),
        chin_drop=_bounded(rng, 4.5 * (masculine - 0.5) - 0.5, 1.7),
        eye_size=_bounded(rng, 1.03 - 0.09 * (masculine - 0.5), 0.045),
        eye_height=_bounded(rng, 1.08 - 0.26 * (masculine - 0.5), 0.12),
        eye_slant=_bounded(rng, 0.2, 0.55),
        eye_spacing=_bounded(rng, 0.0, 0.35),
        brow_height=_bounded(rng, -1.2 * (0.5 - masculine), 1.1),
        brow_thickness=_bounded(rng, 0.66 + 0.6 * masculine, 0.18),
        brow_arch=_bounded(rng, 0.9 * (0.5 - masculine), 0.5),
        nose_length=_bounded(rng, 0.0, 1.6),
        nose_width=_bounded(rng, 0.86 + 0.15 * masculine + 0.22 * darkness**2, 0.07),
        nose_height=_bounded(rng, 0.86 + 0.16 * masculine - 0.15 * darkness**2, 0.10),
        mouth_width=_bounded(rng, 1.0, 0.06),
        lip_upper=_bounded(rng, 1.18 - 0.36 * masculine + 0.35 * darkness**2, 0.16),
        lip_lower=_bounded(rng, 1.14 - 0.30 * masculine + 0.30 * darkness**2, 0.15),
        cheek=_bounded(rng, 0.0, 1.2),
        ear_size=_bounded(rng, 0.95 + 0.1 * masculine, 0.08),
        asymmetry=_bounded(rng, 0.0, 0.35),
        skin=_colour(skin),
        skin_darkness=darkness,
        lip_colour=_colour(lip),
        lip_gloss=float(rng.uniform(0.2, 0.6) + 0.5 * makeup),
        iris=_colour(IRIS_COLOURS[_iris_index(rng, darkness)] * rng.uniform(0.8, 1.25)),
        freckles=float((rng.uniform() < 0.22) * (darkness < 0.55) * rng.uniform(0.3, 1.0)),
        blotches=float(rng.uniform(0.3, 1.0)),
        oiliness=float(rng.uniform(0.25, 1.0)),
        makeup=makeup,
    )


def _iris_index(rng: np.random.Generator, darkness: float) -> int:
    index = int(rng.choice(len(IRIS_COLOURS), p=IRIS_WEIGHTS))
    return index if darkness < 0.5 else min(index, 1)


def _sample_expression(rng: np.random.Generator) -> Expression:
    kind = rng.choice(
        ("neutral", "slight", "smile", "laugh", "talk", "surprise", "frown"), p=(0.27, 0.2, 0.19, 0.14, 0.1, 0.04, 0.06)
    )
    smile, opening, raised, frown = {
        "neutral": (0.0, 0.0, 0.0, 0.0),
        "slight": (0.35, 0.0, 0.1, 0.0),
        "smile": (0.75, 0.28, 0.15, 0.0),
        "laugh": (1.0, 0.65, 0.2, 0.0),
        "talk": (0.05, 0.4, 0.15, 0.1),
        "surprise": (0.0, 0.75, 0.9, 0.0),
        "frown": (-0.3, 0.0, -0.3, 0.8),
    }[str(kind)]
    smile = _bounded(rng, smile, 0.12)
    opening = max(0.0, _bounded(rng, opening, 0.35 * opening))
    closed = rng.uniform() < 0.05
    lids = 0.04 if closed else _bounded(rng, 1.0 - 0.22 * max(smile, 0.0) + 0.18 * (kind == "surprise"), 0.13)
    return Expression(
        smile=smile,
        mouth_open=float(opening),
        pucker=float((kind == "talk") * rng.uniform(0.0, 0.7)),
        brow_raise=_bounded(rng, raised, 0.15),
        brow_frown=float(max(0.0, _bounded(rng, frown, 0.1))),
        eye_open=float(lids),
        gaze=(_bounded(rng, 0.0, 0.9), _bounded(rng, 0.0, 0.35)),
    )


def _sample_pose(rng: np.random.Generator) -> Pose:
    return Pose(
        yaw=float(np.clip(rng.normal(0.0, 13.0), -30.0, 30.0)),
        pitch=float(np.clip(rng.normal(0.0, 6.0), -14.0, 14.0)),
        roll=float(np.clip(rng.normal(0.0, 2.5), -8.0, 8.0)),
        shift=(_bounded(rng, 0.0, 0.8), _bounded(rng, 0.0, 0.8)),
        zoom=_bounded(rng, 1.0, 0.02),
    )


def _unit(vector: tuple[float, float, float]) -> tuple[float, float, float]:
    return _colour(np.asarray(vector) / np.linalg.norm(vector))


def _sample_light(rng: np.random.Generator) -> Light:
    side = rng.normal(0.0, 0.75)
    warmth = rng.normal(0.0, 0.08)
    key = rng.uniform(0.75, 1.25) * np.array((1.0 + warmth, 1.0, 1.0 - 1.3 * warmth))
    fill_warmth = rng.normal(0.0, 0.1)
    fill = rng.uniform(0.05, 0.4) * np.array((1.0 + fill_warmth, 1.0, 1.0 - fill_warmth))
    ambient = rng.uniform(0.14, 0.42) * np.array((1.0 - 0.5 * warmth, 1.0, 1.0 + 0.5 * warmth))
    return Light(
        direction=_unit((side, -rng.uniform(0.25, 0.95), rng.uniform(0.75, 1.2))),
        key=_colour(key),
        fill_direction=_unit((-side - 0.4 * np.sign(side), -0.1, 0.6)),
        fill=_colour(fill),
        ambient=_colour(ambient),
        softness=float(rng.uniform(0.0, 1.0)),
    )


def _sample_hair(rng: np.random.Generator, identity: Identity) -> Hair:
    group = "masculine" if identity.masculine > 0.5 else "feminine"
    style = str(rng.choice(HAIR_STYLES, p=HAIR_STYLE_WEIGHTS[group]))
    style = "short" if style == "receding" and identity.age < 0.25 else style
    index = int(rng.choice(len(HAIR_COLOURS), p=HAIR_WEIGHTS))
    if identity.skin_darkness > 0.55 and rng.uniform() < 0.9:
        index %= NUM_DARK_HAIR_COLOURS
    grey = float(np.clip((identity.age - 0.55) * 2.2, 0.0, 1.0) * rng.uniform(0.0, 1.0))
    colour = HAIR_COLOURS[index] * rng.uniform(0.8, 1.3)
    colour = colour + grey * (HAIR_COLOURS[-2] - colour)
    bearded = group == "masculine"
    full = bearded and rng.uniform() < 0.22
    return Hair(
        style=style,
        colour=_colour(colour),
        brow_colour=_colour(np.minimum(colour * 0.75, 0.16) * (1.0 - 0.4 * identity.skin_darkness)),
        volume=float(rng.uniform(0.6, 1.5)),
        hairline=_bounded(rng, 0.0, 2.5),
        part=float(rng.uniform(-0.6, 0.6)),
        length=float(rng.uniform(0.0, 1.0)),
        waviness=float(rng.uniform(0.0, 1.0)),
        fringe=float(rng.uniform(0.0, 1.0)),
        grey=grey,
        shine=float(rng.uniform(0.3, 1.0)),
        moustache=float(full or (bearded and rng.uniform() < 0.12)) * float(rng.uniform(0.5, 1.0)),
        beard=float(full) * float(rng.uniform(0.45, 1.0)),
        stubble=float(bearded and rng.uniform() < 0.6) * float(rng.uniform(0.15, 0.9)),
        cloth=_colour(rng.uniform(0.02, 0.5, 3)),
    )


def _sample_glasses(rng: np.random.Generator) -> Glasses | None:
    if rng.uniform() > 0.22:
        return None
    dark = rng.uniform() < 0.6
    colour = rng.uniform(0.005, 0.04) * np.ones(3) if dark else rng.uniform(0.05, 0.4) * np.array((1.0, 0.8, 0.6))
    return Glasses(
        width=float(rng.uniform(12.2, 14.0)),
        height=float(rng.uniform(7.2, 10.5)),
        squareness=float(rng.uniform(2.0, 4.5)),
        rim=float(rng.uniform(0.55, 1.7)),
        colour=_colour(colour),
        tint=0.93 if rng.uniform() < 0.12 else float(rng.uniform(0.0, 0.08)),
        reflection=float(rng.uniform(0.0, 1.0)),
    )


def _sample_scene(rng: np.random.Generator) -> Scene:
    hues = rng.uniform(0.02, 1.0, (3, 1)) ** 1.5 * (0.62 + 0.38 * rng.uniform(0.0, 1.0, (3, 3)))
    clothes = rng.uniform(0.01, 0.8, (2, 1)) ** 1.3 * rng.uniform(0.3, 1.0, (2, 3))
    return Scene(
        background=str(rng.choice(BACKGROUNDS)),
        back_colours=(_colour(hues[0]), _colour(hues[1]), _colour(hues[2])),
        back_blur=float(rng.uniform(0.4, 5.0)),
        clothing=_colour(clothes[0]),
        clothing_second=_colour(clothes[1]),
        garment=str(rng.choice(("crew", "v", "collar", "suit"))),
        saturation=0.0 if rng.uniform() < 0.04 else _bounded(rng, 1.06, 0.12),
        exposure=float(np.exp(rng.normal(0.0, 0.16))),
        gamma=_bounded(rng, 1.0, 0.06),
        contrast=float(rng.uniform(0.1, 0.75)),
        white_balance=_colour(np.exp(rng.normal(0.0, 0.05, 3))),
        blur_px=float(max(0.0, rng.uniform(-0.4, 0.6))),
        noise=float(rng.uniform(0.2, 1.6)),
    )
