"""LMDB in BasicSR's format: a writer that survives a kill, and a reader that says what is wrong.

A folder ``X.lmdb`` holds ``data.mdb``, ``lock.mdb`` and ``meta_info.txt`` (lines ``key.png (h,w,c) 1``).
The writer also keeps ``prepare.json``, the plan of the run. ``meta_info.txt`` is made last, from what the
database holds, and renamed into place: a folder with a plan and without it is an interrupted run.
Differs from BasicSR's ``LmdbMaker``: it continues, it grows as needed, and the list never runs ahead of the data.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import lmdb

from facesr_plugin.data.image_head import HEAD_BYTES, image_shape
from facesr_plugin.data.lmdb_pages import Contents, check_pages
from facesr_plugin.utils.files import atomic_write_text
from facesr_plugin.utils.lmdb_env import close_shared, open_shared
from facesr_plugin.utils.lock import lock

META_FILE = "meta_info.txt"
PLAN_FILE = "prepare.json"
SKIPPED_FILE = "skipped.txt"
LANDMARK_FILE = "landmarks.npz"
OWN_FILES = (META_FILE, SKIPPED_FILE, LANDMARK_FILE, "data.mdb", "lock.mdb", PLAN_FILE)  # in the order of removal
COMPRESS_LEVEL = 1
FIRST_MAP_SIZE = 64 * 2**20
_COMMIT_S = 10
_MAX_KEY_BYTES = 511  # of LMDB
_MAX_SIDE = 2**20


class MetaEntry(NamedTuple):
    """One line of ``meta_info.txt``: the key, and the image's ``(height, width, channels)``."""

    key: str
    shape: tuple[int, int, int]


class LmdbWriter:
    """Write images into ``X.lmdb``; continue what an earlier run with the same plan left.

    Use as a context manager. Leaving it without ``finish`` keeps what was committed, for the next run.

    Args:
        path: Folder, its name ends with ``.lmdb``.
        plan: What the content depends on, plain JSON values; a run with another plan does not continue this one.
        overwrite: Replace a finished or foreign LMDB; an interrupted run with the same plan is still continued.
        batch: Images per commit, which comes after ten seconds at the latest: a kill loses at most these.
        map_size: First size of the map in bytes; it doubles whenever it is full.

    Attributes:
        keys: Keys that are stored.
        complete: Whether an earlier run with this plan has finished; then nothing is to be written.

    Raises:
        FileExistsError: If the folder holds something else, or a run with another plan, and ``overwrite`` is not set.
        OSError: If another process is writing it, or the disk is full.
        ValueError: If ``path`` does not end with ``.lmdb``, or an interrupted run is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        plan: dict[str, Any],
        *,
        overwrite: bool = False,
        batch: int = 256,
        map_size: int = FIRST_MAP_SIZE,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix != ".lmdb":
            raise ValueError(f"output must be a folder whose name ends with .lmdb, got {self.path}")
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} exists and is not a folder. Choose another output.")
        self.path.mkdir(parents=True, exist_ok=True)
        close_shared(self.path)
        self._batch = batch
        self._pending: dict[str, bytes] = {}
        self._last_commit = time.monotonic()
        self._environment: lmdb.Environment | None = None
        self._lock = lock(self.path)  # where there is none, LMDB's own must do
        try:
            self._start(json.loads(json.dumps(plan)), overwrite, map_size)
        except BaseException:
            self.close()
            raise

    def _start(self, plan: dict[str, Any], overwrite: bool, map_size: int) -> None:
        state = _state_of(self.path, plan)
        if state is not None and not overwrite:
            raise FileExistsError(state)
        finished = (self.path / META_FILE).exists()
        if overwrite and (state is not None or finished or self._is_damaged()):
            remove_lmdb(self.path)
            finished = False
        self.complete = finished
        self._plan = plan
        if not finished:
            atomic_write_text(self.path / PLAN_FILE, json.dumps(plan, indent=1, sort_keys=True) + "\n")
        self._environment = _open_for_writing(self.path, map_size)
        with _named_errors(self.path), self._environment.begin() as transaction:
            self.keys = {key.decode("utf-8") for key in transaction.cursor().iternext(values=False)}

    def _is_damaged(self) -> bool:
        """Whether an interrupted run cannot be continued."""
        try:
            _open_for_writing(self.path, FIRST_MAP_SIZE).close()
        except ValueError:
            return True
        return False

    def __enter__(self) -> LmdbWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(self, images: Mapping[str, bytes]) -> None:
        """Store images with the next commit, all of them or, if the process dies before, none.

        Args:
            images: Contents of PNG or JPEG files by key, from ``safe_key``.

        Raises:
            OSError: If the disk is full.
            ValueError: If a key is there already or a content is neither.
        """
        for key, data in images.items():
            if key in self.keys:
                raise ValueError(f"{self.path} has the key {key!r} already. Each image needs its own name.")
            image_shape(data, key)
        self._pending.update(images)
        self.keys.update(images)
        if len(self._pending) >= self._batch or time.monotonic() > self._last_commit + _COMMIT_S:
            self.commit()

    def commit(self) -> None:
        """Make what was put durable, in a larger map if need be.

        Raises:
            OSError: If the disk is full.
        """
        while self._pending:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._pending.items():
                        transaction.put(key.encode("utf-8"), value)
                self._pending = {}
                self._last_commit = time.monotonic()
            except lmdb.MapFullError:
                self._environment.set_mapsize(self._environment.info()["map_size"] * 2)
            except lmdb.Error as error:
                raise OSError(
                    f"cannot write {self.path}: {error}. Make room on the disk; the same command then continues."
                ) from error

    def images(self) -> Iterator[tuple[str, bytes]]:
        """Yield key and file content of what is committed, in the order of the keys."""
        with self._environment.begin() as transaction:
            for key, value in transaction.cursor():
                yield key.decode("utf-8"), value

    def finish(self) -> list[MetaEntry]:
        """Commit, and write ``meta_info.txt`` from what the database holds: from now on it is complete.

        Raises:
            OSError: If the disk is full.
        """
        self.commit()
        with _named_errors(self.path), self._environment.begin(buffers=True) as transaction:
            entries = [self._entry(str(key, "utf-8"), value) for key, value in transaction.cursor()]
        lines = [f"{key}.png ({h},{w},{c}) {COMPRESS_LEVEL}\n" for key, (h, w, c) in entries]
        atomic_write_text(self.path / META_FILE, "".join(lines))
        self.complete = True
        return entries

    def _entry(self, key: str, content: memoryview) -> MetaEntry:
        return MetaEntry(key, image_shape(bytes(content[:HEAD_BYTES]), f"{self.path}: {key}"))

    def discard(self) -> None:
        """Close, and remove what was written: the folder too, if nothing else is in it."""
        self._environment.close()
        self._environment = None
        remove_lmdb(self.path)
        with contextlib.suppress(OSError):
            self.path.rmdir()
        self.close()

    def close(self) -> None:
        """Release the folder; what was put after the last commit is given up."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class LmdbReader:
    """Read the images of a finished ``X.lmdb``; picklable, one environment per process and path.

    Args:
        path: Folder of the LMDB.

    Attributes:
        entries: Key and shape of every image, in the order of ``meta_info.txt``.

    Raises:
        FileNotFoundError: If the folder or its data file is missing.
        ValueError: If ``meta_info.txt`` is missing or wrong, or the data file is cut off or damaged.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.entries = read_meta_info(self.path)
        if not (self.path / "data.mdb").is_file():
            raise FileNotFoundError(
                f"{self.path} has no data.mdb. Copy it again, or make it with facesr prepare faces."
            )
        stored, self._num_bytes = check_whole(self.path)
        if stored < len(self.entries):
            raise ValueError(
                f"{self.path / META_FILE} lists {len(self.entries)} images, the data has {stored}. "
                "They do not belong together: copy the LMDB again."
            )

    @property
    def keys(self) -> list[str]:
        """Keys of the images, in the order of ``meta_info.txt``."""
        return [entry.key for entry in self.entries]

    def get(self, key: str) -> bytes:
        """Return the file content stored under ``key``.

        Raises:
            FileNotFoundError: If the data file is gone since it was opened.
            KeyError: If there is no such key.
            ValueError: If the data file was cut off since it was opened.
        """
        _check_size(self.path / "data.mdb", self._num_bytes)
        with _named_errors(self.path), self._environment().begin() as transaction:
            value = transaction.get(key.encode("utf-8"))
        if value is None:
            raise KeyError(f"{self.path} has no key {key!r}. Does its {META_FILE} belong to it?")
        return value

    def _environment(self) -> lmdb.Environment:
        with _named_errors(self.path):
            return open_shared(self.path)


_REMEDY = "Copy the LMDB again, or make it again with facesr prepare faces --overwrite."


def read_meta_info(path: Path) -> list[MetaEntry]:
    """Read ``meta_info.txt`` of an LMDB; the key is the text before the last dot of the name.

    Raises:
        FileNotFoundError: If there is no such LMDB.
        ValueError: If the file is missing, empty or has a line of another form.
    """
    meta = path / META_FILE
    if not path.is_dir():
        raise FileNotFoundError(f"LMDB {path} does not exist. Make it with facesr prepare faces IN --out {path}")
    if not meta.is_file():
        raise ValueError(
            f"LMDB {path} has no {META_FILE}: it is not finished. Run the facesr prepare command that makes it again."
        )
    try:
        lines = meta.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{meta} must be UTF-8 text, got binary data. {_REMEDY}") from error
    entries = [_parse_meta_line(line, meta) for line in lines if line.strip()]
    if not entries:
        raise ValueError(f"{meta} must list at least one image, got an empty file. {_REMEDY}")
    return entries


def _parse_meta_line(line: str, meta: Path) -> MetaEntry:
    try:
        name, shape, _ = line.rsplit(" ", 2)
        height, width, channels = (int(side) for side in shape.strip("()").split(","))
        key = name.rpartition(".")[0] or name
        fits = min(height, width, channels) > 0 and max(height, width, channels) <= _MAX_SIDE
        if not fits or not 0 < len(key.encode("utf-8")) <= _MAX_KEY_BYTES or "\0" in key:
            raise ValueError("impossible key or size")
    except ValueError as error:
        raise ValueError(f"{meta} must have lines 'key.png (h,w,c) 1', got {line[:200]!r}. {_REMEDY}") from error
    return MetaEntry(key, (height, width, channels))


def check_whole(path: Path) -> Contents:
    """Check that the data file is whole and that all in it stays inside it; LMDB would kill the process otherwise.

    Raises:
        FileNotFoundError: If there is none any more.
        ValueError: If it is cut off or damaged.
    """
    data = path / "data.mdb"
    try:
        return check_pages(data)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{data} is gone. {_REMEDY}") from error
    except ValueError as error:
        raise ValueError(f"{data} {error}. {_REMEDY}") from error


def _check_size(data: Path, needed: int) -> None:
    try:
        size = data.stat().st_size
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{data} is gone. {_REMEDY}") from error
    if size < needed:
        raise ValueError(f"{data} is cut off: it has {size} of {needed} bytes. {_REMEDY}")


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Give what LMDB says of damaged data the form of other damaged files."""
    try:
        yield
    except (lmdb.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path / 'data.mdb'} is damaged: {error}. {_REMEDY}") from error


def remove_lmdb(path: Path) -> None:
    """Remove the files of an LMDB and nothing else, the mark of completeness first and the plan last."""
    close_shared(path)
    for name in OWN_FILES:
        (path / name).unlink(missing_ok=True)


def _state_of(path: Path, plan: dict[str, Any]) -> str | None:
    """Say what speaks against writing into the folder, or None: it is new, or holds a run with this plan."""
    plan_file = path / PLAN_FILE
    if not plan_file.is_file():
        if all(entry.name.startswith(f".{PLAN_FILE}.") for entry in path.iterdir()):
            return None
        return f"{path} exists and was not made by this command. Choose another output, or replace it with --overwrite."
    try:
        found = json.loads(plan_file.read_text(encoding="utf-8"))
    except ValueError:
        found = {}
    if found == plan:
        return None
    done = "a finished run" if (path / META_FILE).exists() else "an interrupted run"
    found = found if isinstance(found, dict) else {}
    names = [name for name in sorted({*plan, *found}) if plan.get(name) != found.get(name)]
    differences = "; ".join(f"{name} {found.get(name)!r}, now {plan.get(name)!r}" for name in names)
    return f"{path} holds {done} with other settings ({differences}). Repeat those, or replace it with --overwrite."


def _open_for_writing(path: Path, map_size: int) -> lmdb.Environment:
    data = path / "data.mdb"
    if data.exists() and data.stat().st_size:  # an empty one is what a kill at the very beginning leaves
        check_whole(path)
    with _named_errors(path):
        return lmdb.open(str(path), map_size=map_size)
