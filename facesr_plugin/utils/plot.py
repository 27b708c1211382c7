"""Curves as pictures, by matplotlib (``pip install "facesr-plugin[plots]"``)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_SIZE_INCHES, _DPI = (6.0, 4.2), 120


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
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures of curves need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    for name, values in curves.items():
        axes.plot(100 * np.asarray(thresholds), 100 * np.asarray(values), label=name, linewidth=1.8)
    axes.set(xlabel=f"{label} (%)", ylabel="faces with a smaller error (%)", ylim=(0, 100))
    axes.set_xlim(100 * thresholds[0], 100 * thresholds[-1])
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", framealpha=0.9)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
