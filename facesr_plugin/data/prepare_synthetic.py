"""Write drawn faces with their landmarks to a folder or an LMDB; a killed run continues."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.data.face_png import encode_face, landmarks_of
from facesr_plugin.data.lmdb_store import LANDMARK_FILE, LmdbWriter
from facesr_plugin.data.prepare import Report
from facesr_plugin.data.synthetic import MAX_SIZE, MIN_SIZE, generate_face
from facesr_plugin.utils.files import atomic_write, atomic_write_text
from facesr_plugin.utils.parallel import WorkerPool

PLAN_FILE = "synthetic.json"
_SEEDS_PER_RUN = 2**40
_SEEDS_PER_SPLIT = 2**39
_BATCH = 64


class Face(NamedTuple):
    """Name of a face, and the seed that draws it."""

    name: str
    seed: int


def prepare_synthetic(
    out: str | os.PathLike,
    num: int,
    size: int,
    *,
    seed: int = 0,
    val: int | None = None,
    workers: int = 2,
    overwrite: bool = False,
) -> list[Report]:
    """Draw ``num`` faces, and ``val`` others.

    Args:
        out: Folder for PNG files, or ``X.lmdb``; each gets a ``landmarks.npz``.
        num: Faces for training.
        size: Side in pixels.
        seed: Of the whole run; runs with different seeds share no face.
        val: Faces for validation: then ``out/train`` and ``out/val``, or ``X_train.lmdb`` and ``X_val.lmdb``.
        workers: Processes; 0 works in this one.
        overwrite: Replace finished output.

    Returns:
        One report per folder or LMDB.

    Raises:
        FileExistsError: If an output exists and ``overwrite`` is not set.
        OSError: If the disk is full.
        ValueError: If ``size`` or ``num`` is out of range.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size must be from {MIN_SIZE} to {MAX_SIZE}, got {size}")
    if not 1 <= num <= _SEEDS_PER_SPLIT:
        raise ValueError(f"num must be 1 or more, got {num}")
    base = seed * _SEEDS_PER_RUN
    splits = {"train": (num, base)} if val is None else {"train": (num, base), "val": (val, base + _SEEDS_PER_SPLIT)}
    reports = []
    with WorkerPool(functools.partial(_draw, size=size), workers) as pool:
        for name, (count, first) in splits.items():
            path = _split_path(Path(out), None if val is None else name)
            faces = [Face(f"synthetic_{i:06d}", first + i) for i in range(count)]
            plan = {"format": 1, "synthetic": 1, "num": count, "size": size, "first_seed": first}
            write = _write_lmdb if path.suffix == ".lmdb" else _write_folder
            reports.append(Report(path, write(path, plan, faces, pool, overwrite), []))
    return reports


def _split_path(out: Path, split: str | None) -> Path:
    if split is None:
        return out
    return out.with_name(f"{out.stem}_{split}.lmdb") if out.suffix == ".lmdb" else out / split


def _draw(face: Face, size: int) -> tuple[Face, bytes]:
    """Draw one face, in a worker process."""
    image, points = generate_face(face.seed, size)
    return face, encode_face(image, points)


def _write_lmdb(path: Path, plan: dict, faces: Sequence[Face], pool: WorkerPool, overwrite: bool) -> int:
    with LmdbWriter(path, plan, overwrite=overwrite, batch=_BATCH) as writer:
        if writer.complete:
            return len(writer.keys)
        missing = [face for face in faces if face.name not in writer.keys]
        with tqdm(total=len(faces), initial=len(faces) - len(missing), desc=path.name, unit="face") as bar:
            for face, png in pool.map(missing):
                writer.put({face.name: png})
                bar.update()
        writer.commit()
        _write_points(path / LANDMARK_FILE, writer.images(), plan["size"])
        return len(writer.finish())


def _write_folder(path: Path, plan: dict, faces: Sequence[Face], pool: WorkerPool, overwrite: bool) -> int:
    """Write PNG files; ``landmarks.npz`` comes last and says that all are there."""
    _start_folder(path, plan, overwrite)
    files = [path / f"{face.name}.png" for face in faces]
    if (path / LANDMARK_FILE).is_file() and all(file.is_file() for file in files):
        return len(faces)
    missing = [face for face, file in zip(faces, files, strict=True) if not file.is_file()]
    with tqdm(total=len(faces), initial=len(faces) - len(missing), desc=path.name, unit="face") as bar:
        for face, png in pool.map(missing):
            atomic_write(path / f"{face.name}.png", lambda file, png=png: file.write(png))
            bar.update()
    _write_points(path / LANDMARK_FILE, ((file.name, file.read_bytes()) for file in files), plan["size"])
    return len(faces)


def _start_folder(path: Path, plan: dict, overwrite: bool) -> None:
    """Make the folder, or check that it holds a run with this plan."""
    plan_file = path / PLAN_FILE
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} exists and is not a folder. Choose another output.")
    found = json.loads(plan_file.read_text(encoding="utf-8")) if plan_file.is_file() else None
    foreign = path.is_dir() and found is None and any(not entry.name.startswith(".") for entry in path.iterdir())
    if foreign or (found not in (None, plan) and not overwrite):
        raise FileExistsError(
            f"{path} exists and holds something else. Choose another output"
            + ("." if foreign else ", or replace the drawn faces with --overwrite.")
        )
    if found is not None and overwrite and (found != plan or (path / LANDMARK_FILE).is_file()):
        for file in [path / LANDMARK_FILE, *path.glob("synthetic_*.png")]:
            file.unlink(missing_ok=True)
    if found != plan:
        atomic_write_text(plan_file, json.dumps(plan, indent=1, sort_keys=True) + "\n")


def _write_points(path: Path, images: Iterable[tuple[str, bytes]], size: int) -> None:
    names, points = zip(*((name, landmarks_of(png)) for name, png in images), strict=True)
    write_landmarks(path, Landmarks(names, np.stack(points), image_size=np.full((len(names), 2), size)))
