"""Keep two processes from writing one output."""

from __future__ import annotations

import os


def lock(path: str | os.PathLike) -> int | None:
    """Lock a file or folder against other processes that ask for the same, until the handle is closed.

    Returns:
        A handle for ``os.close``; None where the platform or the file system has no such lock.

    Raises:
        OSError: If another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise OSError(f"another process is writing {path}. Wait until it has finished.") from error
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle
