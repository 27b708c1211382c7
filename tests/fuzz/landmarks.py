"""Landmark files: ours (npz, JSON), tables of points for photos (csv), and those of other data sets."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from facesr_plugin.data.annotations import Landmarks, read_landmarks, write_landmarks
from facesr_plugin.data.inputs import list_items
from facesr_plugin.data.keys import read_name_list
from facesr_plugin.data.landmark_readers import READERS, read_foreign
from facesr_plugin.pipeline.landmark_file import read_faces
from fuzz.checkpoints import bomb, calls, npz_members, pickles
from fuzz.mutate import damaged, damaged_text, edited_trees, odd_values
from fuzz.sandbox import Case

_POINTS = np.random.default_rng(0).uniform(1, 99, (194, 2)).round(2)
_ARRAYS = ("names", "points", "visible", "boxes", "score", "image_size", "face")


@cache
def _whole(suffix: str) -> bytes:
    boxes = np.array([[0, 0, 99, 99], [1, 2, 50, 60]], np.float32)
    landmarks = Landmarks(
        ("a.png", "b/c.jpg"),
        np.array([_POINTS[:5], _POINTS[5:10]], np.float32),
        np.ones((2, 5), bool),
        boxes,
        np.array([0.5, 1], np.float32),
        np.array([[100, 100], [120, 110]]),
        np.array([0, 0]),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        write_landmarks(path, landmarks)
        return path.read_bytes()


def _rows(points: np.ndarray, separator: str = " ") -> str:
    return "\n".join(separator.join(map(str, point)) for point in points)


def _line(points: np.ndarray) -> str:
    return " ".join(str(value) for value in points.ravel())


_CSV = """file,leye_x,leye_y,reye_x,reye_y,nose_x,nose_y,lmouth_x,lmouth_y,rmouth_x,rmouth_y,x1,y1,x2,y2,score
a.jpg,1,2,3,4,5,6,7,8,9,10,0,0,20,20,0.5
b.png,1,2,3,4,5,6,7,8,9,10,,,,,
"""
_PTS = f"version: 1\nn_points: 68\n{{\n{_rows(_POINTS[:68])}\n}}\n"
_AFLW = "\n".join(f"{i} {x} {y} {i % 3}" for i, (x, y) in enumerate(_POINTS[:19]))
_AFLW_WORDS = "\n".join(f"{i + 1} {x} {y} {i % 3 > 0}" for i, (x, y) in enumerate(_POINTS[:19]))
_WFLW = f"{_line(_POINTS[:98])} 1 2 90 91 0 0 0 0 0 0 0/a.jpg\n{_line(_POINTS[:98])} 1 2 90 91 0 0 1 0 0 0 0/b.jpg\n"
_CELEBA = f"2\nlefteye_x lefteye_y righteye_x righteye_y\n1.jpg {_line(_POINTS[:5])}\n2.jpg {_line(_POINTS[5:10])}\n"
_HELEN = f"100_1\n{_rows(_POINTS, ' , ')}\n"
_LIST = "a.jpg a.pts 1 2 90 91\nb.jpg a.pts 1 2 90 91 1.5\n"
_NAMES = "a.png\nb.png (4,4,3) 1\n\nface_002.png\n"

# entry, name of the file, texts, files beside it
_TEXTS: tuple[tuple[str, str, tuple[str, ...], dict[str, bytes]], ...] = (
    ("faces", "x.csv", (_CSV,), {}),
    ("pts", "a.pts", (_PTS,), {}),
    ("300w", "a.pts", (_PTS,), {}),
    ("300w", "list.txt", (_LIST,), {"a.pts": _PTS.encode()}),
    ("aflw", "list.txt", (_LIST.replace("a.pts", "a.txt"),), {"a.txt": _AFLW.encode()}),
    ("aflw", "a.pts", (_AFLW, _AFLW_WORDS), {"a_bb.txt": b"1 2 3 4"}),
    ("wflw", "list.txt", (_WFLW,), {}),
    ("celeba", "list.txt", (_CELEBA,), {}),
    ("helen", "a.txt", (_HELEN,), {}),
    ("names", "list.txt", (_NAMES,), {"a.png": b"x"}),
    ("items", "list.txt", (_NAMES,), {"a.png": b"x"}),
)


@st.composite
def _texts(draw: Callable) -> Case:
    entry, name, texts, beside = draw(st.sampled_from(_TEXTS))
    text = draw(st.sampled_from(texts))
    strategies = (
        damaged_text(st.just(text)),
        damaged_text(st.just(text)),
        damaged(st.just(text.encode())),
        st.binary(max_size=300),
        st.just(b"1" * 200_000),
    )
    return Case("landmarks", {name: draw(st.one_of(*strategies)), **beside}, {"entry": entry, "name": name})


@st.composite
def _json(draw: Callable) -> bytes:
    if draw(st.integers(0, 4)) == 0:
        deep = draw(st.sampled_from((500, 20_000, 200_000)))
        return draw(
            st.sampled_from(
                (
                    b"[" * deep,
                    b'{"faces": ' + b"[" * deep + b"]" * deep + b"}",
                    b"[" + b"9" * deep + b"]",
                    b'{"a":' * deep,
                )
            )
        )
    values = odd_values([[1, 2]] * 5, "a.png", [[None, None]] * 5, [[2**70, 1]] * 5).filter(
        lambda value: not isinstance(value, bytes) and not hasattr(value, "isoformat")
    )
    return json.dumps(draw(edited_trees(st.just(json.loads(_whole(".json"))), values))).encode()


@st.composite
def _npz(draw: Callable) -> bytes:
    with np.load(io.BytesIO(_whole(".npz"))) as archive:
        arrays = dict(archive)
    odd = (
        np.zeros(0),
        np.array("x"),
        np.array(["\0", "x" * 4000]),
        np.array([1, "x", None], object),
        np.zeros((2, 5, 2), complex),
        np.array([b"\xff", b"a"]),
        np.array(["2020"], "M8[s]"),
        np.zeros((2, 0, 2)),
        np.full((2, 5, 2), np.nan),
        np.full((2, 2), -(2**40)),
        np.full((2, 5, 2), 1e300),
        np.zeros(2, [("a", "<f4")]),
        np.array(["\ud800", "a"]),
        np.array(["a", "a"]),
        np.full(2, np.inf),
        np.full((2, 2), 2**63, np.uint64),
    )
    for name in draw(st.lists(st.sampled_from(_ARRAYS), min_size=1, max_size=2, unique=True)):
        value = odd[draw(st.integers(0, len(odd) - 1))]
        arrays[name] = value
        if draw(st.integers(0, 3)) == 0:
            del arrays[name]
    buffer = io.BytesIO()
    draw(st.sampled_from((np.savez, np.savez_compressed)))(buffer, **arrays)
    return buffer.getvalue()


@st.composite
def _own(draw: Callable) -> Case:
    suffix = draw(st.sampled_from((".npz", ".npz", ".json", ".json")))
    edited = {".npz": st.one_of(_npz(), _npz(), npz_members(_ARRAYS), st.just(bomb("landmarks"))), ".json": _json()}
    content = draw(
        st.one_of(edited[suffix], edited[suffix], damaged(st.just(_whole(suffix))), calls(), st.binary(max_size=100))
    )
    entry = draw(st.sampled_from(("own", "own", "faces")))
    return Case("landmarks", {f"x{suffix}": content}, {"entry": entry, "name": f"x{suffix}"})


@st.composite
def _dic(draw: Callable) -> Case:
    whole = {
        "a.png": {"landmark": _POINTS[:68].astype(np.float32), "bbox": np.array([1, 2, 3, 4])},
        "b.png": {"landmark": _POINTS[:68].tolist(), "bbox": [1, 2, 3, 4]},
    }
    arrays = (
        np.array([1, None], object),
        np.array(["x"]),
        np.zeros((68, 3)),
        np.zeros((68, 2), complex),
        np.float64(3),
        np.zeros((0, 2)),
        np.zeros((68, 2), "M8[s]"),
    )
    values = odd_values(*arrays, [[1, 2]] * 68, [[1, 2], [3]], [["x", "y"]]).filter(
        lambda value: not isinstance(value, type)
    )
    edited = edited_trees(st.just(whole), values)
    pickled = st.builds(lambda tree, protocol: _pickled(tree, protocol), edited, st.integers(0, 5))
    content = draw(
        st.one_of(
            pickled,
            pickled,
            damaged(st.just(pickle.dumps(whole, 2))),
            pickles(),
            calls(),
            st.sampled_from((b"", b"PK\x03\x04", bomb("torch"))),
        )
    )
    return Case("landmarks", {"x.pkl": content}, {"entry": "dic", "name": "x.pkl"})


def _pickled(tree: Any, protocol: int) -> bytes:
    try:
        return pickle.dumps(tree, protocol)
    except (RecursionError, pickle.PicklingError):
        return b"\x80\x02."


def cases() -> st.SearchStrategy[Case]:
    return st.one_of(_texts(), _texts(), _own(), _dic())


def attempt(folder: Path, case: Case) -> None:
    path, entry = folder / case.arguments["name"], case.arguments["entry"]
    readers = {"own": read_landmarks, "faces": read_faces, "names": read_name_list, "items": list_items}
    if entry in READERS:
        read_foreign(entry, path)
    else:
        readers[entry](path)
