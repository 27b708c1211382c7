"""Check the pages of an LMDB's data file before LMDB maps it.

LMDB trusts every number in the file: a page that is missing, a size that is too large or a tree that contains itself
kills the process that reads it. The check walks both trees (images, free pages) from the newer of the two meta pages
as LMDB 0.9 does on 64-bit machines: each page once, each node inside its page, each value inside the file. Values that
have pages of their own are not read, so that it takes a second for some hundred thousand images.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = struct.Struct("<QHHHH")  # number, unused, flags, end of the table of nodes, begin of the nodes
_META = struct.Struct("<16xII16xIHHQQQQQIHHQQQQQQQ")
_NODE = struct.Struct("<HHHH")
_META_SPACE = 168
_BRANCH, _LEAF, _META_PAGE = 1, 2, 8
_BIG = 1  # flag of a node whose value has pages of its own
_NO_ROOT = 2**64 - 1
_PAGE_SIZES = tuple(2**power for power in range(9, 17))
_MAX_DEPTH = 32
_MAX_KEY = 511
_INTEGER_KEYS = 8


class _Tree(NamedTuple):
    flags: int
    depth: int
    entries: int
    root: int


class _Meta(NamedTuple):
    page_size: int
    free: _Tree
    main: _Tree
    last_page: int
    transaction: int


class Contents(NamedTuple):
    """What a whole data file has: ``entries`` keys, and ``num_bytes`` that LMDB may read."""

    entries: int
    num_bytes: int


def check_pages(data: Path) -> Contents:
    """Check the data file of an LMDB with one database, as BasicSR and this package write it.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no LMDB, cut off, damaged, or has several databases; the text says what the file is, and
            does not name it.
    """
    size = data.stat().st_size
    if size < 2 * _PAGE_SIZES[0]:
        raise ValueError(f"is cut off: it has {size} bytes")
    with data.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        meta = _newer_meta(content, size)
        needed = (meta.last_page + 1) * meta.page_size
        if size < needed:
            raise ValueError(f"is cut off: it has {size} of {needed} bytes")
        walk = _Walk(content, meta)
        walk.check(meta.main)
        walk.check_free(meta.free)
        return Contents(meta.main.entries, needed)


def _newer_meta(content: mmap.mmap, size: int) -> _Meta:
    first = _read_meta(content, 0)
    if size < first.page_size + _META_SPACE:
        raise ValueError(f"is cut off: it has {size} bytes")
    second = _read_meta(content, first.page_size)
    if second.page_size != first.page_size:
        raise ValueError("is damaged: its two meta pages disagree")
    return second if second.transaction > first.transaction else first


def _read_meta(content: mmap.mmap, start: int) -> _Meta:
    _, _, flags, _, _ = _HEADER.unpack_from(content, start)
    magic, version, *numbers, last_page, transaction = _META.unpack_from(content, start)
    page_size = numbers[0]
    if flags != _META_PAGE or magic != _MAGIC or version != _VERSION or page_size not in _PAGE_SIZES:
        raise ValueError("is damaged: its meta page is not one of LMDB 0.9")
    free, main = (_Tree(*part[1:3], *part[6:8]) for part in (numbers[:8], numbers[8:]))
    if free.flags & 0xFF != _INTEGER_KEYS or main.flags:
        raise ValueError("is damaged: its meta page states settings that no LMDB of images has")
    return _Meta(page_size, free, main, last_page, transaction)


class _Walk:
    """Goes through trees whose pages must all be different."""

    def __init__(self, content: mmap.mmap, meta: _Meta) -> None:
        self._content = content
        self._meta = meta
        self._seen = bytearray(b"\1\1").ljust(meta.last_page + 1, b"\0")  # a byte per page

    def check(self, tree: _Tree) -> list[tuple[int, int]]:
        """Check a tree; return place and size of the values that its leaves hold."""
        values: list[tuple[int, int]] = []
        if tree.depth > _MAX_DEPTH or (tree.root == _NO_ROOT) != (tree.entries == 0):
            raise ValueError("is damaged: its meta page states an impossible tree")
        entries, level = 0, [] if tree.root == _NO_ROOT else [tree.root]
        for depth in range(tree.depth):
            following: list[int] = []
            for number in level:
                is_leaf = depth == tree.depth - 1
                nodes = self._nodes(number, _LEAF if is_leaf else _BRANCH, tree)
                entries += len(nodes) if is_leaf else 0
                (values if is_leaf else following).extend(nodes)
            level = following
        if level or entries != tree.entries:
            raise ValueError(f"is damaged: its tree has {entries} entries, its meta page states {tree.entries}")
        return values

    def check_free(self, tree: _Tree) -> None:
        """Check the lists of free pages, which a writer takes from."""
        for place, size in self.check(tree):
            numbers = struct.unpack_from(f"<{size // 8}Q", self._content, place)
            listed = numbers[1:]
            if size % 8 or not numbers or numbers[0] > len(listed):
                raise ValueError("is damaged: its list of free pages is wrong")
            for number in listed[: numbers[0]]:
                self._take(number, 1)

    def _take(self, number: int, count: int) -> None:
        """Note pages as used, once."""
        if number + count - 1 > self._meta.last_page:
            raise ValueError(f"is damaged: it refers to page {number}, behind its last one, {self._meta.last_page}")
        if any(self._seen[number : number + count]):
            raise ValueError(f"is damaged: it uses page {number} twice")
        self._seen[number : number + count] = b"\1" * count

    def _nodes(self, number: int, kind: int, tree: _Tree) -> list:
        """Check one page; return the pages below, or place and size of the values in the file."""
        self._take(number, 1)
        size = self._meta.page_size
        start = number * size
        own, _, flags, lower, upper = _HEADER.unpack_from(self._content, start)
        count = (lower - _HEADER.size) // 2
        least = 2 if kind == _BRANCH and tree is self._meta.main else 1
        if own != number or flags != kind or lower % 2 or count < least or not lower <= upper <= size:
            raise ValueError(f"is damaged: its page {number} is wrong")
        page = self._content[start : start + size]
        found, keys = [], []
        for place in struct.unpack_from(f"<{count}H", page, _HEADER.size):
            if not upper <= place <= size - _NODE.size:
                raise ValueError(f"is damaged: its page {number} is wrong")
            low, high, node_flags, key_size = _NODE.unpack_from(page, place)
            value = place + _NODE.size + key_size
            if value > size or key_size > _MAX_KEY:
                raise ValueError(f"is damaged: its page {number} is wrong")
            keys.append(page[value - key_size : value])
            branch = low | high << 16 | node_flags << 32
            found.append(branch if kind == _BRANCH else self._value(page, number, value, branch))
        self._check_keys(number, keys if kind == _LEAF else keys[1:], tree)
        return found

    def _value(self, page: bytes, number: int, place: int, node: int) -> tuple[int, int]:
        """Place of a leaf's value in the file, and its size."""
        size, flags = node & 0xFFFFFFFF, node >> 32
        if flags == _BIG and place + 8 <= len(page):
            first = int.from_bytes(page[place : place + 8], "little")
            self._take(first, -(-(size + _HEADER.size) // len(page)))
            return first * len(page) + _HEADER.size, size
        if flags or place + size > len(page):
            raise ValueError(f"is damaged: its page {number} is wrong")
        return number * len(page) + place, size

    def _check_keys(self, number: int, keys: list[bytes], tree: _Tree) -> None:
        if tree is self._meta.free:
            fits = all(len(key) == 8 for key in keys)
        else:
            fits = b"" not in keys and all(first < second for first, second in zip(keys, keys[1:], strict=False))
        if not fits:
            raise ValueError(f"is damaged: the keys of its page {number} are wrong")
