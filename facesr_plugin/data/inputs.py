"""What a user gives as images: a folder, a zip file or a list; read one by one, nothing is unpacked to disk."""

from __future__ import annotations

import functools
import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from facesr_plugin.data.keys import key_of, read_name_list
from facesr_plugin.data.sources import is_image_name, list_image_files, unique_keys
from facesr_plugin.utils.imageio import EXTENSIONS
from facesr_plugin.utils.text import list_names

MAX_FILE_BYTES = 512 * 2**20


class Item(NamedTuple):
    """One image of the input.

    Args:
        key: Its key in the LMDB.
        name: As the user knows it: relative path, member of the zip, or line of the list.
        container: Folder that ``name`` is relative to, or zip file.
        num_bytes: Size of the (unpacked) file.
    """

    key: str
    name: str
    container: str
    num_bytes: int


def list_items(source: str | os.PathLike) -> list[Item]:
    """List the images of a folder (with sub-folders), a zip file, or a text file of paths, sorted by name.

    Raises:
        FileNotFoundError: If the input, or a file of the list, does not exist.
        ValueError: If it is none of these, holds no image, or two images differ in the extension only.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"input {path} does not exist. Give a folder, a .zip or a .txt list of images.")
    if path.is_dir():
        return _from_files(path, list_image_files(path))
    if path.suffix.lower() == ".txt":
        return _from_files(path.parent, _listed(path))
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return _from_zip(path)
    raise ValueError(f"input must be a folder, a .zip or a .txt list of images, got {path}")


def _listed(path: Path) -> list[str]:
    names = sorted(set(read_name_list(path)))
    missing = [name for name in names if not _is_file(path.parent / name)]
    if missing:
        raise FileNotFoundError(
            f"list {path} names {len(missing)} files that do not exist: {list_names(missing)}. "
            "Paths are relative to the list."
        )
    return names


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _from_files(root: Path, names: Sequence[str]) -> list[Item]:
    keys = unique_keys(name.replace(os.sep, "/") for name in names)
    return [Item(key, name, str(root), (root / name).stat().st_size) for key, name in keys.items()]


def _from_zip(path: Path) -> list[Item]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((info.filename, info.file_size) for info in archive.infolist() if not info.is_dir())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(f"zip file {path} is damaged: {error}. Copy it again.") from error
    sizes = {name: size for name, size in members if is_image_name(name)}
    names = [name for name, _ in members if name in sizes]
    if not names:
        raise ValueError(f"zip file {path} must hold images ({' '.join(EXTENSIONS)}), got none")
    return [Item(key, name, str(path), sizes[name]) for key, name in unique_keys(names).items()]


def short_name(item: Item) -> str:
    """Return the part of an image's name that its key stands for: without the folder that all of the input share."""
    parts = item.name.replace(os.sep, "/").split("/")
    tails = ("/".join(parts[start:]) for start in range(len(parts)))
    return next(tail for tail in tails if key_of(tail) == item.key)


def read_item(item: Item) -> bytes:
    """Return the file content of one image.

    Raises:
        ValueError: If it cannot be read: larger than 512 MiB, encrypted, gone, or damaged in the zip file.
    """
    if item.num_bytes > MAX_FILE_BYTES:
        raise ValueError(f"file must have at most {MAX_FILE_BYTES:,} bytes, got {item.num_bytes:,}")
    try:
        if Path(item.container).is_dir():
            return (Path(item.container) / item.name).read_bytes()
        return _archive(os.getpid(), item.container).read(item.name)
    except Exception as error:  # zipfile and its decompressors raise many types on damaged data
        raise ValueError(f"file cannot be read: {error}") from error


@functools.lru_cache(maxsize=2)
def _archive(process: int, path: str) -> zipfile.ZipFile:
    """Open a zip file once per process: a forked child must not share the parent's place in it."""
    return zipfile.ZipFile(path)


def fingerprint(items: Sequence[Item]) -> str:
    """Return a digest of names, keys and sizes: an interrupted run continues only with the same ones."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.key}\0{item.name}\0{item.num_bytes}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
