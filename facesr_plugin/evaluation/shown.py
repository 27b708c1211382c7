"""The faces that a report shows: the worst and the best, each with all its pictures, values and error maps."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from facesr_plugin.evaluation.figures import Picture, colour_bar_png, error_map_png, face_png
from facesr_plugin.evaluation.measures import Measure
from facesr_plugin.evaluation.pairs import Face, printable
from facesr_plugin.evaluation.result import Evaluation
from facesr_plugin.evaluation.words import NOTHING, number
from facesr_plugin.metrics.error_maps import ERROR_MAPS
from facesr_plugin.pipeline.grid import resize_bicubic
from facesr_plugin.utils.imageio import read_image

_SHOWN = 4
_SHOWN_MEASURES = 6


class Choice(NamedTuple):
    """Faces by the values of one metric of the first result: rows of ``Evaluation.faces``, the most extreme first."""

    measure: Measure
    worst: tuple[int, ...]
    best: tuple[int, ...]


class Cell(NamedTuple):
    """A picture or a text; ``kind`` is ``image``, ``pixels`` (a small one), ``map``, ``bar`` or empty."""

    picture: Picture | None = None
    text: str = ""
    kind: str = ""


class Row(NamedTuple):
    """What is shown, and of each column."""

    title: str
    cells: tuple[Cell, ...]


class ShownFace(NamedTuple):
    """A face as a table. ``value`` is what it was chosen by."""

    name: str
    value: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


class _Column(NamedTuple):
    title: str
    role: str
    pixels: np.ndarray | None
    result: str = ""


def choose_faces(evaluation: Evaluation) -> Choice | None:
    """Return at most four of each, no face twice, by the first metric that has finite values; None if none has."""
    for measure in evaluation.measures:
        if not measure.per_face:
            continue
        values = evaluation.values[measure.name][evaluation.results[0]]
        known = np.flatnonzero(np.isfinite(values))
        if len(known):
            order = known[np.argsort(values[known] * (1 if measure.better == "higher" else -1), kind="stable")]
            worst = order[: min(_SHOWN, (len(order) + 1) // 2)]
            best = order[len(worst) :][::-1][:_SHOWN]
            return Choice(measure, tuple(worst.tolist()), tuple(best.tolist()))
    return None


def show_face(evaluation: Evaluation, row: int, measure: Measure) -> ShownFace:
    """Read the images of a face and draw its error maps. A file that cannot be read is told in its place.

    Args:
        evaluation: With the face.
        row: Of ``evaluation.faces``.
        measure: What the face was chosen by.
    """
    face = evaluation.faces[row]
    columns = _columns(face, evaluation.results)
    rows = [Row("image", tuple(_image_cell(column, face.name) for column in columns))]
    rows += _value_rows(evaluation, row, columns)
    truth = next((column.pixels for column in columns if column.role == "gt"), None)
    if truth is not None:
        for kind, scale in ERROR_MAPS.items():
            title = f"{scale.title} map"
            rows.append(Row(title, tuple(_map_cell(column, truth, kind, title, face.name) for column in columns)))
    value = number(evaluation.values[measure.name][evaluation.results[0]][row], measure.digits)
    return ShownFace(
        face.name,
        f"{measure.name} {value} {measure.unit}".strip(),
        tuple(column.title for column in columns),
        tuple(rows),
    )


def _columns(face: Face, results: tuple[str, ...]) -> list[_Column]:
    restored = {name: _read(face.results.get(name)) for name in results}
    truth, small = _read(face.gt), _read(face.lq)
    columns = [_Column(printable(name), "result", pixels, name) for name, pixels in restored.items()]
    large = next((pixels for pixels in (truth, *restored.values()) if pixels is not None), None)
    if face.lq is not None:
        size = "" if small is None else f" {small.shape[1]}x{small.shape[0]}"
        enlarged = None if small is None or large is None else resize_bicubic(small, large.shape[:2])
        columns = [_Column(f"input{size}", "input", small), _Column("input, bicubic", "bicubic", enlarged), *columns]
    return columns if face.gt is None else [*columns, _Column("ground truth", "gt", truth)]


def _read(path: Path | None) -> np.ndarray | None:
    try:
        return None if path is None else read_image(path)
    except (OSError, ValueError):
        return None


def _image_cell(column: _Column, name: str) -> Cell:
    if column.pixels is None:
        return Cell(text="no image")
    kind = "pixels" if column.role == "input" else "image"
    return Cell(Picture(face_png(column.pixels), f"{column.title} of face {name}"), kind=kind)


def _map_cell(column: _Column, truth: np.ndarray, kind: str, title: str, name: str) -> Cell:
    if column.role == "gt":
        scale = ERROR_MAPS[kind]
        ends = f"{scale.worst} {scale.unit}".strip(), f"{scale.best} {scale.unit}".strip()
        return Cell(Picture(colour_bar_png(kind), f"colours from {ends[0]}, bright, to {ends[1]}, black"), kind="bar")
    if column.role == "input" or column.pixels is None:
        return Cell()
    if column.pixels.shape != truth.shape:
        return Cell(text="another size")
    return Cell(
        Picture(error_map_png(column.pixels, truth, kind), f"{title} of {column.title}, face {name}"), kind="map"
    )


def _value_rows(evaluation: Evaluation, row: int, columns: list[_Column]) -> list[Row]:
    measures = [measure for measure in evaluation.measures if measure.per_face][:_SHOWN_MEASURES]
    return [
        Row(
            f"{measure.name} ({measure.unit})" if measure.unit else measure.name,
            tuple(
                Cell(text=number(evaluation.values[measure.name][column.result][row], measure.digits))
                if column.role == "result"
                else Cell(text=NOTHING)
                for column in columns
            ),
        )
        for measure in measures
    ]
