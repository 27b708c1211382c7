"""Numbers in an LMDB's pages that would let LMDB read outside its file."""

from __future__ import annotations

import struct
from pathlib import Path

import lmdb
import pytest

from facesr_plugin.data.lmdb_pages import check_pages
from facesr_plugin.data.lmdb_store import LmdbReader, LmdbWriter
from helpers.faces import write_lmdb

PAGE = 4096


def write_plain(path: Path, count: int, size: int, rounds: int = 1) -> Path:
    """An LMDB of ``count`` values; in each round some are written anew, which leaves free pages."""
    with lmdb.open(str(path), map_size=2**26) as environment:
        for _ in range(rounds):
            with environment.begin(write=True) as transaction:
                for i in range(count):
                    transaction.put(f"{i:06d}".encode(), bytes(size))
    return path / "data.mdb"


def newest_meta(data: bytearray) -> int:
    """Place of the meta page with the later transaction."""
    return max((0, PAGE), key=lambda start: struct.unpack_from("<Q", data, start + 144)[0])


def root(data: bytearray) -> int:
    """Place of the root page of the images' tree."""
    return PAGE * struct.unpack_from("<Q", data, newest_meta(data) + 128)[0]


@pytest.mark.parametrize(
    ("count", "size", "rounds"), [(0, 1, 1), (1, 1, 1), (3, 9000, 4), (2000, 40, 3), (300, 3000, 2)]
)
def test_check_pages_accepts_what_lmdb_writes(tmp_path: Path, count: int, size: int, rounds: int) -> None:
    data = write_plain(tmp_path / "x", count, size, rounds)
    found = check_pages(data)
    assert found.entries == count
    assert found.num_bytes <= data.stat().st_size


@pytest.mark.parametrize(
    ("place", "kind", "value", "message"),
    [
        ("meta", "<16xI", 1, "meta page is not one of LMDB 0.9"),
        ("meta", "<40xI", 0, "meta page is not one of LMDB 0.9"),
        ("meta", "<44xH", 9, "settings that no LMDB of images has"),  # a map at an address of the file's choice
        ("meta", "<92xH", 4, "settings that no LMDB of images has"),  # several values per key
        ("meta", "<136xQ", 2**40, "is cut off: it has"),
        ("meta", "<128xQ", 2**40, "refers to page 1099511627776, behind its last one"),
        ("meta", "<128xQ", 0, "uses page 0 twice"),
        ("meta", "<94xH", 33, "states an impossible tree"),
        ("meta", "<94xH", 1, r"page \d+ is wrong"),
        ("meta", "<120xQ", 5, "its tree has 2000 entries, its meta page states 5"),
        ("root", "<Q", 7, r"page \d+ is wrong"),
        ("root", "<10xH", 4, r"page \d+ is wrong"),
        ("root", "<12xH", 18, r"page \d+ is wrong"),  # a branch with one child
        ("root", "<12xH", 9000, r"page \d+ is wrong"),
        ("root", "<16xH", 4095, r"page \d+ is wrong"),
        ("root", "<16xH", 17, r"page \d+ is wrong"),
        ("node", "<6xH", 4000, r"page \d+ is wrong"),
        ("node", "<H", 0, "uses page 0 twice"),
        ("leaf", "<H", 5000, r"page \d+ is wrong"),
        ("leaf", "<4xH", 1, "uses page 0 twice"),  # its value on pages of their own
        ("leaf", "<4xH", 2, r"page \d+ is wrong"),  # a database in the database
        ("leaf", "<6xH", 0, r"keys of its page \d+ are wrong"),
    ],
)  # fmt: skip
def test_check_pages_refuses(tmp_path: Path, place: str, kind: str, value: int, message: str) -> None:
    path = write_plain(tmp_path / "x", 2000, 40)
    data = bytearray(path.read_bytes())
    start = newest_meta(data) if place == "meta" else root(data)
    if place in ("node", "leaf"):
        start += struct.unpack_from("<H", data, start + 16)[0]
    if place == "leaf":
        page = PAGE * struct.unpack_from("<H", data, start)[0]
        start = page + struct.unpack_from("<H", data, page + 16)[0]
    skip = struct.calcsize(kind) - struct.calcsize(f"<{kind[-1]}")
    struct.pack_into(f"<{kind[-1]}", data, start + skip, value)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        check_pages(path)


def test_check_pages_refuses_a_wrong_list_of_free_pages(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "x", 300, 40, rounds=4)
    data = bytearray(path.read_bytes())
    page = PAGE * struct.unpack_from("<Q", data, newest_meta(data) + 80)[0]
    node = page + struct.unpack_from("<H", data, page + 16)[0]
    struct.pack_into("<Q", data, node + 16, 10**6)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="list of free pages is wrong"):
        check_pages(path)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * 9000, bytes(9000)])
def test_check_pages_refuses_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(ValueError, match="is cut off|is damaged"):
        check_pages(tmp_path / "data.mdb")


@pytest.mark.parametrize("use", [LmdbReader, lambda path: LmdbWriter(path, {"made_by": "tests"}, overwrite=False)])
def test_readers_and_writers_name_the_damaged_file(tmp_path: Path, use) -> None:
    write_lmdb(tmp_path / "x.lmdb", 3)
    path = tmp_path / "x.lmdb" / "data.mdb"
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, root(data) + 12, 60_000)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.lmdb.data\.mdb is damaged: its page \d+ is wrong\. Copy the LMDB again"):
        use(tmp_path / "x.lmdb")
