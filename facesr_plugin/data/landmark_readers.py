"""Landmark files of data sets and other programs, brought to this project's format.

Coordinates are taken as they are: 300-W's ``.pts`` may count pixels from 1, which nothing in them tells.
Lists of 300-W and AFLW are those of the SBR/SAN code base: ``image annotation x1 y1 x2 y2 [size]`` on each line. AFLW's
annotation has lines ``index x y flag``: with words as flags (True) the index counts from 1, with numbers from 0; points
that are missing or flagged are not visible. WFLW's lines have 98 points, optionally a box and six attributes, and the
image. DIC's pickles map an image to its points, or to ``landmark`` and ``bbox``. CelebA's list has the image and 5
points in a line, under the number of lines and a header. A file of Helen names its image, then has 194 lines ``x , y``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from facesr_plugin.checkpoints.numpy_pickle import read_numpy_pickle
from facesr_plugin.data.annotations import Landmarks, check_layout
from facesr_plugin.data.inputs import Item, read_item, short_name
from facesr_plugin.data.keys import key_of
from facesr_plugin.utils.imageio import EXTENSIONS, open_image, orientation_of
from facesr_plugin.utils.text import list_names, plain_line

_AFLW_POINTS = 19
_WFLW_POINTS = 98
_WFLW_LENGTHS = (2 * _WFLW_POINTS + 1, 2 * _WFLW_POINTS + 4 + 6 + 1)
_HELEN_POINTS = 194
_CELEBA_WORDS = 1 + 2 * 5
_BOX_SUFFIX = "_bb.txt"
_TURNED = 5  # EXIF orientations from here on exchange height and width


class Annotation(NamedTuple):
    """One face of a list: ``points`` (K, 2), ``visible`` (K) or None, ``box`` (4) or None."""

    name: str
    points: np.ndarray
    visible: np.ndarray | None = None
    box: np.ndarray | None = None


def read_foreign(kind: str, path: str | os.PathLike) -> Landmarks:
    """Read landmarks of another program.

    Args:
        kind: Key of ``READERS``.
        path: ``.pts`` file or folder of them; DIC's pickle; list of 300-W, AFLW (both as ``.pts`` too), WFLW or CelebA;
            ``.txt`` file of Helen or folder of them.

    Returns:
        The faces in the order of the file; several of one image are numbered.

    Raises:
        FileNotFoundError: If the file, or one that a list names, does not exist.
        ValueError: If ``kind`` is unknown or the content is damaged; the message has file and line.
    """
    if kind not in READERS:
        raise ValueError(f"kind must be one of {', '.join(READERS)}, got {kind!r}")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"landmarks {path} do not exist")
    return _gather(path, list(READERS[kind](path)))


def _gather(path: Path, found: list[Annotation]) -> Landmarks:
    counts = Counter(len(item.points) for item in found)
    if len(counts) != 1:
        kinds = ", ".join(f"{number} of {count} points" for count, number in counts.items())
        raise ValueError(f"{path} must hold faces of one number of points, got {kinds or 'no face'}")
    check_layout(next(iter(counts)))
    names = _relative([item.name for item in found])
    seen: Counter[str] = Counter()
    face = [seen.update([name]) or seen[name] - 1 for name in names]
    return Landmarks(
        tuple(names),
        np.array([item.points for item in found], np.float32),
        visible=_column(path, "visibility", [item.visible for item in found], bool),
        boxes=_column(path, "a box", [item.box for item in found], np.float32),
        face=np.array(face) if any(face) else None,
    )


def _column(path: Path, name: str, values: list[np.ndarray | None], dtype: type) -> np.ndarray | None:
    missing = sum(value is None for value in values)
    if missing == len(values):
        return None
    if missing:
        raise ValueError(f"{path} must have {name} for all faces or none, {missing} of {len(values)} have none")
    return np.array(values, dtype)


def _relative(names: list[str]) -> list[str]:
    """Leave out the folder that absolute names share; they are those of another machine."""
    names = [name.replace("\\", "/") for name in names]
    if not all(name.startswith("/") for name in names):
        return names
    folder = os.path.commonpath([name.rpartition("/")[0] or "/" for name in names])
    return [name[len(folder) :].lstrip("/") for name in names]


def with_images(landmarks: Landmarks, items: Sequence[Item]) -> Landmarks:
    """Give landmarks the names and sizes of the images that they are of.

    Args:
        landmarks: Their names may be those of the images with or without folder and extension.
        items: The images.

    Raises:
        ValueError: If an image is missing or damaged, or points lie outside.
    """
    by_key = {item.key: item for item in items}
    keys = [_join(name, by_key) for name in landmarks.names]
    missing = [name for name, key in zip(landmarks.names, keys, strict=True) if key is None]
    if missing:
        raise ValueError(
            f"landmarks name {len(missing)} images that are not there: {list_names(missing)}. Correct --images."
        )
    sizes = {key: _size(by_key[key]) for key in dict.fromkeys(keys)}
    return replace(
        landmarks,
        names=tuple(short_name(by_key[key]) for key in keys),
        image_size=np.array([sizes[key] for key in keys], np.int64).reshape(-1, 2),
    )


def _join(name: str, by_key: Mapping[str, Item]) -> str | None:
    return next((key for key in (key_of(name), key_of(PurePosixPath(name).name)) if key in by_key), None)


def _size(item: Item) -> tuple[int, int]:
    """Height and width of an image as it is shown."""
    image = open_image(read_item(item), item.name)
    width, height = image.size
    return (width, height) if orientation_of(image) >= _TURNED else (height, width)


def _read_pts(path: Path) -> Iterable[Annotation]:
    for file in _files(path):
        yield Annotation(_image_name(file, path), _pts_points(file))


def _files(path: Path, suffix: str = ".pts") -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(path.rglob(f"*{suffix}"))
    if not files:
        raise ValueError(f"folder {path} must hold {suffix} files, got none")
    return files


def _image_name(file: Path, root: Path) -> str:
    """Name of the image beside an annotation, else the annotation's without extension; relative to the input."""
    images = (file.with_suffix(extension) for extension in EXTENSIONS)
    image = next((image for image in images if image.is_file()), file.with_suffix(""))
    return image.relative_to(root if root.is_dir() else root.parent).as_posix()


def _pts_points(file: Path) -> np.ndarray:
    head, _, body = _text(file).partition("{")
    body, closed, _ = body.partition("}")
    declared = next((line.split(":")[1] for line in head.splitlines() if line.strip().startswith("n_points:")), "")
    if not closed or not declared.strip().isdigit():
        raise ValueError(f"{file} must be a .pts file: n_points: N, then N lines x y in braces. Copy it again")
    points = _table(file, body, 2)
    if len(points) != int(declared):
        raise ValueError(f"{file} must have {declared.strip()} points, as it says, got {len(points)}")
    return points


def _table(file: Path, text: str, columns: int) -> np.ndarray:
    """Parse lines of finite numbers between any white space."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    wrong = next((line for line in lines if len(line) != columns), None)
    if wrong is not None:
        raise ValueError(f"{file} must have {columns} numbers a line, got {' '.join(wrong)[:60]!r}")
    return _numbers(str(file), [word for line in lines for word in line]).reshape(-1, columns)


def _numbers(where: str, words: list[str]) -> np.ndarray:
    try:
        values = np.array([float(word) for word in words], np.float64)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: coordinates must be finite, got NaN or infinity")
    return values


def _text(file: Path) -> str:
    if not file.is_file():
        raise FileNotFoundError(f"annotation {plain_line(str(file))} does not exist")
    return file.read_text(encoding="utf-8-sig", errors="replace")


def _read_300w(path: Path) -> Iterable[Annotation]:
    return _read_list(path, lambda file: (_pts_points(file), None)) if _is_list(path) else _read_pts(path)


def _is_list(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() != ".pts"


def _read_aflw(path: Path) -> Iterable[Annotation]:
    if _is_list(path):
        yield from _read_list(path, _aflw_points)
        return
    for file in _files(path):
        boxes = file.with_name(file.stem + _BOX_SUFFIX)
        box = _numbers(str(boxes), _text(boxes).split()) if boxes.is_file() else None
        if box is not None and len(box) != 4:
            raise ValueError(f"{boxes} must hold x1 y1 x2 y2, got {len(box)} numbers")
        yield Annotation(_image_name(file, path), *_aflw_points(file), box)


def _aflw_points(file: Path) -> tuple[np.ndarray, np.ndarray]:
    points, visible = np.zeros((_AFLW_POINTS, 2)), np.zeros(_AFLW_POINTS, bool)
    for number, line in enumerate(_text(file).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{file}, line {number}"
        if len(words) != 4 or not words[0].isdigit():
            raise ValueError(f"{where}: must be index x y flag, got {line.strip()[:60]!r}")
        is_word = words[3].lower() in ("true", "false")
        index = int(words[0]) - is_word
        if not 0 <= index < _AFLW_POINTS:
            raise ValueError(f"{where}: index must be one of {_AFLW_POINTS} points, got {words[0]}")
        points[index] = _numbers(where, words[1:3])
        visible[index] = words[3].lower() == "true" if is_word else _numbers(where, words[3:])[0] != 0
    if not visible.any():
        raise ValueError(f"{file} must have a visible point, got none")
    return points, visible


def _read_list(path: Path, read: Callable[[Path], tuple[np.ndarray, np.ndarray | None]]) -> Iterable[Annotation]:
    """Read a list of SBR/SAN; an annotation's path is relative to the list's folder."""
    for number, words in _lines(path):
        where = f"{path}, line {number}"
        if len(words) not in (6, 7):
            raise ValueError(f"{where}: must be image annotation x1 y1 x2 y2 [size], got {len(words)} words")
        try:
            points, visible = read(path.parent / words[1])
        except (ValueError, OSError) as error:
            raise type(error)(f"{where}: {error}") from error
        yield Annotation(words[0], points, visible, _numbers(where, words[2:6]))


def _read_wflw(path: Path) -> Iterable[Annotation]:
    for number, words in _lines(path):
        where = f"{path}, line {number}"
        if len(words) not in _WFLW_LENGTHS:
            lengths = " or ".join(map(str, _WFLW_LENGTHS))
            raise ValueError(
                f"{where}: must have {lengths} words (98 points, box and attributes, image), got {len(words)}"
            )
        points = _numbers(where, words[: 2 * _WFLW_POINTS]).reshape(_WFLW_POINTS, 2)
        box = _numbers(where, words[2 * _WFLW_POINTS :][:4]) if len(words) == _WFLW_LENGTHS[1] else None
        yield Annotation(words[-1], points, None, box)


def _read_celeba(path: Path) -> Iterable[Annotation]:
    for number, line in _lines(path):
        words = " ".join(line).replace(",", " ").split()
        if number <= 2 and (len(words) == 1 or "lefteye_x" in words):
            continue
        where = f"{path}, line {number}"
        if len(words) != _CELEBA_WORDS:
            raise ValueError(f"{where}: must be image and x y of 5 points, got {len(words)} words")
        yield Annotation(words[0], _numbers(where, words[1:]).reshape(-1, 2))


def _read_helen(path: Path) -> Iterable[Annotation]:
    for file in _files(path, ".txt"):
        name, _, body = _text(file).strip().partition("\n")
        points = _table(file, body.replace(",", " "), 2)
        if len(points) != _HELEN_POINTS:
            raise ValueError(f"{file} must name an image, then have {_HELEN_POINTS} lines x , y, got {len(points)}")
        yield Annotation(name.strip(), points)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Words of each line that is not empty, with its number."""
    found = [(number, line.split()) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()]
    if not found:
        raise ValueError(f"list {path} must have a line per face, got an empty file")
    return found


def _read_dic(path: Path) -> Iterable[Annotation]:
    content = read_numpy_pickle(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must map images to points, got a {type(content).__name__}")
    for name, value in content.items():
        where = f"{path}, {str(name)[:80]!r}"
        if not isinstance(name, str):
            raise ValueError(f"{where}: must be the name of an image")
        if not isinstance(value, dict):
            yield Annotation(name, _array(where, value, (-1, 2)))
            continue
        if "landmark" not in value or "bbox" not in value:
            raise ValueError(f"{where}: must have landmark and bbox, got {', '.join(map(str, value))[:80]}")
        yield Annotation(name, _array(where, value["landmark"], (-1, 2)), None, _array(where, value["bbox"], (4,)))


def _array(where: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.array(value, np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: must be numbers, got a {type(value).__name__}") from error
    fits = array.ndim == len(shape) and all(
        wanted in (-1, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.isfinite(array).all():
        kind = "points (K, 2)" if len(shape) == 2 else "a box of 4 numbers"
        raise ValueError(f"{where}: must be {kind}, finite, got shape {array.shape}")
    return array


READERS: dict[str, Callable[[Path], Iterable[Annotation]]] = {
    "pts": _read_pts,
    "dic": _read_dic,
    "300w": _read_300w,
    "aflw": _read_aflw,
    "wflw": _read_wflw,
    "celeba": _read_celeba,
    "helen": _read_helen,
}
