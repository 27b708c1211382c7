"""Make LMDBs of square faces from folders, zip files and lists; a killed run continues."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from facesr_plugin.data.annotations import Landmarks, read_landmarks, write_landmarks
from facesr_plugin.data.crop import Crop, cut, cut_landmarks, find_window, parse_crop
from facesr_plugin.data.face_png import encode_face, landmarks_of
from facesr_plugin.data.inputs import Item, fingerprint, list_items, read_item
from facesr_plugin.data.keys import read_name_list, select_keys
from facesr_plugin.data.lmdb_store import LANDMARK_FILE, SKIPPED_FILE, LmdbWriter
from facesr_plugin.utils.files import atomic_write_text
from facesr_plugin.utils.imageio import decode_rgb
from facesr_plugin.utils.parallel import WorkerPool

_SMALLEST, _LARGEST = 16, 4096


@dataclass(frozen=True)
class FaceRecipe:
    """What a face of the LMDB is made by.

    Args:
        size: Side of the face in pixels, 16 to 4096; None keeps the side that each one has.
        crop: One of ``crop.CROPS``.
        kernel: Of Pillow's resize, ``bicubic`` or ``bilinear``.

    Raises:
        ValueError: If a value is not one of these.
    """

    size: int | None = 128
    crop: str = "none"
    kernel: str = "bicubic"

    def __post_init__(self) -> None:
        parse_crop(self.crop)
        if self.size is not None:
            _check_side("size", self.size)
        if self.kernel not in ("bicubic", "bilinear"):
            raise ValueError(f"kernel must be bicubic or bilinear, got {self.kernel!r}")


def _check_side(name: str, side: int) -> None:
    if not _SMALLEST <= side <= _LARGEST:
        raise ValueError(f"{name} must be from {_SMALLEST} to {_LARGEST}, got {side}")


class Report(NamedTuple):
    """What one LMDB holds after a run: images, and ``(name, reason)`` of those that could not be used."""

    path: Path
    stored: int
    skipped: list[tuple[str, str]]


class Task(NamedTuple):
    """One image for a worker; ``box`` and ``points`` are in pixels of the source, or None."""

    item: Item
    box: np.ndarray | None
    points: np.ndarray | None


class Outcome(NamedTuple):
    """Finished PNG or JPEG files of an image's faces, or the reason why there is none."""

    item: Item
    faces: tuple[bytes, ...]
    reason: str = ""


def prepare_faces(
    source: str | os.PathLike,
    out: str | os.PathLike,
    recipe: FaceRecipe,
    *,
    train_list: str | os.PathLike | None = None,
    val_list: str | os.PathLike | None = None,
    landmarks: str | os.PathLike | None = None,
    workers: int = 2,
    overwrite: bool = False,
) -> list[Report]:
    """Write the faces of ``source`` into ``out``, or into ``X_train.lmdb`` and ``X_val.lmdb`` if lists are given.

    Args:
        source: Folder, zip file, or text file of paths.
        out: ``X.lmdb``.
        recipe: Crop and size.
        train_list: Names for ``X_train.lmdb``; images that no list names are left out.
        val_list: Names for ``X_val.lmdb``.
        landmarks: Landmark file in pixels of the source images; the faces' own go to ``landmarks.npz`` in the LMDB.
        workers: Processes; 0 works in this one.
        overwrite: Replace a finished LMDB.

    Returns:
        One report per LMDB.

    Raises:
        FileExistsError: If an output exists and ``overwrite`` is not set.
        OSError: If an input is missing or the disk is full.
        ValueError: If an input, a list or a landmark file is wrong, or no image can be used.
    """
    needed = {"box": "crop box:MARGIN needs --landmarks with the faces' points or boxes"}
    needed["dic"] = "crop dic needs --landmarks with the faces' boxes"
    if landmarks is None and (kind := parse_crop(recipe.crop).kind) in needed:
        raise ValueError(needed[kind])
    job = Job(
        functools.partial(_make_faces, recipe=recipe),
        {"format": 1, "size": recipe.size, "crop": recipe.crop, "kernel": recipe.kernel},
    )
    lists = {name: path for name, path in (("train", train_list), ("val", val_list)) if path is not None}
    return run_job(job, source, out, lists=lists, landmarks=landmarks, workers=workers, overwrite=overwrite)


class Job(NamedTuple):
    """What one command makes of images.

    Args:
        make: Called in worker processes with some ``Task``, gives their ``Outcome``.
        plan: What the result depends on beside the inputs, plain JSON values.
        finds: Whether it finds the faces, and so their points, itself.
        numbered: Whether an image has any number of faces, whose keys are its own and ``_00``, ``_01``, ...
        chunk: Images per task.
    """

    make: Callable[[Sequence[Task]], list[Outcome]]
    plan: dict[str, Any]
    finds: bool = False
    numbered: bool = False
    chunk: int = 16

    def key(self, item: Item, number: int) -> str:
        """Return the key of a face."""
        return f"{item.key}_{number:02d}" if self.numbered else item.key


def run_job(
    job: Job,
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    lists: Mapping[str, str | os.PathLike],
    landmarks: str | os.PathLike | None,
    workers: int,
    overwrite: bool,
) -> list[Report]:
    """Do a job in several processes; see ``prepare_faces`` for what is common. ``lists`` are by split name."""
    items = list_items(source)
    splits = _split(items, Path(out), lists)
    annotations = None if landmarks is None else read_landmarks(landmarks)
    if annotations is not None:
        annotations.rows_by_key()  # several faces of an image are refused before anything is written
    plan = dict(job.plan)
    plan["landmarks"] = None if landmarks is None else hashlib.sha256(Path(landmarks).read_bytes()).hexdigest()[:16]
    reports = []
    with WorkerPool(job.make, workers) as pool:
        for path, members in splits.items():
            full_plan = {**plan, "images": len(members), "inputs": fingerprint(members)}
            with LmdbWriter(path, full_plan, overwrite=overwrite) as writer:
                reports.append(_fill(writer, pool, members, annotations, job))
    return reports


def _split(items: list[Item], out: Path, lists: Mapping[str, str | os.PathLike]) -> dict[Path, list[Item]]:
    """Return the images of each LMDB."""
    if out.suffix != ".lmdb":
        raise ValueError(f"output must be a folder whose name ends with .lmdb, got {out}")
    if not lists:
        return {out: items}
    by_key = {item.key: item for item in items}
    keys = {name: select_keys(read_name_list(path), by_key, f"list {path}") for name, path in lists.items()}
    shared = sorted(set(keys.get("train", ())) & set(keys.get("val", ())))
    if shared:
        raise ValueError(f"train and validation list must not share images, got {len(shared)}: {shared[0]}, ...")
    return {out.with_name(f"{out.stem}_{name}.lmdb"): [by_key[key] for key in keys[name]] for name in keys}


def _fill(
    writer: LmdbWriter, pool: WorkerPool, items: Sequence[Item], annotations: Landmarks | None, job: Job
) -> Report:
    """Make the images that are not there yet and finish the LMDB."""
    if writer.complete:
        return Report(writer.path, len(writer.keys), _read_skipped(writer.path))
    missing = [item for item in items if job.key(item, 0) not in writer.keys]
    skipped = []
    with tqdm(total=len(items), initial=len(items) - len(missing), desc=writer.path.name, unit="img") as bar:
        for outcomes in pool.map(_tasks(missing, annotations, job.chunk)):
            for item, faces, reason in outcomes:
                writer.put({job.key(item, number): face for number, face in enumerate(faces)})
                if not faces:
                    skipped.append((item.name, reason))
            bar.update(len(outcomes))
    if not writer.keys:
        writer.discard()
        raise ValueError(f"none of {len(items)} images can be used. The first: {skipped[0][0]}: {skipped[0][1]}")
    write_skipped(writer.path / SKIPPED_FILE, skipped)
    writer.commit()
    if annotations is not None or job.finds:
        _write_points(writer, annotations)
    return Report(writer.path, len(writer.finish()), skipped)


def _tasks(items: Sequence[Item], annotations: Landmarks | None, chunk: int) -> Iterator[list[Task]]:
    rows = {} if annotations is None else annotations.rows_by_key()
    for start in range(0, len(items), chunk):
        yield [_task(item, annotations, rows.get(item.key)) for item in items[start : start + chunk]]


def _task(item: Item, annotations: Landmarks | None, row: int | None) -> Task:
    if annotations is None or row is None:
        return Task(item, None, None)
    points = annotations.points[row]
    if annotations.boxes is not None:
        return Task(item, annotations.boxes[row], points)
    seen = points if annotations.visible is None else points[annotations.visible[row]]
    box = np.concatenate([seen.min(0), seen.max(0)]) if len(seen) else None
    return Task(item, box, points)


def _make_faces(tasks: Sequence[Task], recipe: FaceRecipe) -> list[Outcome]:
    """Make some faces, in a worker process."""
    return [_make_face(task, recipe, parse_crop(recipe.crop)) for task in tasks]


def _make_face(task: Task, recipe: FaceRecipe, crop: Crop) -> Outcome:
    try:
        image = decode_rgb(read_item(task.item), task.item.name)
        window = find_window(image.shape[:2], crop, task.box)
        size = window.side if recipe.size is None else recipe.size
        _check_side("side of the face", size)
    except ValueError as error:
        return Outcome(task.item, (), str(error))
    face = cut(image, window, size, recipe.kernel)
    points = None if task.points is None else cut_landmarks(task.points, window, size)
    return Outcome(task.item, (encode_face(face, points),))


def _write_points(writer: LmdbWriter, source: Landmarks | None) -> None:
    """Write the points of the stored faces, in their pixels, into the LMDB's folder."""
    found = [(key, points) for key, data in writer.images() if (points := landmarks_of(data)) is not None]
    if not found:
        raise ValueError(
            f"the landmark file has none of the {len(writer.keys)} images. Its names must be those of the images."
        )
    keys = tuple(key for key, _ in found)
    own = Landmarks(keys, np.stack([points for _, points in found]))
    if source is not None:
        rows = source.rows_by_key()
        order = [rows[key] for key in keys]
        known = {name: getattr(source, name) for name in ("visible", "score")}
        own = replace(own, **{name: value[order] for name, value in known.items() if value is not None})
    write_landmarks(writer.path / LANDMARK_FILE, own)


def write_skipped(path: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Write a line ``name<tab>reason`` for each image that could not be used; no file if there is none."""
    lines = [f"{_one_line(name)}\t{_one_line(reason)}\n" for name, reason in skipped]
    if lines:
        atomic_write_text(path, "".join(lines))


def _read_skipped(folder: Path) -> list[tuple[str, str]]:
    path = folder / SKIPPED_FILE
    if not path.is_file():
        return []
    pairs = (line.partition("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return [(name, reason) for name, _, reason in pairs]


def _one_line(text: str) -> str:
    """Escape line ends, tabs and undecodable bytes of file names."""
    return text.encode("unicode_escape", "surrogatepass").decode("ascii") if not text.isprintable() else text
