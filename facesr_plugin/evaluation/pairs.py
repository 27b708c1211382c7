"""Pair the files of several folders by their stems, whatever their extensions, and list what has no partner."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from facesr_plugin.utils.files import atomic_write_text
from facesr_plugin.utils.imageio import by_stem, list_images

GT, LQ = "ground truth", "input"
_EVERY = "every result"


class Face(NamedTuple):
    """The files of one face.

    Attributes:
        stem: What they have in common, composed (NFC) Unicode.
        results: Restored images by the names of their results; some of them may lack.
        gt: Ground truth; None if there is none at all.
        lq: Input; None if there is none.
    """

    stem: str
    results: dict[str, Path]
    gt: Path | None = None
    lq: Path | None = None

    @property
    def name(self) -> str:
        """The stem in printable characters."""
        return printable(self.stem)


class Unpaired(NamedTuple):
    """A file and the partner that it lacks: ``ground truth``, ``input``, ``every result`` or a result's name."""

    path: Path
    lacks: str


class Pairs(NamedTuple):
    """Names of the results, faces sorted by stem, and files without partner."""

    results: tuple[str, ...]
    faces: tuple[Face, ...]
    unpaired: tuple[Unpaired, ...]

    def fingerprint(self) -> str:
        """Return a digest of what decides the values: stems, results, and name, size and time of each file.

        Raises:
            OSError: If a file is gone.
        """
        digest = hashlib.sha256()
        for face in self.faces:
            files = {GT: face.gt, **face.results}
            for role, path in ((role, path) for role, path in files.items() if path):
                known = path.stat()
                text = f"{face.stem}\0{role}\0{path.name}\0{known.st_size}\0{known.st_mtime_ns}\n"
                digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def printable(text: str) -> str:
    r"""Return a text of a file's name for tables: what is no printable character is escaped as ``\n``, ``\udcff``."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def pair_faces(
    results: Mapping[str, str | os.PathLike],
    gt: str | os.PathLike | None = None,
    lq: str | os.PathLike | None = None,
) -> Pairs:
    """Pair the images of folders (one level) by stem.

    A face has the ground truth, if there is any, and one result or more. A missing input prevents nothing.

    Args:
        results: Folders of restored faces by their names.
        gt: Folder of the ground truth.
        lq: Folder of the inputs.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If a folder holds no image or two of one stem, or nothing has its partner.
    """
    restored = {name: by_stem(list_images(folder)) for name, folder in results.items()}
    truths = None if gt is None else by_stem(list_images(gt))
    inputs = {} if lq is None else by_stem(list_images(lq))
    stems = {stem for files in restored.values() for stem in files}
    paired = sorted(stems if truths is None else stems & truths.keys())
    if not paired:
        raise ValueError(_nothing(restored, truths))
    faces = tuple(
        Face(
            stem,
            {name: files[stem] for name, files in restored.items() if stem in files},
            truths and truths[stem],
            inputs.get(stem),
        )
        for stem in paired
    )
    unpaired = [Unpaired(path, GT) for files in restored.values() for path in _others(files, paired)]
    unpaired += [Unpaired(path, _EVERY) for files in (truths or {}, inputs) for path in _others(files, paired)]
    for face in faces:
        path = face.gt or next(iter(face.results.values()))
        unpaired += [Unpaired(path, name) for name in restored if name not in face.results]
        unpaired += [Unpaired(path, LQ)] if inputs and face.lq is None else []
    return Pairs(tuple(restored), faces, tuple(unpaired))


def _others(files: Mapping[str, Path], paired: Iterable[str]) -> list[Path]:
    return [files[stem] for stem in sorted(files.keys() - set(paired))]


def _nothing(restored: Mapping[str, Mapping[str, Path]], truths: Mapping[str, Path]) -> str:
    first, truth = (str(next(iter(files.values()))) for files in (next(iter(restored.values())), truths))
    return f"restored faces and ground truth must have common stems, got none: {first!r}, {truth!r}. Rename them alike."


def write_unpaired(path: str | os.PathLike, unpaired: Sequence[Unpaired]) -> None:
    """List files without partner, one a line; without any there is no list.

    Raises:
        OSError: If it cannot be written.
    """
    if not unpaired:
        Path(path).unlink(missing_ok=True)
        return
    lines = (f"{printable(str(file))} has no partner: {lacks}\n" for file, lacks in unpaired)
    atomic_write_text(path, "".join(lines))
