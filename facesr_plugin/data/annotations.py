"""Landmarks of faces in one file format with two forms of the same content: npz without pickles, and JSON.

npz: arrays ``names`` (N), ``points`` (N, K, 2) float32 (x, y) in pixels with pixel centres at integers, and optionally
``face`` (N) number of the face in its image, ``visible`` (N, K), ``boxes`` (N, 4) x1 y1 x2 y2, ``score`` (N),
``image_size`` (N, 2) height and width. Other arrays are ignored.
JSON: ``{"format": "facesr-landmarks", "version": 1, "num_points": K, "faces": [...]}`` and of each face ``name``,
``points`` [[x, y], ...], ``face``, ``visible``, ``box``, ``score``, ``image_size``; what is not known is left out of
all faces, and the coordinates of an unknown point are null.
A name is joined to an LMDB's key by its stem (``key_of``).
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from facesr_plugin.data.keys import key_of
from facesr_plugin.ops.landmark import LAYOUTS
from facesr_plugin.utils.files import atomic_write, atomic_write_text
from facesr_plugin.utils.text import plain_line

SUFFIXES = (".npz", ".json")
_FORMAT, _VERSION = "facesr-landmarks", 1
_MOST_GROWTH, _FREE_BYTES = 64, 2**26  # of a compressed file
_JSON_NAMES = {"names": "name", "boxes": "box"}  # where a face's own entry has another name than the array
_DTYPES = {
    "points": np.float32,
    "face": np.int64,
    "visible": bool,
    "boxes": np.float32,
    "score": np.float32,
    "image_size": np.int64,
}


@dataclass(frozen=True)
class Landmarks:
    """Points of N faces.

    Args:
        names: Of the images, N of them.
        points: ``(N, K, 2)`` float32, (x, y) in pixels, pixel centres at integers.
        visible: ``(N, K)`` bool, or None: all are.
        boxes: ``(N, 4)`` float32, x1 y1 x2 y2 in pixels.
        score: ``(N)`` float32; comparable among faces of one source only.
        image_size: ``(N, 2)`` int64, height and width in pixels.
        face: ``(N)`` int64, number of the face in its image, or None: no two faces are of one image.

    Raises:
        ValueError: If shapes do not fit, a visible point is not finite, two faces share image and number, or the
            points of a face lie outside its image.
    """

    names: tuple[str, ...]
    points: np.ndarray
    visible: np.ndarray | None = None
    boxes: np.ndarray | None = None
    score: np.ndarray | None = None
    image_size: np.ndarray | None = None
    face: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.points.ndim != 3 or self.points.shape[0] != count or self.points.shape[2] != 2:
            raise ValueError(f"points must have shape (N, K, 2) with N = {count} names, got {self.points.shape}")
        shapes = {
            "visible": (count, self.num_points),
            "boxes": (count, 4),
            "score": (count,),
            "image_size": (count, 2),
            "face": (count,),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
        self._check_points()
        self._check_names()

    def _check_points(self) -> None:
        seen = np.ones(self.points.shape[:2], bool) if self.visible is None else self.visible
        if not np.isfinite(self.points[seen]).all():
            raise ValueError("points must be finite where they are visible, got NaN or infinity")
        if self.image_size is None:
            return
        height, width = self.image_size.astype(np.float64).T[..., None]
        x, y = self.points[..., 0], self.points[..., 1]
        with np.errstate(invalid="ignore"):
            inside = seen & (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        wrong = np.flatnonzero(seen.any(1) & (2 * inside.sum(1) < seen.sum(1)))
        if len(wrong):
            row = wrong[0]
            x, y = self.points[row, seen[row]].mean(0)
            raise ValueError(
                f"landmarks of {self.names[row]} must lie in its image of {self.image_size[row, 1]} x "
                f"{self.image_size[row, 0]} pixels, got most of them outside, about ({x:.0f}, {y:.0f}). "
                "They may be those of another size or crop"
            )

    def _check_names(self) -> None:
        numbers = [0] * len(self.names) if self.face is None else self.face.tolist()
        (first, count), *_ = Counter(zip(map(key_of, self.names), numbers, strict=True)).most_common(1) or [(None, 0)]
        if count > 1:
            rule = "names must have different stems" if self.face is None else "faces of an image must differ in number"
            raise ValueError(f"{rule}, got {self._name_of(first[0])!r} twice")

    def _name_of(self, key: str) -> str:
        return next(name for name in self.names if key_of(name) == key)

    @property
    def num_points(self) -> int:
        """Points of one face, K."""
        return self.points.shape[1]

    def rows_by_key(self) -> dict[str, int]:
        """Return the row of each image by its key in an LMDB.

        Raises:
            ValueError: If an image has several faces.
        """
        rows = {key_of(name): row for row, name in enumerate(self.names)}
        if len(rows) != len(self.names):
            key, number = Counter(map(key_of, self.names)).most_common(1)[0]
            raise ValueError(
                f"landmarks must be of one face per image here, got {number} of {self._name_of(key)}. "
                "facesr prepare landmarks has --only-largest."
            )
        return rows


def check_layout(num_points: int, allowed: Sequence[int] = tuple(LAYOUTS)) -> None:
    """Refuse a number of points that no layout, or none of those allowed, has.

    Raises:
        ValueError: If it is another one.
    """
    if num_points not in allowed:
        known = ", ".join(f"{count} ({LAYOUTS[count]})" if count in LAYOUTS else str(count) for count in allowed)
        raise ValueError(f"a face must have {known} points, got {num_points}")


def read_landmarks(path: str | os.PathLike) -> Landmarks:
    """Read a landmark file, ``.json`` or npz; nothing in it is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither, lacks ``names`` or ``points``, holds pickled objects, or the arrays do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"landmark file {path} does not exist")
    load, kind = _FORMS.get(path.suffix.lower(), _FORMS[".npz"])
    try:
        return _from_arrays(load(path))
    except Exception as error:  # numpy and zipfile raise many types on damaged data
        raise ValueError(f"landmark file {path} must be {kind}: {plain_line(str(error))}") from error


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):  # numpy would advise to load it as a pickle
        raise ValueError("it is none, or damaged")
    with zipfile.ZipFile(path) as archive:
        declared = sum(info.file_size for info in archive.infolist())
    if declared > _MOST_GROWTH * path.stat().st_size + _FREE_BYTES:
        raise ValueError(f"its arrays declare {declared} bytes, far more than the file can hold")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {field.name: archive[field.name] for field in fields(Landmarks) if field.name in archive.files}
    for name in ("names", "points"):
        if name not in arrays:
            raise ValueError(f"it lacks the array {name!r}")
    return arrays


def _load_json(path: Path) -> dict[str, np.ndarray]:
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT!r}")
    if content.get("version") != _VERSION:
        raise ValueError(f"its version must be {_VERSION}, got {content.get('version')!r}. Update facesr-plugin")
    faces, num_points = content.get("faces"), content.get("num_points")
    if not isinstance(faces, list) or type(num_points) is not int or num_points < 1:
        raise ValueError("it lacks num_points or faces")
    for number, face in enumerate(faces):
        _check_face(face, num_points, number)
    arrays = {"names": np.array([face["name"] for face in faces], dtype=np.str_)}
    for name, dtype in _DTYPES.items():
        own = _JSON_NAMES.get(name, name)
        present = [own in face for face in faces]
        if any(present) and not all(present):
            raise ValueError(f"faces must all have {own!r} or none, got it in {sum(present)} of {len(faces)}")
        if any(present):
            exact = np.float64 if dtype is np.float32 else None  # which makes null NaN
            arrays[name] = np.array([face[own] for face in faces], dtype=exact)
    return {"points": np.zeros((0, num_points, 2)), **arrays}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which JSON has not")


def _check_face(face: Any, num_points: int, number: int) -> None:
    if not isinstance(face, dict) or not isinstance(face.get("name"), str) or not isinstance(face.get("points"), list):
        raise ValueError(f"face {number} lacks name or points")
    if len(face["points"]) != num_points:
        raise ValueError(f"face {number} ({face['name']}) must have {num_points} points, got {len(face['points'])}")


_FORMS = {
    ".npz": (_load_npz, "an npz with names (N) and points (N, K, 2)"),
    ".json": (_load_json, f"JSON with format {_FORMAT!r}, version, num_points and faces"),
}


def _from_arrays(arrays: dict[str, np.ndarray]) -> Landmarks:
    names = arrays["names"]
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise ValueError(f"names must be text of shape (N), got {names.dtype} of shape {names.shape}")
    text = names.astype(str) if names.dtype.kind == "U" else np.char.decode(names, "utf-8")
    others = {name: _numbers(name, arrays[name]) for name in arrays if name != "names"}
    return Landmarks(tuple(str(name) for name in text), **others)


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers, got {values.dtype}")
    return np.ascontiguousarray(values, dtype=_DTYPES[name])


def write_landmarks(path: str | os.PathLike, landmarks: Landmarks) -> None:
    """Write a landmark file, ``.npz`` or ``.json``, whole or not at all; both read back as the same.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If ``path`` ends otherwise.
    """
    check_suffix(path)
    values = {name: getattr(landmarks, name) for name in _DTYPES if getattr(landmarks, name) is not None}
    arrays = {name: np.asarray(value, dtype=_DTYPES[name]) for name, value in values.items()}
    if Path(path).suffix.lower() == ".json":
        atomic_write_text(path, _json_text(landmarks.names, landmarks.num_points, arrays))
        return
    atomic_write(path, lambda file: np.savez(file, names=np.array(landmarks.names, dtype=np.str_), **arrays))


def check_suffix(path: str | os.PathLike) -> None:
    """Refuse a name that no landmark file has.

    Raises:
        ValueError: If ``path`` ends neither with ``.npz`` nor with ``.json``.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"a landmark file's name must end with {' or '.join(SUFFIXES)}, got {path}")


def _json_text(names: Sequence[str], num_points: int, arrays: dict[str, np.ndarray]) -> str:
    """One line per face; numbers with as many digits as float32 needs."""
    columns = {_JSON_NAMES.get(name, name): _plain(array) for name, array in arrays.items()}
    faces = [
        json.dumps({"name": name, **{key: column[row] for key, column in columns.items()}}, allow_nan=False)
        for row, name in enumerate(names)
    ]
    head = json.dumps({"format": _FORMAT, "version": _VERSION, "num_points": num_points})
    return head[:-1] + ', "faces": [\n' + ",\n".join(faces) + "\n]}\n"


def _plain(array: np.ndarray) -> list:
    if array.dtype == bool:
        return array.astype(int).tolist()
    if array.dtype != np.float32:
        return array.tolist()
    short = array.astype(str).astype(np.float64)
    return np.where(np.isfinite(short), short.astype(object), None).tolist()
