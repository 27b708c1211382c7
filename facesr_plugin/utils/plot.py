"""Curves as pictures, by matplotlib (``pip install "facesr-plugin[plots]"``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg

_SIZE_INCHES, _DPI = (6.0, 4.2), 120
_FEWEST_BINS, _MOST_BINS = 8, 40


def ced_figure(thresholds: np.ndarray, curves: Mapping[str, np.ndarray], label: str = "NME") -> np.ndarray:
    """Draw cumulative error distributions: the part of the faces with an error below each threshold.

    Args:
        thresholds: ``(T)`` errors as fractions, rising; drawn as per cent.
        curves: Caption to ``(T)`` values in [0, 1], see ``ced_curve``.
        label: What the errors are, for the axis.

    Returns:
        ``(504, 720, 3)`` uint8 RGB.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no curve, or one has another shape than ``thresholds``.
    """
    shapes = {name: np.shape(values) for name, values in curves.items()}
    wrong = [name for name, shape in shapes.items() if shape != np.shape(thresholds)]
    if not curves or wrong:
        got = f"{shapes[wrong[0]]} of {wrong[0]!r}" if wrong else "none"
        raise ValueError(
            f"curves must have the shape {np.shape(thresholds)} of the thresholds, at least one, got {got}"
        )
    canvas, axes = _start()
    for name, values in curves.items():
        axes.plot(100 * np.asarray(thresholds), 100 * np.asarray(values), label=_caption(name), linewidth=1.8)
    axes.set(xlabel=f"{label} (%)", ylabel="faces with a smaller error (%)", ylim=(0, 100))
    axes.set_xlim(100 * thresholds[0], 100 * thresholds[-1])
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0.9)
    return _finish(canvas)


def histogram_figure(values: Mapping[str, np.ndarray], label: str) -> np.ndarray:
    """Draw how often values occur, all in the same bins, with a dashed line at each mean.

    Args:
        values: Caption to ``(N)`` finite values; N may differ.
        label: What the values are, for the axis.

    Returns:
        ``(504, 720, 3)`` uint8 RGB.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are no values, or one is not finite.
    """
    together = np.concatenate([np.ravel(column) for column in values.values()]) if values else np.empty(0)
    if not len(together) or not np.isfinite(together).all():
        raise ValueError(f"values must be finite numbers, at least one, got {len(together)}. Leave out what is not.")
    canvas, axes = _start()
    most = max(len(column) for column in values.values())
    edges = np.histogram_bin_edges(together, min(max(math.isqrt(most), _FEWEST_BINS), _MOST_BINS))
    for name, column in values.items():
        _, _, (outline, *_) = axes.hist(column, edges, histtype="stepfilled", alpha=0.35, label=_caption(name))
        colour = outline.get_facecolor()[:3]
        axes.hist(column, edges, histtype="step", color=colour, linewidth=1.5)
        if len(column):
            axes.axvline(np.mean(column), color=colour, linestyle="--", linewidth=1.5)
    axes.set(xlabel=label, ylabel="faces")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0.9)
    return _finish(canvas)


def _start() -> tuple[FigureCanvasAgg, Axes]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures of curves need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    return FigureCanvasAgg(figure), figure.subplots()


def _caption(name: str) -> str:
    """Keep matplotlib from leaving out a name that starts with ``_``, and from setting ``$`` as a formula."""
    return f" {name}".replace("$", r"\$")


def _finish(canvas: FigureCanvasAgg) -> np.ndarray:
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
