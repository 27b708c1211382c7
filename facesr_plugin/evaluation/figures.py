"""Pictures of a report, as PNG: faces, their error maps, histograms of the values and curves of landmark errors."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from facesr_plugin.evaluation.measures import Measure
from facesr_plugin.evaluation.pairs import printable
from facesr_plugin.evaluation.result import Evaluation
from facesr_plugin.evaluation.words import number
from facesr_plugin.metrics.error_maps import draw_colour_bar, error_colours, error_levels
from facesr_plugin.metrics.landmark_metric import ced_curve
from facesr_plugin.utils.plot import ced_figure, histogram_figure

LARGEST_PX = 256
_BAR_PX = 240
_ERRORS = ("nme_", "dic_nrmse_")  # of landmarks: they have curves
_PARTS = ("auc_", "failure_")  # of those curves: they have no histogram
_CED_END, _CED_STEPS = 0.1, 400


class Picture(NamedTuple):
    """A PNG file, what it shows in words, and what is written below it."""

    png: bytes
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        """The whole file as an address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def face_png(image: np.ndarray) -> bytes:
    """Return ``(H, W, 3)`` uint8 RGB as PNG; sides above 256 pixels are reduced to that."""
    return _png(_reduce(Image.fromarray(image)))


def error_map_png(sr: np.ndarray, gt: np.ndarray, kind: str) -> bytes:
    """Return an error map as PNG with a palette, of the size of ``face_png``; it is measured at full size.

    Args:
        sr: Restored, ``(H, W, 3)`` uint8 RGB.
        gt: Truth, same shape.
        kind: ``psnr`` or ``ssim``.

    Raises:
        ValueError: If the shapes differ or ``kind`` is unknown.
    """
    levels = _reduce(Image.fromarray(error_levels(sr, gt, kind)))
    levels.putpalette(error_colours().tobytes())
    return _png(levels)


def colour_bar_png(kind: str) -> bytes:
    """Return the colours of a kind of error map with their values as PNG on white."""
    return _png(Image.fromarray(draw_colour_bar(kind, _BAR_PX)))


def draw_histograms(evaluation: Evaluation) -> list[Picture]:
    """Draw the finite values of each metric with a value per face, results over each other.

    Raises:
        ImportError: If matplotlib is missing.
    """
    drawn = []
    for measure in evaluation.measures:
        if measure.per_face and not measure.name.startswith(_PARTS):
            values = _finite(evaluation.values[measure.name])
            if values:
                drawn.append(_histogram(measure, values, len(evaluation.faces)))
    return drawn


def draw_ced_curves(evaluation: Evaluation) -> list[Picture]:
    """Draw the cumulative distribution of each error of landmarks.

    Raises:
        ImportError: If matplotlib is missing.
    """
    drawn = []
    for measure in evaluation.measures:
        if measure.per_face and measure.name.startswith(_ERRORS):
            errors = _finite(evaluation.values[measure.name])
            if errors:
                drawn.append(_ced(measure, errors, len(evaluation.faces)))
    return drawn


def _histogram(measure: Measure, values: Mapping[str, np.ndarray], count: int) -> Picture:
    label = f"{measure.name} ({measure.unit})" if measure.unit else measure.name
    parts = "; ".join(
        f"{name} from {number(column.min(), measure.digits)} to {number(column.max(), measure.digits)}, "
        f"median {number(float(np.median(column)), measure.digits)}"
        for name, column in values.items()
    )
    caption = f"{measure.name}. Dashed: means.{_left_out(values, count)}"
    return Picture(_png(Image.fromarray(histogram_figure(values, label))), f"Histogram of {label}: {parts}", caption)


def _ced(measure: Measure, errors: Mapping[str, np.ndarray], count: int) -> Picture:
    end = max(_CED_END, *(float(np.quantile(column, 0.95)) for column in errors.values()))
    thresholds = np.linspace(0, end, _CED_STEPS)
    curves = {name: ced_curve(column, thresholds) for name, column in errors.items()}
    parts = "; ".join(
        f"{name}: half of the faces below {100 * np.median(column):.2f} %, "
        f"nine of ten below {100 * np.quantile(column, 0.9):.2f} %"
        for name, column in errors.items()
    )
    picture = _png(Image.fromarray(ced_figure(thresholds, curves, measure.name)))
    caption = f"{measure.name}: part of the faces below an error.{_left_out(errors, count)}"
    return Picture(picture, f"Cumulative distribution of {measure.name}. {parts}", caption)


def _left_out(values: Mapping[str, np.ndarray], count: int) -> str:
    parts = [f"{count - len(column)} of {name}" for name, column in values.items() if len(column) < count]
    return f" Left out, without a finite value: {', '.join(parts)}." if parts else ""


def _finite(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Finite values by printable name of the result, without results that have none."""
    finite = {printable(name): column[np.isfinite(column)] for name, column in values.items()}
    return {name: column for name, column in finite.items() if len(column)}


def _reduce(picture: Image.Image) -> Image.Image:
    if max(picture.size) > LARGEST_PX:
        picture.thumbnail((LARGEST_PX, LARGEST_PX), Image.Resampling.BOX)
    return picture


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()
