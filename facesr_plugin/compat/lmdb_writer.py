"""``lmdb-writer``: BasicSR sizes a new LMDB by its first image and stops with MDB_MAP_FULL when that one is small."""

from __future__ import annotations

import functools
from typing import Any

from facesr_plugin.compat.patch import Patch, names_in, rebind

# LMDB reserves address space, not disk: the file grows with its content. One tebibyte, like BasicSR's LmdbMaker.
MAP_SIZE = 1024**4


def _lmdb_util() -> Any:
    import basicsr.utils.lmdb_util as lmdb_util

    return lmdb_util


def _apply() -> None:
    original = _lmdb_util().make_lmdb_from_imgs

    @functools.wraps(original)
    def make_lmdb_from_imgs(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 9 and kwargs.get("map_size") is None:
            kwargs["map_size"] = MAP_SIZE
        return original(*args, **kwargs)

    rebind(original, make_lmdb_from_imgs)


LMDB_WRITER = Patch(
    name="lmdb-writer",
    reason="make_lmdb_from_imgs takes ten times the first image for the size of each: MDB_MAP_FULL",
    needed=lambda: "nbytes" in names_in(_lmdb_util().make_lmdb_from_imgs),
    apply=_apply,
)
