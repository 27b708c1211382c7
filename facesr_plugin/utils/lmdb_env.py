"""Open each LMDB once per process.

py-lmdb 2.0 and later refuse a second ``lmdb.open`` of a path in one process, a forked child counts as the same one,
and an environment must not be used after a fork. So there is one read-only environment per real path, and a child
first closes those of its parent. That is safe only without LMDB's lock file, whose reader slots both would share.
"""

from __future__ import annotations

import os
from pathlib import Path

import lmdb

_environments: dict[tuple[int, str], lmdb.Environment] = {}


def open_shared(path: str | os.PathLike, **settings: object) -> lmdb.Environment:
    """Return this process's read-only environment of ``path``, opening it on first use.

    Args:
        path: Folder of the LMDB.
        settings: Passed to ``lmdb.open`` the first time; later callers share what is there. Always read-only and
            without the lock file.

    Raises:
        lmdb.Error: If the database cannot be opened.
    """
    key = (os.getpid(), str(Path(path).resolve()))
    if key not in _environments:
        for stale in [known for known in _environments if known[0] != os.getpid()]:
            _environments.pop(stale).close()
        options = {"readahead": False, "max_spare_txns": 8, **settings, "readonly": True, "lock": False}
        _environments[key] = lmdb.open(key[1], **options)
    return _environments[key]


def close_shared(path: str | os.PathLike) -> None:
    """Close this process's environment of ``path``, if it is open; the next ``open_shared`` opens it anew."""
    environment = _environments.pop((os.getpid(), str(Path(path).resolve())), None)
    if environment is not None:
        environment.close()
