"""Points of the faces in photos, from a file, in place of a detector.

``.csv`` has one line per face and any number of faces per photo; its header names the columns ``file`` and
``leye_x leye_y reye_x reye_y nose_x nose_y lmouth_x lmouth_y rmouth_x rmouth_y`` (left as seen in the picture), and if
known ``x1 y1 x2 y2 score``. ``.npz`` and ``.json`` are the package's landmark file, with 5, 68 or 98 points per face.
Pixels of the upright photo, pixel centres at integers. Photos are found by their stems.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from facesr_plugin.data.annotations import SUFFIXES, read_landmarks
from facesr_plugin.ops.landmark import five_points
from facesr_plugin.pipeline.face import Face

_POINTS = tuple(f"{name}_{axis}" for name in ("leye", "reye", "nose", "lmouth", "rmouth") for axis in "xy")
_BOX = ("x1", "y1", "x2", "y2")


def read_faces(path: str | os.PathLike) -> dict[str, list[Face]]:
    """Return the faces of each photo by its stem.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another kind, lacks a column, or holds something else than finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"landmark file {path} does not exist")
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"landmark file must end with {' or '.join(_READERS)}, got {path}")
    return _READERS[path.suffix.lower()](path)


def _read_csv(path: Path) -> dict[str, list[Face]]:
    try:
        table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
        columns, lines = table.fieldnames or (), [(table.line_num, line) for line in table]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be UTF-8 text with commas between the columns: {error}") from error
    missing = [name for name in ("file", *_POINTS) if name not in columns]
    if missing:
        raise ValueError(f"{path} must have the columns file, {', '.join(_POINTS)}; it lacks {', '.join(missing)}")
    found = defaultdict(list)
    for number, line in lines:
        try:
            found[Path(line["file"]).stem].append(_face_of(line))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: {str(error)[:200]}") from error
    return dict(found)


def _face_of(line: dict[str, str]) -> Face:
    box_names = _BOX if all(line.get(name) for name in _BOX) else ()
    names = (*_POINTS, *box_names, *(("score",) if line.get("score") else ()))
    values = {name: float(line[name]) for name in names}
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise ValueError(f"{wrong[0]} must be a finite number, got {line[wrong[0]]!r}")
    box = np.array([values[name] for name in _BOX]) if box_names else None
    return Face(np.array([values[name] for name in _POINTS]).reshape(5, 2), box, values.get("score"))


def _read_own(path: Path) -> dict[str, list[Face]]:
    landmarks = read_landmarks(path)
    if landmarks.num_points not in (5, 68, 98):
        raise ValueError(f"{path} must have 5, 68 or 98 points per face, got {landmarks.num_points}")
    points = five_points(landmarks.points.astype(np.float64))
    found = defaultdict(list)
    for row, name in enumerate(landmarks.names):
        box = None if landmarks.boxes is None else landmarks.boxes[row].astype(np.float64)
        score = None if landmarks.score is None else float(landmarks.score[row])
        found[Path(name).stem].append(Face(points[row], box, score))
    return dict(found)


_READERS = {".csv": _read_csv, **dict.fromkeys(SUFFIXES, _read_own)}
