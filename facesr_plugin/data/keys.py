"""Names of images, and the keys that stand for them in an LMDB, in landmark files and in results."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from facesr_plugin.utils.imageio import EXTENSIONS
from facesr_plugin.utils.text import list_names

MAX_KEY_LENGTH = 200  # LMDB allows 511 bytes, file systems 255 for the result's name

_META_LINE = re.compile(r"(?P<name>.+?)(?: \(\d+,\d+(?:,\d+)?\)(?: \d+)?)?")


def stem_of(name: str) -> str:
    """Return an image's relative name without its extension, if that is one of an image.

    ``a/b.c.PNG`` gives ``a/b.c``; ``face.001`` stays as it is.
    """
    base, dot, extension = name.rpartition(".")
    return base if base and f"{dot}{extension}".lower() in EXTENSIONS else name


def safe_key(stem: str) -> str:
    """Return the key of an image: ASCII without dots, blanks and slashes, as BasicSR's LMDB reader needs it.

    Letters, digits, ``_``, ``-`` and ``~`` stay; every other byte of the UTF-8 form becomes ``%XX``. As ``%`` itself is
    escaped, two stems never share a key. A key that would be longer than 200 characters is cut and
    ends in ``%x`` and the SHA-256 of the stem; no escape looks like that (they have upper-case digits).

    Args:
        stem: Name without extension; sub-folders are separated by ``/``.

    Raises:
        ValueError: If ``stem`` is empty.
    """
    if not stem:
        raise ValueError("stem must not be empty. Name the image.")
    key = quote(stem, safe="", errors="surrogatepass").replace(".", "%2E")
    if len(key) <= MAX_KEY_LENGTH:
        return key
    digest = hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key[: MAX_KEY_LENGTH - len(digest) - 2]}%x{digest}"


def key_of(name: str) -> str:
    """Return the key of an image's relative name, ``safe_key(stem_of(name))``."""
    return safe_key(stem_of(name))


def read_name_list(path: str | os.PathLike) -> list[str]:
    """Read a list of image names, one a line; what BasicSR's meta_info files have behind the name is dropped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty or not UTF-8 text.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"list {path} does not exist. Give a text file with one image name a line.")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"list {path} must be UTF-8 text with one image name a line, got binary data") from error
    names = [_META_LINE.fullmatch(line.strip())["name"] for line in lines if line.strip()]
    if not names:
        raise ValueError(f"list {path} must name at least one image, got an empty file")
    return names


def select_keys(names: Iterable[str], keys: Iterable[str], where: str) -> list[str]:
    """Return the keys that a list names, in the order of the list, without repetition.

    A name stands for the image with its key (so the extension does not matter), else for that of its last part.

    Args:
        names: Of the list.
        keys: That there are.
        where: The list, for messages.

    Raises:
        ValueError: If a name stands for no key; the message has the first ones.
    """
    known = set(keys)
    selected, missing = {}, []
    for name in names:
        found = next((key for key in (key_of(name), key_of(PurePosixPath(name).name)) if key in known), None)
        if found is None:
            missing.append(name)
        else:
            selected[found] = None
    if missing:
        examples = list_names(missing)
        raise ValueError(f"{where} names {len(missing)} images that are not there: {examples}. Correct the list.")
    return list(selected)
