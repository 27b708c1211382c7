"""Open each LMDB once per process.

py-lmdb 2.0 and later refuse a second ``lmdb.open`` of a path in one process (they know it by an inode, also that of a
folder that is removed), a forked child counts as the same process, and an environment must not be used after a fork. So
there is one read-only environment per real path, and a child first closes those of its parent. That is safe only
without LMDB's lock file, whose reader slots both would share.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import lmdb


class _Opened(NamedTuple):
    environment: lmdb.Environment
    file: tuple[int, int] | None  # device and inode of its data: another LMDB may come to its place


_environments: dict[tuple[int, str], _Opened] = {}


def open_shared(path: str | os.PathLike, **settings: object) -> lmdb.Environment:
    """Return this process's read-only environment of ``path``, opening it on first use and when it was replaced.

    Args:
        path: Folder of the LMDB.
        settings: Passed to ``lmdb.open`` the first time; later callers share what is there. Always read-only and
            without the lock file.

    Raises:
        lmdb.Error: If the database cannot be opened.
    """
    key = (os.getpid(), str(Path(path).resolve()))
    known = _environments.get(key)
    if known is not None and _file_of(key[1]) in (known.file, None):
        return known.environment
    _close_unusable()
    options = {"readahead": False, "max_spare_txns": 8, **settings, "readonly": True, "lock": False}
    environment = lmdb.open(key[1], **options)
    _environments[key] = _Opened(environment, _file_of(key[1]))
    return environment


def close_shared(path: str | os.PathLike) -> None:
    """Close this process's environment of ``path``, if it is open; the next ``open_shared`` opens it anew."""
    known = _environments.pop((os.getpid(), str(Path(path).resolve())), None)
    if known is not None:
        known.environment.close()


def _file_of(path: str) -> tuple[int, int] | None:
    """Device and inode of an LMDB's data; None if it is gone."""
    try:
        found = os.stat(os.path.join(path, "data.mdb"))  # noqa: PTH116, PTH118 (before every image: pathlib is slower)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _close_unusable() -> None:
    """Close environments of the parent process, and of LMDBs that are gone: their inodes may soon be another one's."""
    for key, known in list(_environments.items()):
        if key[0] != os.getpid() or _file_of(key[1]) != known.file:
            _environments.pop(key).environment.close()
