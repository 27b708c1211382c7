"""Write files so that a reader never meets half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def atomic_write(path: str | os.PathLike, writer: Callable[[BinaryIO], None]) -> None:
    """Write a file under a temporary name, flush it to disk and rename it into place.

    The old content stays until the new one is complete; a failure or a kill leaves the target
    as it was (a kill may leave a hidden ``.<name>.*.tmp`` file beside it, which the next
    write to the same target removes).

    Args:
        path: Target; its folder is created.
        writer: Called with the open binary file.

    Raises:
        OSError: If the folder cannot be written or the disk is full; the target is unchanged.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob(f".{_glob_safe(target.name)}.*.tmp"):
        if not _writer_alive(stale):
            stale.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.{os.getpid()}-", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            writer(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a full disk does not say whose
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    sync_folder(target.parent)


def expand_home(path: str | os.PathLike) -> Path:
    """Return a path with a home for its ``~``; one of an unknown user stays, where pathlib raises a RuntimeError."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def torch_writer(content: Any) -> Callable[[BinaryIO], None]:
    """Return a writer for ``atomic_write`` that puts ``torch.save`` of plain content into the file.

    On a full disk torch raises a RuntimeError that does not say so; this one raises the disk's own error.
    """

    def write(file: BinaryIO) -> None:
        import torch

        recorded = _Recorded(file)
        try:
            torch.save(content, recorded)
        except RuntimeError as error:
            raise recorded.error or error from None

    return write


class _Recorded:
    """A file that keeps the error of a write."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def check_writable(folder: str | os.PathLike) -> None:
    """Create a folder and try to write in it, so that a long run does not find out at its end.

    Raises:
        OSError: If that fails; names the folder.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


def atomic_write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text with ``atomic_write``."""
    atomic_write(path, lambda file: file.write(text.encode("utf-8")))


def _glob_safe(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _writer_alive(temporary: Path) -> bool:
    """Whether the process that made this temporary file (its number is in the name) still runs."""
    pid = temporary.name.rsplit(".", 2)[-2].split("-")[0]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def sync_folder(folder: Path) -> None:
    """Make the rename durable; not every platform and file system can open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)
