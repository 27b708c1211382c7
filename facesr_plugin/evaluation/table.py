"""Values of faces in ``per_image.csv``, line by line as they are measured, so that a killed run goes on where it was.

``evaluation.json`` beside it says what the lines are of (inputs, metrics, ...); a run with another plan is refused.
Every face has a line for each result, in the order of the faces, whether measured or not. An empty field is a value
that was not measured; ``problem`` has the reasons.
"""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from facesr_plugin.evaluation.pairs import printable
from facesr_plugin.utils.files import atomic_write, atomic_write_text
from facesr_plugin.utils.lock import lock

TABLE, PLAN, STATE = "per_image.csv", "evaluation.json", "unfinished.npz"
_FIRST, _LAST = ("face", "result"), "problem"
_FORMULA = ("=", "+", "-", "@")  # which spreadsheets would run


class Line(NamedTuple):
    """One face of one result: values by metric, those that are missing were not measured, and the reasons."""

    values: Mapping[str, float]
    problem: str = ""


class Table:
    """The lines of an evaluation on disk. A context manager.

    Args:
        folder: Of the files; it is created.
        plan: What the values depend on, plain JSON values.
        faces: Names in printable characters.
        results: Names of the results; a face has a line for each, in this order.
        metrics: Columns.
        overwrite: Start anew, whatever the files are of.

    Raises:
        FileExistsError: If the files are of another plan and ``overwrite`` is not set.
        OSError: If they cannot be written, or another process is writing them.
        ValueError: If they were changed by something else.

    Attributes:
        done: Number of faces that have their lines.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        plan: Mapping[str, Any],
        faces: Sequence[str],
        results: Sequence[str],
        metrics: Sequence[str],
        *,
        overwrite: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._plan, self._metrics = json.loads(json.dumps(plan)), tuple(metrics)
        self._faces, self._results = faces, tuple(results)
        self._lock = lock(self.folder)
        try:
            self._start(overwrite)
            self.done = self._resume()
            self._file = self._path(TABLE).open("ab")
        except BaseException:
            self._unlock()
            raise

    def add(self, faces: Sequence[Sequence[Line]]) -> None:
        """Append the lines of the next faces and bring them to the disk.

        Raises:
            OSError: If the disk is full.
        """
        names = self._faces[self.done : self.done + len(faces)]
        rows = [
            (*self._key(name, result), *self._fields(line), printable(line.problem))
            for name, lines in zip(names, faces, strict=True)
            for result, line in zip(self._results, lines, strict=True)
        ]
        self._file.write(_csv(rows))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done += len(faces)

    def _fields(self, line: Line) -> list[str]:
        return [repr(line.values[metric]) if metric in line.values else "" for metric in self._metrics]

    def __iter__(self) -> Iterator[Line]:
        """Yield the lines so far.

        Raises:
            ValueError: If one was changed by something else.
        """
        with self._path(TABLE).open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows)
            yield from map(self._parse, rows)

    def _parse(self, row: Sequence[str]) -> Line:
        try:
            _, _, *fields, problem = row
            texts = zip(self._metrics, fields, strict=True)
            return Line({metric: float(text) for metric, text in texts if text}, problem)
        except ValueError as error:
            raise ValueError(self._changed) from error

    def save_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep what is summed up over faces, for a run that goes on."""
        atomic_write(self._path(STATE), lambda file: np.savez(file, **arrays))

    def load_state(self) -> dict[str, np.ndarray]:
        """Return what was kept, empty if nothing was or it is damaged."""
        try:
            with np.load(self._path(STATE), allow_pickle=False) as archive:
                return dict(archive)
        except (FileNotFoundError, EOFError, ValueError, zipfile.BadZipFile):
            return {}

    def finish(self, outcome: Any) -> None:
        """Keep what was found over all faces, plain JSON values, in place of the state."""
        self._write_plan(outcome)
        self._path(STATE).unlink(missing_ok=True)

    @property
    def outcome(self) -> Any:
        """What :meth:`finish` kept, None before."""
        return json.loads(self._path(PLAN).read_text(encoding="utf-8"))["outcome"]

    def _start(self, overwrite: bool) -> None:
        if not overwrite and self._read_plan() == self._plan:
            return
        if not overwrite and any(self._path(name).exists() for name in (PLAN, TABLE)):
            raise FileExistsError(
                f"{self.folder} holds an evaluation of other inputs, metrics or settings. Choose another --out, or "
                "replace it with --overwrite."
            )
        for name in (PLAN, TABLE, STATE):
            self._path(name).unlink(missing_ok=True)
        self._write_plan(None)

    def _read_plan(self) -> Any:
        try:
            return json.loads(self._path(PLAN).read_text(encoding="utf-8"))["plan"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _write_plan(self, outcome: Any) -> None:
        atomic_write_text(self._path(PLAN), json.dumps({"plan": self._plan, "outcome": outcome}, indent=1) + "\n")

    def _resume(self) -> int:
        """Drop a face that a kill cut off, and return the number of faces that stay."""
        head = _csv([(*_FIRST, *self._metrics, _LAST)])
        path, done, each = self._path(TABLE), 0, len(self._results)
        if not path.exists() or path.stat().st_size < len(head):
            path.write_bytes(head)
        with path.open("rb") as file:
            sound, kept = file.readline() == head, file.tell()
            while sound and done < len(self._faces) and len(lines := list(islice(_whole(file), each))) == each:
                keys = [self._key(self._faces[done], result) for result in self._results]
                sound = all(line.startswith(_csv([(*key, "")])[:-1]) for line, key in zip(lines, keys, strict=True))
                done, kept = done + 1, file.tell()
        if not sound:
            raise ValueError(self._changed)
        os.truncate(path, kept)
        return done

    @property
    def _changed(self) -> str:
        return f"{self._path(TABLE)} was changed by something else. Replace it with --overwrite."

    @staticmethod
    def _key(face: str, result: str) -> tuple[str, str]:
        return _plain(face), _plain(result)

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._unlock()


def _whole(file: io.BufferedReader) -> Iterator[bytes]:
    """Yield lines that end; ``file.tell`` is behind the last one."""
    while (line := file.readline()).endswith(b"\n"):
        yield line


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8")


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
