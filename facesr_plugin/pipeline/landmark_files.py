"""Landmarks of many files: decode ahead in threads, a chunk of pictures at a time, continue after a kill.

What is finished stands in ``OUT.part`` until the landmark file is written. Chunks do not depend on where a run was
stopped, so that one that was killed gives the same numbers as one that was not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from facesr_plugin.data.annotations import Landmarks, check_suffix, write_landmarks
from facesr_plugin.data.inputs import Item, fingerprint, list_items, read_item, short_name
from facesr_plugin.data.prepare import write_skipped
from facesr_plugin.inference import map_ahead
from facesr_plugin.pipeline.landmarker import LandmarkFace
from facesr_plugin.utils.imageio import decode_rgb
from facesr_plugin.utils.journal import Journal

SKIPPED_SUFFIX = ".skipped.txt"
_CHUNK = 8  # pictures: all of them are in memory, and photos may be large
_AHEAD = 4


class Report(NamedTuple):
    """What a run gave: the landmarks, and ``(name, reason)`` of pictures without."""

    landmarks: Landmarks
    skipped: list[tuple[str, str]]


def prepare_landmarks(
    source: str | os.PathLike,
    out: str | os.PathLike,
    find: Callable[[Sequence[np.ndarray]], list[list[LandmarkFace] | str]],
    *,
    plan: dict[str, Any],
    workers: int = 2,
    overwrite: bool = False,
) -> Report:
    """Find the landmarks of every picture and write them.

    Args:
        source: Folder, zip file, or text file of paths.
        out: ``.json`` or ``.npz``; pictures without landmarks are listed in ``<out>.skipped.txt``.
        find: A ``Landmarker``.
        plan: What it depends on (kind, weights, ...), plain JSON values.
        workers: Threads that decode, at least one.
        overwrite: Replace an existing ``out``, and an interrupted run with other inputs or another plan.

    Raises:
        FileExistsError: If ``out`` exists, or an interrupted run differs, and ``overwrite`` is not set.
        OSError: If the input is missing or the disk is full.
        ValueError: If the input or ``out`` is wrong, or no picture gives landmarks.
    """
    out = Path(out)
    check_suffix(out)
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists. Replace it with --overwrite, or choose another output.")
    items = list_items(source)
    plan = {"format": 1, **plan, "images": len(items), "inputs": fingerprint(items)}
    with Journal(out.with_name(out.name + ".part"), plan, overwrite=overwrite) as journal:
        _fill(journal, items, find, max(workers, 1))
        report = _gather(items, journal)
        write_landmarks(out, report.landmarks)
        write_skipped(out.with_name(out.name + SKIPPED_SUFFIX), report.skipped)
        journal.discard()
    return report


def _fill(journal: Journal, items: Sequence[Item], find: Callable, workers: int) -> None:
    """Find the landmarks of the chunks that the journal lacks."""
    done = sum(1 for _ in journal)
    todo = items[done * _CHUNK :]
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(items), initial=len(items) - len(todo), unit="img", disable=None) as bar,
    ):
        for pictures in _chunks(map_ahead(pool, _decode, todo, _AHEAD)):
            found = iter(find([picture for picture in pictures if not isinstance(picture, str)]))
            outcomes = [_record(picture, picture if isinstance(picture, str) else next(found)) for picture in pictures]
            journal.append(outcomes)
            bar.update(len(pictures))


def _chunks(pictures: Iterator[np.ndarray | str]) -> Iterator[list[np.ndarray | str]]:
    chunk = []
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _decode(item: Item) -> np.ndarray | str:
    """Return the picture, or why there is none."""
    try:
        return decode_rgb(read_item(item), item.name)
    except ValueError as error:
        return str(error)


def _record(picture: np.ndarray | str, found: list[LandmarkFace] | str) -> dict[str, Any]:
    """Plain JSON values; float32 survives them."""
    if isinstance(found, str):
        return {"reason": found}
    faces = [
        {
            "points": face.points.tolist(),
            "visible": face.visible.tolist(),
            "score": face.score,
            "box": None if face.box is None else face.box.tolist(),
        }
        for face in found
    ]
    return {"size": list(picture.shape[:2]), "faces": faces}


def _gather(items: Sequence[Item], journal: Journal) -> Report:
    outcomes = [outcome for chunk in journal for outcome in chunk]
    skipped = [
        (item.name, outcome["reason"]) for item, outcome in zip(items, outcomes, strict=True) if "reason" in outcome
    ]
    rows = [
        (short_name(item), number, outcome["size"], face)
        for item, outcome in zip(items, outcomes, strict=True)
        for number, face in enumerate(outcome.get("faces", ()))
    ]
    if not rows:
        raise ValueError(f"none of {len(items)} images has landmarks. The first: {skipped[0][0]}: {skipped[0][1]}")
    faces = [face for *_, face in rows]
    boxes = None if faces[0]["box"] is None else np.array([face["box"] for face in faces], np.float32)
    numbers = np.array([number for _, number, _, _ in rows])
    landmarks = Landmarks(
        tuple(name for name, *_ in rows),
        np.array([face["points"] for face in faces], np.float32),
        visible=np.array([face["visible"] for face in faces], bool),
        boxes=boxes,
        score=np.array([face["score"] for face in faces], np.float32),
        image_size=np.array([size for _, _, size, _ in rows]),
        face=numbers if numbers.any() else None,
    )
    return Report(landmarks, skipped)
