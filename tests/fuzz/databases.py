"""LMDB: the list of images, and pages of the database itself (LMDB trusts every number in them)."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from facesr_plugin.data.lmdb_store import LmdbReader, LmdbWriter
from facesr_plugin.data.sources import open_source
from facesr_plugin.utils.lmdb_env import close_shared
from fuzz.mutate import damaged, damaged_text
from fuzz.sandbox import Case
from helpers.faces import make_image

PAGE = 4096
_PLAN = {"made_by": "tests"}
_NUMBERS = (0, 1, 2, 3, 4, 8, 15, 16, 17, 18, 24, 4080, 4088, 4094, 4095, 4096, 4097, 8192, 32768, 65535)


@cache
def _base(count: int, finished: bool) -> dict[str, bytes]:
    """An LMDB of tiny faces; many keys make a tree of several levels, larger images have pages of their own."""
    from facesr_plugin.data.face_png import encode_face

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.lmdb"
        with LmdbWriter(path, _PLAN) as writer:
            for i in range(count):
                writer.put({f"face_{i:03d}": encode_face(make_image(i % 5, 4 if i % 7 else 48))})
            writer.finish() if finished else writer.commit()
        return {f"x.lmdb/{file.name}": file.read_bytes() for file in path.iterdir() if file.name != "lock.mdb"}


@st.composite
def _edited_pages(draw: Callable, data: bytes) -> bytes:
    """One to three numbers of the pages' headers, tables of nodes, nodes, or meta records are others."""
    edited = bytearray(data)
    pages = len(data) // PAGE
    for _ in range(draw(st.integers(1, 3))):
        page = draw(st.one_of(st.integers(0, min(3, pages - 1)), st.integers(0, pages - 1)))
        start = page * PAGE
        lower = int.from_bytes(data[start + 12 : start + 14], "little")
        nodes = max((min(lower, PAGE) - 16) // 2, 1)
        place = draw(st.sampled_from(("header", "meta", "pointer", "node", "any")))
        if place == "header":
            at, width = draw(st.sampled_from(((0, 8), (8, 2), (10, 2), (12, 2), (14, 2), (12, 4))))
        elif place == "meta":
            at, width = (
                16 + draw(st.sampled_from((0, 4))) if draw(st.booleans()) else 24 + 8 * draw(st.integers(0, 16)),
                draw(st.sampled_from((2, 4, 8))),
            )
        elif place == "pointer":
            at, width = 16 + 2 * draw(st.integers(0, nodes - 1)), 2
        elif place == "node":
            pointer = start + 16 + 2 * draw(st.integers(0, nodes - 1))
            node = int.from_bytes(data[pointer : pointer + 2], "little") % PAGE
            at, width = node + draw(st.sampled_from((0, 2, 4, 6, 8, 16))), draw(st.sampled_from((2, 4, 8)))
        else:
            at, width = draw(st.integers(0, PAGE - 8)), draw(st.sampled_from((1, 2, 4, 8)))
        number = draw(
            st.one_of(
                st.sampled_from(_NUMBERS),
                st.integers(0, pages + 2),
                st.sampled_from((2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)),
                st.integers(0, 2**64 - 1),
            )
        )
        edited[start + at : start + at + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(edited[: len(data)])


@st.composite
def _moved_pages(draw: Callable, data: bytes) -> bytes:
    """A page is a copy of another one, or zero, or random."""
    edited, pages = bytearray(data), len(data) // PAGE
    for _ in range(draw(st.integers(1, 3))):
        target, source = draw(st.integers(0, pages - 1)), draw(st.integers(0, pages - 1))
        kinds = {"copy": data[source * PAGE : (source + 1) * PAGE], "zero": bytes(PAGE), "ones": b"\xff" * PAGE}
        kinds["numbered"] = struct.pack("<Q", target) + kinds["copy"][8:]
        edited[target * PAGE : (target + 1) * PAGE] = kinds[draw(st.sampled_from(sorted(kinds)))]
    return bytes(edited)


_LINES = (
    "../../x.png (32,32,3) 1",
    "/etc/passwd.png (4,4,3) 1",
    "a\0b.png (4,4,3) 1",
    "face_000.png (4,4,3)",
    "face_000.png (-1,0,3) 1",
    "face_000.png (99999999999999999999,4,3) 1",
    " (4,4,3) 1",
    "face_000.png (4,4,3) 1",
    "x" * 600 + ".png (4,4,3) 1",
    "..png (4,4,3) 1",
    "face_000.png (4,4) 1",
    "face_000.png (4,4,3,3) 1",
    "face_000 (4,4,3) 1",
    "\x1b[31m.png (4,4,3) 1",
    "é.png (4,4,3) 1",
)


@st.composite
def _lists(draw: Callable, text: str) -> bytes:
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(_LINES)))
    return "\n".join(lines).encode()


@st.composite
def cases(draw: Callable) -> Case:
    entry = draw(st.sampled_from(("read", "read", "read", "continue")))
    files = dict(_base(draw(st.sampled_from((2, 20, 300))), entry == "read"))
    data, meta = files["x.lmdb/data.mdb"], files.get("x.lmdb/meta_info.txt", b"").decode()
    if meta and draw(st.integers(0, 3)) == 0:
        files["x.lmdb/meta_info.txt"] = draw(
            st.one_of(
                _lists(meta), damaged(st.just(meta.encode())), damaged_text(st.just(meta)), st.binary(max_size=80)
            )
        )
    else:
        cut = st.one_of(st.integers(0, len(data)), st.integers(0, len(data) // PAGE).map(lambda count: count * PAGE))
        changed = st.one_of(
            _edited_pages(data),
            _edited_pages(data),
            _moved_pages(data),
            damaged(st.just(data)),
            cut.map(lambda size: data[:size]),
            st.binary(max_size=5000),
        )
        files["x.lmdb/data.mdb"] = draw(changed)
    return Case("databases", files, {"entry": entry}, ("x.lmdb",))


def attempt(folder: Path, case: Case) -> None:
    """As a data set reads every image, or as ``facesr prepare`` goes on with an interrupted run."""
    path = folder / "x.lmdb"
    try:
        if case.arguments["entry"] == "continue":
            with LmdbWriter(path, _PLAN) as writer:
                list(writer.images())
                writer.finish()
        source = open_source(str(path), {"type": "lmdb"})
        source.shapes()
        for key in source.keys:
            source.read(key)
        LmdbReader(path)
    finally:
        close_shared(path)
        shutil.rmtree(path, ignore_errors=True)
