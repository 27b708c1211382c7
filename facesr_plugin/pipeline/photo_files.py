"""Restore files of whole photos: decode ahead in threads, restore faces in batches over photos, write whole files.

Memory does not grow with the number of files, and a run that was stopped continues where it was: a photo's result is
written after its crops and its comparison picture.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from facesr_plugin.inference import GRID_FOLDER, HEATMAP_FOLDER, Failure, map_ahead
from facesr_plugin.ops.affine import scale_of
from facesr_plugin.pipeline.face import Face
from facesr_plugin.pipeline.grid import Comparison, comparison_grid, resize_bicubic
from facesr_plugin.pipeline.heatmaps import FoundHeatmaps
from facesr_plugin.pipeline.paste import enlarge
from facesr_plugin.pipeline.photo import PhotoOptions, Result, restore_photos, to_rgb8
from facesr_plugin.pipeline.restorer import Restorer
from facesr_plugin.utils.files import atomic_write
from facesr_plugin.utils.imageio import MAX_PIXELS, TooLargeError, check_apart, list_images, png_paths, write_png
from facesr_plugin.utils.photoio import Photo, decode_photo, encode_png
from facesr_plugin.utils.visualize import Cell, heatmap_figure

CROPS_FOLDER = "crops"
_AHEAD = 3
_TOLERATED = 1.25  # a face with more pixels than its result by this factor looks softer than before


class PhotoJob(NamedTuple):
    """One photo: its file, its result, and whether that is there already."""

    source: Path
    output: Path
    done: bool


@dataclass(frozen=True)
class Extras:
    """What is written beside the photos.

    Args:
        crops: ``crops/<stem>_00_input.png`` and ``crops/<stem>_00_restored.png`` of each face.
        grid: ``grid/<stem>.png``, a row for each face.
        find_heatmaps: Finds the landmarks of a restored face for ``heatmaps/<stem>_00.png``.
    """

    crops: bool = False
    grid: bool = False
    find_heatmaps: Callable[[np.ndarray], FoundHeatmaps] | None = None


@dataclass
class PhotoSummary:
    """What a run did. ``notes`` tell of faces left as they were, aligned otherwise or too large, and of photos."""

    skipped: int = 0
    photos: int = 0
    faces: int = 0
    notes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class _Opened(NamedTuple):
    job: PhotoJob
    photo: Photo


def plan_photos(
    sources: Iterable[str | os.PathLike], out: str | os.PathLike, *, overwrite: bool = False
) -> list[PhotoJob]:
    """List what has to be done.

    Args:
        sources: Files, folders (one level) and globs of photos.
        out: Folder of the results, ``<stem>.png``.
        overwrite: Restore again what has a result.

    Raises:
        FileNotFoundError: If a source names nothing.
        ValueError: If there are no images, two share a stem, or ``out`` holds inputs.
    """
    inputs = list(dict.fromkeys(path for source in sources for path in list_images(source)))
    check_apart(inputs, out)
    outputs = png_paths(inputs, out)
    return [
        PhotoJob(source, output, output.is_file() and not overwrite)
        for source, output in zip(inputs, outputs, strict=True)
    ]


def run_photos(
    jobs: Iterable[PhotoJob],
    restorer: Restorer,
    find_faces: Callable[[Path, np.ndarray], list[Face]],
    options: PhotoOptions,
    *,
    extras: Extras | None = None,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
) -> PhotoSummary:
    """Do the jobs. A file that fails is noted in the summary and the others go on.

    Args:
        jobs: From ``plan_photos``; those with a result are left alone.
        restorer: Of the faces.
        find_faces: Maps a file and its picture, ``(H, W, 3)`` uint8 RGB, to the faces in it.
        options: What is done with them.
        extras: What is written beside the photos.
        workers: Threads that read and write files, at least one.
        max_pixels: Larger photos, before or after their enlargement, fail.

    Raises:
        ValueError: If the network itself fails; see ``Restorer``.
    """
    jobs = list(jobs)
    summary = PhotoSummary(skipped=sum(job.done for job in jobs))
    todo = [job for job in jobs if not job.done]
    pool = ThreadPoolExecutor(max(workers, 1))
    waiting: deque[_Opened] = deque()
    writing: deque[Future] = deque()
    bar = tqdm(total=len(todo), unit="photo", disable=None)

    def found() -> Iterator[tuple[np.ndarray, list[Face]]]:
        read = partial(_read, max_pixels=max_pixels, upscale=options.upscale)
        for opened in map_ahead(pool, read, todo, _AHEAD):
            if isinstance(opened, Failure):
                summary.failures.append(opened)
                bar.update()
                continue
            if opened.photo.animated:
                summary.notes.append(f"{opened.job.source}: animated, only its first frame is taken")
            waiting.append(opened)
            yield opened.photo.colour, find_faces(opened.job.source, to_rgb8(opened.photo.colour))

    try:
        for result in restore_photos(restorer, found(), options):
            writing.append(pool.submit(_write, waiting.popleft(), result, options, extras or Extras()))
            while len(writing) > _AHEAD:
                _collect(writing.popleft().result(), summary, bar)
        while writing:
            _collect(writing.popleft().result(), summary, bar)
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
    return summary


def _collect(outcome: tuple[PhotoJob, Result] | Failure, summary: PhotoSummary, bar: tqdm) -> None:
    bar.update()
    if isinstance(outcome, Failure):
        summary.failures.append(outcome)
        return
    job, result = outcome
    restored = [face for face in result.faces if face.skipped is None]
    summary.photos += 1
    summary.faces += len(restored)
    if not result.faces:
        summary.notes.append(f"{job.source}: no face found; written without a restored one")
    for face in result.faces:
        if note := _note(face):
            summary.notes.append(
                f"{job.source}: face at ({face.landmarks[2, 0]:.0f}, {face.landmarks[2, 1]:.0f}) {note}"
            )


def _note(face: Face) -> str | None:
    """What the user should know about a face: why it was left alone, its note, or that it is larger than its result."""
    if face.skipped is not None:
        return f"left as it was: {face.skipped}"
    if face.note is not None:
        return face.note
    side = len(face.crop) / scale_of(face.matrix)
    if side <= _TOLERATED * len(face.restored):
        return None
    return f"has {side:.0f} pixels, its result {len(face.restored)}: fine detail is lost; --weight below 1 keeps some"


def _read(job: PhotoJob, max_pixels: int, upscale: int) -> _Opened | Failure:
    try:
        photo = decode_photo(job.source.read_bytes(), "the file", max_pixels)
        height, width = (side * upscale for side in photo.colour.shape[:2])
        if height * width > max_pixels:
            size = f"{width} x {height}"
            raise TooLargeError(f"the result must have at most {max_pixels:,} pixels, got {size}. Lower --upscale.")
    except TooLargeError as error:
        return Failure(job.source, f"{error} Or raise the limit: --max-pixels")
    except (ValueError, OSError) as error:
        return Failure(job.source, str(error))
    return _Opened(job, photo)


def _write(opened: _Opened, result: Result, options: PhotoOptions, extras: Extras) -> tuple[PhotoJob, Result] | Failure:
    job, photo = opened
    restored = [face for face in result.faces if face.skipped is None]
    try:
        if extras.crops:
            for index, face in enumerate(restored):
                _write_crop(job.output.parent / CROPS_FOLDER, f"{job.output.stem}_{index:02d}", face)
        if extras.grid and restored:
            rows = [Comparison(face.crop, face.restored) for face in restored]
            write_png(job.output.parent / GRID_FOLDER / job.output.name, comparison_grid(rows))
        if extras.find_heatmaps is not None:
            for index, face in enumerate(restored):
                figure = _draw_heatmaps(face, extras.find_heatmaps(face.restored))
                write_png(job.output.parent / HEATMAP_FOLDER / f"{job.output.stem}_{index:02d}.png", figure)
        alpha = None if photo.alpha is None else enlarge(photo.alpha, options.upscale)
        data = encode_png(photo._replace(colour=result.image, alpha=alpha))
        atomic_write(job.output, lambda file: file.write(data))
    except (ValueError, OSError) as error:
        return Failure(job.source, str(error))
    return job, result


def _draw_heatmaps(face: Face, found: FoundHeatmaps) -> np.ndarray:
    before = Cell("input", resize_bicubic(face.crop, face.restored.shape[:2]))
    return heatmap_figure(face.restored, found.heatmaps, found.points, before=[before])


def _write_crop(folder: Path, stem: str, face: Face) -> None:
    write_png(folder / f"{stem}_input.png", face.crop)
    write_png(folder / f"{stem}_restored.png", face.restored)
