"""Open each LMDB once per process.

py-lmdb 2.0 and later refuse a second ``lmdb.open`` of a path in one process, and an environment must not be used
after a fork. So there is one read-only environment per real path, and a forked child starts with none.
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
        settings: Passed to ``lmdb.open`` the first time; later callers share what is there.

    Raises:
        lmdb.Error: If the database cannot be opened.
    """
    key = (os.getpid(), str(Path(path).resolve()))
    if key not in _environments:
        for stale in [known for known in _environments if known[0] != os.getpid()]:
            _abandoned.append(_environments.pop(stale))
        options = {"readonly": True, "lock": False, "readahead": False, "max_spare_txns": 8, **settings}
        _environments[key] = lmdb.open(key[1], **options)
    return _environments[key]


def close_shared(path: str | os.PathLike) -> None:
    """Close this process's environment of ``path``, if it is open; the next ``open_shared`` opens it anew."""
    environment = _environments.pop((os.getpid(), str(Path(path).resolve())), None)
    if environment is not None:
        environment.close()


# Environments of the parent process are kept alive but never touched: closing them in a child could harm the parent.
_abandoned: list[lmdb.Environment] = []
