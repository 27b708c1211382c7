"""Where a data set's images come from: an LMDB or a folder, read by key."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from facesr_plugin.data.keys import key_of
from facesr_plugin.data.lmdb_store import META_FILE, LmdbReader
from facesr_plugin.utils.imageio import EXTENSIONS, decode_rgb

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class BrokenImageError(ValueError):
    """One image of a data set that is missing, unreadable or damaged; the others may be whole."""


class ImageSource(Protocol):
    """Images by key."""

    keys: list[str]

    def read(self, key: str) -> np.ndarray:
        """Return an image, ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenImageError: If this one is missing, unreadable or damaged.
            OSError: If all of them are out of reach.
            ValueError: If the LMDB is cut off.
        """

    def path(self, key: str) -> str:
        """Return what stands for the image in a sample: the key in an LMDB, or the file."""

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Return ``(height, width)`` by key as far as known without reading images."""


class LmdbSource:
    """Images of an LMDB; see ``LmdbReader`` for the errors."""

    def __init__(self, root: str | os.PathLike) -> None:
        self._reader = LmdbReader(root)
        self.keys = self._reader.keys

    def read(self, key: str) -> np.ndarray:
        """Return an image, ``(H, W, 3)`` uint8 RGB."""
        name = f"{self._reader.path}: image {key!r}"
        try:
            data = self._reader.get(key)
        except KeyError as error:
            raise BrokenImageError(f"{name} is missing, though {META_FILE} lists it. {_REMEDY}") from error
        try:
            return decode_rgb(data, name)
        except ValueError as error:
            raise BrokenImageError(f"{error} {_REMEDY}") from error

    def path(self, key: str) -> str:
        """Return the key."""
        return key

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Return ``(height, width)`` of every image."""
        return {entry.key: entry.shape[:2] for entry in self._reader.entries}


_REMEDY = "Make the LMDB again with facesr prepare faces --overwrite."


class FolderSource:
    """Images of a folder and its sub-folders, by name.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no image, or two images whose names differ in the extension only.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"folder {root} does not exist. Name a folder of images or an LMDB.")
        self._root = root
        self._files = {key: root / name for key, name in unique_keys(list_image_files(root)).items()}
        self.keys = list(self._files)

    def read(self, key: str) -> np.ndarray:
        """Return an image, ``(H, W, 3)`` uint8 RGB."""
        file = self._files[key]
        try:
            return decode_rgb(file.read_bytes(), str(file))
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                raise
            if not self._root.is_dir():
                raise FileNotFoundError(
                    f"folder {self._root} is gone. Put it back, or mount its disk again."
                ) from error
            reason = error.strerror or error
            raise BrokenImageError(f"{file} cannot be read: {reason}. Put it back, or leave it out.") from error
        except ValueError as error:
            raise BrokenImageError(str(error)) from error

    def path(self, key: str) -> str:
        """Return the file."""
        return str(self._files[key])

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Return nothing: sizes are known when a file is read."""
        return {}


_SOURCES = {"lmdb": LmdbSource, "disk": FolderSource}


def open_source(root: str, io_backend: dict[str, Any] | None = None) -> ImageSource:
    """Open an LMDB (name ends with ``.lmdb``) or a folder.

    Args:
        root: Path.
        io_backend: BasicSR's section, ``{type: lmdb}`` or ``{type: disk}``; None takes what the name says.

    Raises:
        FileNotFoundError: If there is nothing at ``root``.
        ValueError: If ``io_backend`` does not fit, or the images cannot be read; see the classes above.
    """
    kind = "lmdb" if str(root).rstrip("/\\").endswith(".lmdb") else "disk"
    wanted = kind if io_backend is None else io_backend.get("type")
    if wanted not in _SOURCES:
        raise ValueError(f"io_backend.type must be lmdb or disk, got {wanted!r}")
    if wanted != kind:
        needed = "a path that ends with .lmdb" if wanted == "lmdb" else "a folder of images"
        raise ValueError(f"io_backend.type {wanted} needs {needed}, got {root}. Set type: {kind}.")
    return _SOURCES[kind](root)


def list_image_files(root: Path) -> list[str]:
    """Return the images below a folder as relative names with ``/``, sorted; hidden files and folders are left out.

    Raises:
        ValueError: If there is none.
    """
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    images = [name for name in names if is_image_name(name)]
    if not images:
        raise ValueError(f"folder {root} must hold images ({' '.join(EXTENSIONS)}), got none")
    return images


def is_image_name(name: str) -> bool:
    """Whether a relative name has an image's extension and no hidden part."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not hidden and path.suffix.lower() in EXTENSIONS


def unique_keys(names: Iterable[str]) -> dict[str, str]:
    """Return names by key; folders that all names share are left out of the key.

    Raises:
        ValueError: If two names have one key.
    """
    names = list(names)
    skip = _common_folder_length(names)
    found: dict[str, str] = {}
    for name in names:
        key = key_of(name[skip:])
        if key in found:
            raise ValueError(
                f"images must differ in more than the extension, got {found[key]} and {name}. Rename or remove one."
            )
        found[key] = name
    return found


def _common_folder_length(names: list[str]) -> int:
    """Characters of the folder, with its slash, that all names begin with."""
    common = os.path.commonprefix([name.rpartition("/")[0] + "/" for name in names])
    return common.rfind("/") + 1 if common != "/" else 0
