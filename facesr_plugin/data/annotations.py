"""Landmarks of faces in one file format: an npz without pickles.

Arrays: ``names`` (N), ``points`` (N, K, 2) float32 (x, y) in pixels with pixel centres at integers, and optionally
``visible`` (N, K), ``boxes`` (N, 4) x1 y1 x2 y2, ``score`` (N), ``image_size`` (N, 2) height and width.
Other arrays are ignored. A name is joined to an LMDB's key by its stem (``key_of``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from facesr_plugin.data.keys import key_of
from facesr_plugin.utils.files import atomic_write


@dataclass(frozen=True)
class Landmarks:
    """Points of N faces.

    Args:
        names: Of the images, N of them; no two with the same key.
        points: ``(N, K, 2)`` float32, (x, y) in pixels, pixel centres at integers.
        visible: ``(N, K)`` bool, or None: all are.
        boxes: ``(N, 4)`` float32, x1 y1 x2 y2 in pixels.
        score: ``(N)`` float32.
        image_size: ``(N, 2)`` int64, height and width in pixels.

    Raises:
        ValueError: If shapes do not fit, a visible point is not finite, or two names share a key.
    """

    names: tuple[str, ...]
    points: np.ndarray
    visible: np.ndarray | None = None
    boxes: np.ndarray | None = None
    score: np.ndarray | None = None
    image_size: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.points.ndim != 3 or self.points.shape[0] != count or self.points.shape[2] != 2:
            raise ValueError(f"points must have shape (N, K, 2) with N = {count} names, got {self.points.shape}")
        shapes = {
            "visible": (count, self.num_points),
            "boxes": (count, 4),
            "score": (count,),
            "image_size": (count, 2),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
        finite = np.isfinite(self.points).all(-1)
        if not (finite if self.visible is None else finite | ~self.visible).all():
            raise ValueError("points must be finite where they are visible, got NaN or infinity")
        rows = self.rows_by_key()
        if len(rows) != count:
            first = next(name for row, name in enumerate(self.names) if rows[key_of(name)] != row)
            raise ValueError(f"names must have different stems, got {first!r} twice")

    @property
    def num_points(self) -> int:
        """Points of one face, K."""
        return self.points.shape[1]

    def rows_by_key(self) -> dict[str, int]:
        """Return the row of each image by its key in an LMDB."""
        return {key_of(name): row for row, name in enumerate(self.names)}


_DTYPES = {"points": np.float32, "visible": bool, "boxes": np.float32, "score": np.float32, "image_size": np.int64}


def read_landmarks(path: str | os.PathLike) -> Landmarks:
    """Read a landmark file; nothing in it is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no npz, lacks ``names`` or ``points``, holds pickled objects, or the arrays do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"landmark file {path} does not exist")
    try:
        return _from_arrays(_load_arrays(path))
    except Exception as error:  # numpy and zipfile raise many types on damaged data
        raise ValueError(f"landmark file {path} must be an npz with names (N) and points (N, K, 2): {error}") from error


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is a single array")
        arrays = {field.name: archive[field.name] for field in fields(Landmarks) if field.name in archive.files}
    for name in ("names", "points"):
        if name not in arrays:
            raise ValueError(f"it lacks the array {name!r}")
    return arrays


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
    """Write a landmark file, whole or not at all.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If ``path`` does not end with ``.npz``.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"a landmark file's name must end with .npz, got {path}")
    arrays = {"names": np.array(landmarks.names, dtype=np.str_)}
    for name, dtype in _DTYPES.items():
        value = getattr(landmarks, name)
        if value is not None:
            arrays[name] = np.asarray(value, dtype=dtype)
    atomic_write(path, lambda file: np.savez(file, **arrays))
