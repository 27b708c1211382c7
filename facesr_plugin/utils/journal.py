"""Results of a long run, kept line by line beside the output until it is written whole; a killed run continues."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from facesr_plugin.utils.lock import lock


class Journal:
    """A text file of JSON lines, the first one is the plan of the run. A context manager.

    A line that a kill cut off is dropped.

    Args:
        path: The file; its folder is created.
        plan: What the results depend on, plain JSON values.
        overwrite: Start anew where the file is of another plan.

    Raises:
        FileExistsError: If the file is of another plan, or something else, and ``overwrite`` is not set.
        OSError: If it cannot be written, or another process is writing it.
    """

    def __init__(self, path: str | os.PathLike, plan: dict[str, Any], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        self._lock = None
        try:
            self._lock = lock(self.path)
            self._start(json.loads(json.dumps(plan)), overwrite)
        except BaseException:
            self.close()
            raise

    def _start(self, plan: dict[str, Any], overwrite: bool) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        first = content[: content.find(b"\n") + 1]
        if first and _parsed(first) != plan and not overwrite:
            raise FileExistsError(
                f"{self.path} is of an interrupted run with other inputs or settings. Repeat those, or start anew with "
                "--overwrite."
            )
        self._file.truncate(whole if first and _parsed(first) == plan else 0)
        if self._file.seek(0, os.SEEK_END) == 0:
            self.append(plan)

    def append(self, record: Any) -> None:
        """Add a line and bring it to the disk.

        Args:
            record: Plain JSON values.

        Raises:
            OSError: If the disk is full.
        """
        self._file.write(json.dumps(record).encode("ascii") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __iter__(self) -> Iterator[Any]:
        """Yield the records in the order in which they were added."""
        self._file.seek(0)
        lines = iter(self._file.read().splitlines())
        next(lines)
        yield from map(json.loads, lines)

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, which stays for the next run."""
        self._file.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
