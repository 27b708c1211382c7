"""``lmdb-reopen``: the same LMDB in training and validation, or opened before a fork, fails with py-lmdb >= 2."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from facesr_plugin.compat.patch import Patch
from facesr_plugin.utils.lmdb_env import open_shared


def _backend() -> Any:
    from basicsr.utils.file_client import LmdbBackend

    return LmdbBackend


def _opens_each_time() -> bool:
    return "lmdb" in _backend().__init__.__code__.co_varnames


def _init(
    self: Any,
    db_paths: str | os.PathLike | Sequence[str | os.PathLike],
    client_keys: str | Sequence[str] = "default",
    readonly: bool = True,
    lock: bool = False,
    readahead: bool = False,
    **settings: Any,
) -> None:
    """Remember the paths; environments are opened per process on first use."""
    keys = [client_keys] if isinstance(client_keys, str) else list(client_keys)
    paths = [db_paths] if isinstance(db_paths, (str, os.PathLike)) else list(db_paths)
    if len(keys) != len(paths):
        raise ValueError(f"client_keys and db_paths must have the same length, got {len(keys)} and {len(paths)}")
    self.db_paths = [str(path) for path in paths]
    self._paths = dict(zip(keys, self.db_paths, strict=True))
    self._settings = {"readonly": readonly, "lock": lock, "readahead": readahead, **settings}


def _get(self: Any, filepath: str | os.PathLike, client_key: str = "default") -> bytes:
    """Return the value of one key (UTF-8).

    Raises:
        KeyError: If the LMDB has no such key; BasicSR goes on with None and fails later, without its name.
    """
    environment = open_shared(self._paths[client_key], **self._settings)
    with environment.begin(write=False) as transaction:
        value = transaction.get(str(filepath).encode("utf-8"))
    if value is None:
        raise KeyError(f"{self._paths[client_key]} has no key {str(filepath)!r}. Does meta_info.txt belong to it?")
    return value


def _apply() -> None:
    backend = _backend()
    backend.__init__, backend.get = _init, _get


LMDB_REOPEN = Patch(
    name="lmdb-reopen",
    reason="py-lmdb >= 2 refuses to open one LMDB twice in a process or to use it after a fork; keys had to be ASCII",
    needed=_opens_each_time,
    apply=_apply,
)
