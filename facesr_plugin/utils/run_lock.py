"""Keep two runs out of one folder, and say which run is in it.

The lock is POSIX's: it belongs to the process and not, like that of ``utils.lock``, to the open file. So loader
workers, which are forked with all open files and may outlive a killed run, never hold it. Within the process a list of
the held locks does what POSIX's cannot.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


class _Held(NamedTuple):
    handle: int | None
    thread: int


_held: dict[Path, _Held] = {}
_guard = threading.Lock()


def lock_file(folder: str | os.PathLike) -> Path:
    """Where the lock of a run's folder is: beside it, since BasicSR renames the folder."""
    folder = Path(folder).absolute()
    return folder.with_name(f".{folder.name}.lock")


def take_run_lock(folder: str | os.PathLike) -> None:
    """Keep other runs out of a folder until ``release_run_locks`` or the end of the process.

    The thread that holds it may take it again: its earlier run is over. Where platform or file system have no locks,
    only the runs of this process are kept apart.

    Args:
        folder: Of the run; need not exist. The one above is created.

    Raises:
        OSError: If another run is in the folder (names its process), or the lock cannot be written.
    """
    path, thread = lock_file(folder), threading.get_ident()
    with _guard:
        held = _held.get(path)
        if held is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _held[path] = _Held(_lock(path, Path(folder)), thread)
        elif held.thread != thread and any(other.ident == held.thread for other in threading.enumerate()):
            raise _in_use(Path(folder), f"another thread of this process ({os.getpid()})")
        else:
            _held[path] = held._replace(thread=thread)


def release_run_locks() -> None:
    """Let other runs into the folders that this thread's run has taken."""
    with _guard:
        for path in [path for path, held in _held.items() if held.thread == threading.get_ident()]:
            handle = _held.pop(path).handle
            if handle is not None:
                os.close(handle)


def _lock(path: Path, folder: Path) -> int | None:
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = _read_owner(handle)
        os.close(handle)
        if error.errno in _NO_LOCKS:
            return None
        raise _in_use(folder, owner) from None
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(handle, 0)
    os.write(handle, json.dumps(owner).encode())
    return handle


def _read_owner(handle: int) -> str:
    try:
        owner = json.loads(os.pread(handle, 4096, 0))
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (ValueError, KeyError, TypeError):  # it has taken the lock this moment
        return "another process"


def _in_use(folder: Path, owner: str) -> OSError:
    return OSError(
        f"{folder} must be free of other runs, got one in it: {owner}. Wait for its end, stop it, or give this run "
        "another name."
    )
