"""Damage to bytes and to trees of plain values, as hypothesis draws it."""

from __future__ import annotations

import copy
import datetime
import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

INTEGERS = (
    0,
    1,
    -1,
    2,
    127,
    255,
    256,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    2**64,
    10**400,
)
TEXTS = (
    "",
    " ",
    "x",
    "0",
    "-1",
    "2e-4",
    "nan",
    "..",
    "../../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    "\x1b[31mred",
    "a\nb",
    "é",
    "\u202e",
    "\ud800",
    "%s",
    "{}",
    "!!python/object/apply:os.system ['touch CANARY']",
    "__import__('os').system('touch CANARY')",
    "x" * 5000,
    "9" * 5000,
    "SPARNet",
    "L1Loss",
    "calculate_psnr",
    "SPARNetModel",
    "cpu",
    "cuda:99",
)
_NUMBERS = (0.0, -0.5, 0.5, 1e308, -1e308, math.nan, math.inf, -math.inf, 1e-320)


def nested(depth: int, key: str | None = None) -> Any:
    """A list in a list in a list, or mappings."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if key is None else {key: value}
    return value


def odd_values(*more: Any) -> st.SearchStrategy[Any]:
    """Values that fit almost nowhere."""
    plain = (
        None,
        True,
        False,
        [],
        {},
        [[]],
        {"a": 1},
        {"type": "x"},
        [1, 2, 3],
        b"\x00\xff",
        b"",
        datetime.date(2020, 1, 1),
    )
    shapes = (nested(5), nested(40, "a"), nested(90), [0] * 3000, {str(i): i for i in range(300)}, {0: 1, None: 2})
    return st.one_of(
        st.sampled_from(INTEGERS),
        st.sampled_from(_NUMBERS),
        st.sampled_from(TEXTS),
        st.sampled_from(plain + shapes + more),
        st.text(max_size=12),
        st.integers(),
        st.floats(),
    )


def _places(tree: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found.append((tree, key))
        _places(value, found)
    return found


@st.composite
def edited_trees(draw: Callable, trees: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> Any:
    """Copies of dictionaries in which one to four values were replaced, removed, moved or given another key."""
    tree = copy.deepcopy(draw(trees))
    for _ in range(draw(st.integers(1, 4))):
        places = _places(tree, [])
        if not places:
            break
        parent, key = places[draw(st.integers(0, len(places) - 1))]
        action = draw(st.sampled_from(("replace", "replace", "replace", "remove", "rename", "add", "move")))
        if action == "replace":
            parent[key] = copy.deepcopy(draw(values))
        elif action == "remove":
            del parent[key]
        elif action == "move":
            other, place = places[draw(st.integers(0, len(places) - 1))]
            other[place] = copy.deepcopy(parent[key])
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(draw(values)))
        elif action == "rename":
            parent[draw(_keys)] = parent.pop(key)
        else:
            parent[draw(_keys)] = copy.deepcopy(draw(values))
    return tree


_keys = st.one_of(
    st.sampled_from(("type", "x", "", "lr", "weights", "params", "0", "a.b", "../x")),
    st.integers(0, 3),
    st.text(max_size=6),
)


def _flip(draw: Callable, data: bytearray, at: int, _: int) -> None:
    data[at] ^= 1 << draw(st.integers(0, 7))


def _set_number(draw: Callable, data: bytearray, at: int, _: int) -> None:
    width = draw(st.sampled_from((1, 2, 4, 8)))
    number = draw(st.sampled_from(INTEGERS[:-1])) % 2 ** (8 * width)
    data[at : at + width] = number.to_bytes(width, draw(st.sampled_from(("little", "big"))))


def _set_bytes(draw: Callable, data: bytearray, at: int, length: int) -> None:
    data[at : at + length] = draw(st.binary(max_size=16))


def _insert(draw: Callable, data: bytearray, at: int, _: int) -> None:
    data[at:at] = draw(st.binary(min_size=1, max_size=32))


def _cut(_: Callable, data: bytearray, at: int, __: int) -> None:
    del data[at:]


def _remove(_: Callable, data: bytearray, at: int, length: int) -> None:
    del data[at : at + length]


def _repeat(draw: Callable, data: bytearray, at: int, length: int) -> None:
    data[at:at] = data[at : at + length] * draw(st.integers(1, 20))


_DAMAGE = (_flip, _flip, _set_number, _set_number, _set_bytes, _insert, _cut, _remove, _repeat)


@st.composite
def damaged(draw: Callable, wholes: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were cut, flipped, overwritten, lengthened, or lost or repeated a part."""
    data = bytearray(draw(wholes))
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.one_of(st.integers(0, min(len(data) - 1, 200)), st.integers(0, len(data) - 1)))
        draw(st.sampled_from(_DAMAGE))(draw, data, at, draw(st.integers(1, 64)))
    return bytes(data)


@st.composite
def damaged_text(draw: Callable, texts: st.SearchStrategy[str]) -> bytes:
    """Text in which words and lines were replaced, removed or repeated, in one of several encodings."""
    text = draw(texts)
    separator = draw(st.sampled_from((" ", "\n", ",", "\t")))
    words = text.split(separator)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(words) - 1))
        action = draw(st.sampled_from(("replace", "replace", "remove", "repeat", "insert")))
        if action == "replace":
            words[at] = draw(odd_words)
        elif action == "remove" and len(words) > 1:
            del words[at]
        elif action == "repeat":
            words[at:at] = [words[at]] * draw(st.integers(1, 30))
        else:
            words.insert(at, draw(odd_words))
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")))
    return separator.join(words).encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


odd_words = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(
        ("²", "١", "1_0", "0x1", "1e999", "inf", "-nan", "True", "{", "}", '"', "'", "\0", "\r", "\x85", "1e400", "-5")
    ),
    st.integers().map(str),
    st.text(max_size=8),
)
