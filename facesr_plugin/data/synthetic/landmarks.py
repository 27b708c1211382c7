"""Rest positions of the 68 iBUG points, deformed by identity and expression, and smooth curves through them.

Rest coordinates are (x, y) in units on the undisplaced head: x to the right of the midline, y downwards as in an
upright 128x128 image. Everything that is drawn on the face (lips, lids, brows, nostrils, jaw) starts from these
points, hence the published landmarks are those of the drawn features.
"""

from __future__ import annotations

import numpy as np

from facesr_plugin.data.synthetic.parameters import Expression, Identity

# Subject's right half (left in the image) of an average neutral face; the rest follows by mirroring.
_BROW = np.array([(-32.0, 44.8), (-27.4, 41.4), (-21.3, 40.2), (-15.3, 40.7), (-10.0, 42.4)])
_BRIDGE_Y = np.array([53.5, 60.5, 67.5, 73.5])
_NOSE_BASE = np.array([(-6.7, 77.2), (-3.4, 78.7), (0.0, 79.5)])
_EYE_CENTRE = np.array((-17.5, 52.9))
_EYE_HALF_WIDTH = 6.8
_LID_X = np.array((-0.42, 0.34))  # of points 37 and 38, in half widths
_MOUTH_Y = 89.8
_MOUTH_HALF_WIDTH = 14.5
_OPEN_MOUTH_GAP = 13.0
_CHIN_SHARE_OF_GAP = 0.55
_CLOSED_UPPER_LID = -1.35  # height of the upper lid above the corners when the eye is closed: it rests on the lower lid

JAW, BROWS, NOSE, EYES, MOUTH = slice(0, 17), slice(17, 27), slice(27, 36), slice(36, 48), slice(48, 68)
OUTER_LIP = list(range(48, 60))
INNER_LIP = list(range(60, 68))


def rest_landmarks(identity: Identity, expression: Expression) -> np.ndarray:
    """Place the 51 points from the brows on (iBUG 17 to 67) in rest coordinates.

    Returns:
        ``(68, 2)`` float64; the rows of the jaw (0 to 16) are zero: they are found on the surface, in ``head.py``.
    """
    points = np.zeros((68, 2))
    brow = _brow(identity, expression)
    points[17:22], points[22:27] = brow, _mirror(brow)[::-1]
    points[NOSE] = _nose(identity, expression)
    eye = _eye(identity, expression)
    points[36:42], points[42:48] = eye, _mirror(eye)[[3, 2, 1, 0, 5, 4]]
    points[MOUTH] = _mouth(identity, expression)
    points[22:27, 1] += 1.6 * identity.asymmetry
    points[42:48, 1] += 0.5 * identity.asymmetry
    points[54:56, 1] -= 0.8 * identity.asymmetry
    points[64, 1] -= 0.8 * identity.asymmetry
    return points


def jaw_drop(expression: Expression) -> float:
    """Return how far the chin moves down when the mouth opens, in units."""
    return _CHIN_SHARE_OF_GAP * _OPEN_MOUTH_GAP * expression.mouth_open


def smooth_curve(points: np.ndarray, samples: int = 8, closed: bool = False) -> np.ndarray:
    """Interpolate (N, 2) points by a Catmull-Rom spline, ``samples`` per segment; it passes through every point."""
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = np.linspace(0.0, 1.0, samples, endpoint=False)[None, :, None]
    curve = start + 0.5 * t * (
        (end - before) + t * (2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) + after - before))
    )
    curve = curve.reshape(-1, points.shape[1])
    return curve if closed else np.concatenate([curve, points[-1:]])


def eye_outline(landmarks: np.ndarray, first: int) -> np.ndarray:
    """Return the closed opening between the lids of the eye whose points start at ``first`` (36 or 42)."""
    eye = landmarks[first : first + 6]
    upper, lower = smooth_curve(eye[:4]), smooth_curve(eye[[3, 4, 5, 0]])
    return np.concatenate([upper[:-1], lower[:-1]])


def lip_outlines(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the outer and the inner closed outline of the lips."""
    outer = [
        smooth_curve(landmarks[48:52]),
        smooth_curve(landmarks[51:55]),
        smooth_curve(landmarks[[*range(54, 60), 48]]),
    ]
    inner = [smooth_curve(landmarks[60:65]), smooth_curve(landmarks[[64, 65, 66, 67, 60]])]
    return np.concatenate([c[:-1] for c in outer]), np.concatenate([c[:-1] for c in inner])


def _mirror(points: np.ndarray) -> np.ndarray:
    return points * (-1.0, 1.0)


def _brow(identity: Identity, expression: Expression) -> np.ndarray:
    brow = _BROW.copy()
    inner = np.linspace(0.0, 1.0, 5) ** 2
    brow[:, 1] += identity.brow_height - expression.brow_raise * (3.2 - 0.8 * inner)
    brow[:, 1] -= identity.brow_arch * np.array((-0.3, 0.9, 1.2, 0.5, -0.2))
    brow[:, 1] += 2.4 * expression.brow_frown * inner
    brow[:, 0] += 1.6 * expression.brow_frown * inner
    return brow


def _nose(identity: Identity, expression: Expression) -> np.ndarray:
    bridge_y = _BRIDGE_Y + identity.nose_length * np.array((0.0, 0.3, 0.7, 1.0))
    base = _NOSE_BASE + (0.0, identity.nose_length - 0.5 * max(expression.smile, 0.0))
    base = base * (identity.nose_width * (1.0 + 0.08 * max(expression.smile, 0.0)), 1.0)
    bridge = np.stack([np.zeros(4), bridge_y], axis=1)
    return np.concatenate([bridge, base, _mirror(base[:2])[::-1]])


def _eye(identity: Identity, expression: Expression) -> np.ndarray:
    width = _EYE_HALF_WIDTH * identity.eye_size
    opened = 2.25 * identity.eye_height
    upper = _CLOSED_UPPER_LID + (opened - _CLOSED_UPPER_LID) * expression.eye_open
    lower = 1.75 * identity.eye_height**0.5 - 0.45 * max(expression.smile, 0.0)
    offsets = np.array(
        [
            (-1.0, -identity.eye_slant),
            (_LID_X[0], -0.93 * upper - 0.3 * identity.eye_slant),
            (_LID_X[1], -upper),
            (1.0, 0.35),
            (0.38, 0.95 * lower),
            (-0.40, lower - 0.3 * identity.eye_slant),
        ]
    )
    offsets[1:3, 1] = np.minimum(offsets[1:3, 1], offsets[[5, 4], 1] - 0.12)
    return _EYE_CENTRE + (-identity.eye_spacing, 0.0) + offsets * (width, 1.0)


def _mouth(identity: Identity, expression: Expression) -> np.ndarray:
    smile, happy = expression.smile, max(expression.smile, 0.0)
    width = _MOUTH_HALF_WIDTH * identity.mouth_width * (1.0 + 0.15 * smile - 0.25 * expression.pucker)
    width *= 1.0 - 0.10 * expression.mouth_open * (1.0 - happy)
    gap = _OPEN_MOUTH_GAP * expression.mouth_open
    corner_y = _MOUTH_Y - 2.4 * smile + 0.32 * gap * (1.0 - happy)
    upper_in = _MOUTH_Y - 0.10 * gap - 0.5 * happy
    lower_in = upper_in + gap
    upper = 3.3 * identity.lip_upper * (1.0 - 0.25 * happy + 0.2 * expression.pucker)
    lower = 4.7 * identity.lip_lower * (1.0 - 0.2 * happy + 0.2 * expression.pucker)

    def arc(x: float, middle: float) -> float:
        return corner_y + (middle - corner_y) * (1.0 - abs(x) ** 2.2)

    outer_upper = [(-1.0, corner_y), (-0.64, arc(0.64, upper_in) - 0.66 * upper), (-0.22, upper_in - upper)]
    outer_lower = [(0.66, arc(0.66, lower_in) + 0.66 * lower), (0.33, arc(0.33, lower_in) + 0.97 * lower)]
    inner_upper = [(-0.92, corner_y), (-0.33, arc(0.33, upper_in) - 0.1)]
    inner_lower = [(0.33, arc(0.33, lower_in) + 0.12)]
    half_closed = [(0.0, upper_in + 0.15), (0.0, lower_in + 0.25)]
    sides = [
        *outer_upper, (0.0, upper_in - 0.8 * upper), *_flip(outer_upper),
        *outer_lower, (0.0, lower_in + lower), *_flip(outer_lower),
        *inner_upper, half_closed[0], *_flip(inner_upper),
        *inner_lower, half_closed[1], *_flip(inner_lower),
    ]  # fmt: skip
    return np.array(sides) * (width, 1.0)


def _flip(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(-x, y) for x, y in reversed(points)]
