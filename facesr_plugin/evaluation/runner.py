"""Measure folders of restored faces: decode ahead in threads, measure in batches, go on where a run was stopped.

Images are in memory for a few batches only; of a face there stay its file names and its values.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from facesr_plugin.evaluation.landmarks import FOUND_KEYS, TRUE_KEYS, LandmarkSource, Picture
from facesr_plugin.evaluation.measures import FaceMetric, Measures
from facesr_plugin.evaluation.pairs import GT, Face, Pairs
from facesr_plugin.evaluation.result import Evaluation, Problem
from facesr_plugin.evaluation.sets import Sets, read_values
from facesr_plugin.evaluation.statistics import compare, summarise
from facesr_plugin.evaluation.table import Line, Table
from facesr_plugin.inference import map_ahead
from facesr_plugin.utils.imageio import decode_rgb

_SAVE_S = 60.0  # between two states of the metrics of sets: FID's has 67 MB for each result


def evaluate(
    pairs: Pairs,
    measures: Measures,
    landmarks: LandmarkSource,
    folder: str | os.PathLike,
    *,
    plan: Mapping[str, Any],
    settings: Mapping[str, str],
    batch: int = 16,
    workers: int = 2,
    overwrite: bool = False,
) -> Evaluation:
    """Measure what ``per_image.csv`` in the folder lacks, and sum everything up.

    Args:
        pairs: The faces.
        measures: What is measured.
        landmarks: For metrics that need some.
        folder: Of the results.
        plan: What the values depend on beside ``pairs`` and the names of the metrics, plain JSON values.
        settings: The same in words, for the report.
        batch: Faces that are measured at a time.
        workers: Threads that read files, at least one.
        overwrite: Start anew.

    Raises:
        FileExistsError: If the folder holds results of other inputs, metrics or plan, and ``overwrite`` is not set.
        OSError: If it cannot be written.
        ValueError: If the memory of the GPU does not suffice, or the landmarks do not fit each other.
    """
    plan = {
        "inputs": pairs.fingerprint(),
        "results": list(pairs.results),
        "metrics": [measure.name for measure in measures.measures],
        **plan,
    }
    names, columns = [face.name for face in pairs.faces], list(measures.of_faces)
    with Table(folder, plan, names, pairs.results, columns, overwrite=overwrite) as table:
        if table.outcome is None or table.done < len(names):
            sets = Sets(measures.of_sets, table.load_state(), table.done)
            try:
                _Run(pairs, measures, landmarks, table, sets, batch).go(max(workers, 1))
            except torch.cuda.OutOfMemoryError as error:
                raise ValueError(f"batch {batch} does not fit into the memory of the GPU. Lower it.") from error
            table.finish(sets.values())
        return _sum_up(pairs, measures, table, settings)


class _Images(NamedTuple):
    """A decoded face, BGR; ``problems`` has the reason where a result cannot be measured."""

    face: Face
    gt: np.ndarray | None
    results: dict[str, np.ndarray]
    problems: dict[str, str]


@dataclass
class _Row:
    """A restored face on its way to a line; arrays without the dimension of the batch."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def note(self, found: dict[str, np.ndarray] | str) -> None:
        """Add arrays, or the reason why there are none."""
        if isinstance(found, str):
            self.problems.append(found)
        else:
            self.arrays.update(found)

    @property
    def kind(self) -> tuple:
        """Equal for rows that fit into one batch."""
        return tuple((key, array.shape) for key, array in self.arrays.items())

    @property
    def line(self) -> Line:
        """What is written of it."""
        return Line(self.values, "; ".join(dict.fromkeys(self.problems)))


class _Run:
    """One way through the faces."""

    def __init__(
        self, pairs: Pairs, measures: Measures, landmarks: LandmarkSource, table: Table, sets: Sets, batch: int
    ) -> None:
        self._pairs, self._measures, self._landmarks, self._table = pairs, measures, landmarks, table
        self._sets, self._batch = sets, batch
        self._saved = time.monotonic()

    def go(self, workers: int) -> None:
        """Measure the faces whose lines are missing, and add to the sets those that their state lacks."""
        faces, done = self._pairs.faces, self._table.done
        start = min(done, self._sets.faces) if self._sets else done
        pool = ThreadPoolExecutor(workers)
        try:
            with tqdm(total=len(faces), initial=start, unit="face", disable=None) as bar:
                images = map_ahead(pool, _read, faces[start:], 2 * self._batch)
                for first, last in _spans(start, done, len(faces), self._batch):
                    self._do(list(islice(images, last - first)), first)
                    bar.update(last - first)
        finally:
            pool.shutdown(cancel_futures=True)

    def _do(self, images: list[_Images], first: int) -> None:
        """Measure the faces from number ``first`` on; those that have lines are for the sets alone."""
        results, new = self._pairs.results, first >= self._table.done
        rows = {result: [_row(result, face) for face in images] for result in results}
        if new:
            self._add_landmarks(images, rows)
        for result in results:
            for batch, members in _batches(rows[result]):
                for name, metric in self._measures.of_faces.items() if new else ():
                    _measure(name, metric, batch, members)
                self._sets.add(result, batch)
        if new:
            self._table.add([[rows[result][number].line for result in results] for number in range(len(images))])
        self._sets.faces = first + len(images)
        if self._sets and time.monotonic() - self._saved > _SAVE_S:
            self._table.save_state(self._sets.state())
            self._saved = time.monotonic()

    def _add_landmarks(self, images: list[_Images], rows: Mapping[str, list[_Row]]) -> None:
        """Give the rows what metrics of landmarks need."""
        needs, faces = self._measures.needs, [number for number, face in enumerate(images) if face.results]
        if needs & TRUE_KEYS:
            truths = self._landmarks.look_up_true([_true_picture(images[number]) for number in faces])
            for result in rows:
                for number, found in zip(faces, truths, strict=True):
                    rows[result][number].note(found)
        for result in rows if needs & FOUND_KEYS else ():
            members = [number for number in faces if result in images[number].results]
            pictures = [
                Picture(images[number].face.results[result], _rgb(images[number].results[result])) for number in members
            ]
            for number, points in zip(members, self._landmarks.look_up_found(result, pictures), strict=True):
                rows[result][number].note(points if isinstance(points, str) else {"points": points})


def _spans(start: int, done: int, count: int, batch: int) -> Iterator[tuple[int, int]]:
    """Yield the batches as ranges of faces: they do not depend on where a run was stopped, but for the first ones."""
    while start < count:
        end = min((start // batch + 1) * batch, done if start < done else count, count)
        yield start, end
        start = end


def _read(face: Face) -> _Images:
    try:
        gt = face.gt and _decode(face.gt, f"the {GT}")
    except (ValueError, OSError) as error:
        return _Images(face, None, {}, dict.fromkeys(face.results, str(error)))
    results, problems = {}, {}
    for name, path in face.results.items():
        try:
            results[name] = _decode(path, "the restored face", gt)
        except (ValueError, OSError) as error:
            problems[name] = str(error)
    return _Images(face, gt, results, problems)


def _decode(path: Path, name: str, gt: np.ndarray | None = None) -> np.ndarray:
    """Return BGR; refuse another size than that of the ground truth."""
    image = np.ascontiguousarray(decode_rgb(path.read_bytes(), name)[..., ::-1])
    if gt is not None and image.shape != gt.shape:
        wanted, given = (f"{array.shape[1]} x {array.shape[0]}" for array in (gt, image))
        raise ValueError(f"{name} must be {wanted} like the {GT}, got {given}")
    return image


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[..., ::-1])


def _true_picture(face: _Images) -> Picture:
    """The ground truth; without any the landmarks must be those of the restored images."""
    name = next(iter(face.results))
    return Picture(face.face.gt or face.face.results[name], _rgb(face.results[name] if face.gt is None else face.gt))


def _row(result: str, face: _Images) -> _Row:
    row = _Row()
    if result in face.problems:
        row.problems.append(face.problems[result])
    if result in face.results:
        row.arrays = {"img": face.results[result]} | ({} if face.gt is None else {"img2": face.gt})
    return row


def _batches(rows: Sequence[_Row]) -> Iterator[tuple[dict[str, np.ndarray], list[_Row]]]:
    """Yield batches of what has an image, and the same arrays of the same sizes."""
    kinds = defaultdict(list)
    for row in rows:
        if "img" in row.arrays:
            kinds[row.kind].append(row)
    for members in kinds.values():
        yield {key: np.stack([row.arrays[key] for row in members]) for key in members[0].arrays}, members


def _measure(name: str, metric: FaceMetric, batch: Mapping[str, np.ndarray], rows: Sequence[_Row]) -> None:
    """Note the values of a batch; if it fails, each face alone shows whose fault it is."""
    if not metric.needs <= batch.keys():
        return  # why something lacks is noted already
    try:
        values = metric.measure(batch)
    except ValueError as error:
        if len(rows) == 1:
            rows[0].problems.append(f"{name}: {error}")
        for number, row in enumerate(rows if len(rows) > 1 else ()):
            _measure(name, metric, {key: array[number : number + 1] for key, array in batch.items()}, [row])
        return
    for row, value in zip(rows, values.tolist(), strict=True):
        if np.isnan(value):
            row.problems.append(f"{name}: the value is not a number")
        else:
            row.values[name] = value


def _sum_up(pairs: Pairs, measures: Measures, table: Table, settings: Mapping[str, str]) -> Evaluation:
    values, problems = _collect(pairs, measures, table)
    first, *others = pairs.results
    better = {measure.name: measure.better for measure in measures.measures}
    columns = [(metric, result) for metric in values for result in pairs.results]
    found = summarise(np.stack([values[metric][result] for metric, result in columns], axis=1)) if columns else []
    statistics: dict[str, dict[str, Any]] = {metric: {} for metric in values}
    for (metric, result), one in zip(columns, found, strict=True):
        statistics[metric][result] = one
    return Evaluation(
        results=pairs.results,
        faces=pairs.faces,
        measures=measures.measures,
        values=values,
        statistics=statistics,
        set_values=read_values(table.outcome),
        differences=tuple(compare(values, first, others, better)),
        missing=measures.missing,
        unpaired=pairs.unpaired,
        problems=problems,
        settings=settings,
    )


def _collect(
    pairs: Pairs, measures: Measures, table: Table
) -> tuple[dict[str, dict[str, np.ndarray]], tuple[Problem, ...]]:
    """Return the values by metric and result, and what was not measured."""
    shape = len(pairs.faces)
    values = {metric: {name: np.full(shape, np.nan) for name in pairs.results} for metric in measures.of_faces}
    keys = ((number, face, name) for number, face in enumerate(pairs.faces) for name in pairs.results)
    problems = []
    for (number, face, name), line in zip(keys, table, strict=True):
        for metric, value in line.values.items():
            values[metric][name][number] = value
        if line.problem:
            problems.append(Problem(face.name, name, line.problem))
    return values, tuple(problems)
