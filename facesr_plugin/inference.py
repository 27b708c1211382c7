"""Restore files of aligned faces: decode ahead in threads, restore in batches, write whole files.

Memory does not grow with the number of files, and a run that was stopped continues where it was.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

import facesr_plugin.metrics  # noqa: F401  registers them
from facesr_plugin.cards import SystemCard
from facesr_plugin.pipeline.grid import Comparison, comparison_grid, resize_bicubic
from facesr_plugin.pipeline.heatmaps import FoundHeatmaps
from facesr_plugin.pipeline.joint import Found, Restored, check_landmark_head, restore_with_landmarks, write_found
from facesr_plugin.pipeline.restorer import Restorer
from facesr_plugin.pipeline.steps import Step, check_steps, find_steps
from facesr_plugin.registry import METRIC_REGISTRY
from facesr_plugin.utils.imageio import (
    by_stem,
    check_apart,
    composed_stem,
    decode_rgb,
    list_images,
    png_paths,
    write_png,
)
from facesr_plugin.utils.visualize import (
    Cell,
    attention_figure,
    capture_attention,
    choose_blocks,
    heatmap_figure,
    steps_figure,
)

GRID_FOLDER = "grid"
ATTENTION_FOLDER = "attention"
HEATMAP_FOLDER = "heatmaps"
STEPS_FOLDER = "steps"
LANDMARK_FOLDER = "landmarks"
T = TypeVar("T")
R = TypeVar("R")


class Job(NamedTuple):
    """One face: its file, its result, and if asked for its ground truth, comparison picture and figures."""

    source: Path
    output: Path
    gt: Path | None
    grid: Path | None
    done: bool
    attention: Path | None = None
    heatmaps: Path | None = None
    steps: Path | None = None
    landmarks: Path | None = None

    @property
    def points(self) -> Path | None:
        """Landmark file beside the picture of the landmarks."""
        return self.landmarks and self.landmarks.with_suffix(".json")

    @property
    def complete(self) -> bool:
        """Whether nothing has to be written or measured."""
        files = (self.grid, self.attention, self.heatmaps, self.steps, self.landmarks, self.points)
        return self.done and not self.gt and all(path.is_file() for path in files if path)


class Failure(NamedTuple):
    """A file that could not be restored or compared, and why."""

    source: Path
    reason: str


class Scores(NamedTuple):
    """PSNR (dB) and SSIM in the form of the system's card."""

    psnr: float
    ssim: float


class Outcome(NamedTuple):
    """A job that went well: whether it wrote a new result, and the scores of the result and of bicubic."""

    restored: bool
    scores: tuple[Scores, Scores] | None


@dataclass
class Summary:
    """What a run did."""

    restored: int = 0
    skipped: int = 0
    compared: int = 0
    failures: list[Failure] = field(default_factory=list)
    _sums: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))

    def note(self, outcome: Outcome | Failure) -> None:
        """Count one job."""
        if isinstance(outcome, Failure):
            self.failures.append(outcome)
            return
        self.restored += outcome.restored
        if outcome.scores:
            self.compared += 1
            self._sums += outcome.scores

    @property
    def means(self) -> tuple[Scores, Scores]:
        """Mean scores of the results and of bicubic interpolation; only if something was compared."""
        result, bicubic = (self._sums / self.compared).tolist()
        return Scores(*result), Scores(*bicubic)


class _Face(NamedTuple):
    """A decoded job. ``lq`` is the input, reduced if it was larger than what the network takes (``fitted``)."""

    job: Job
    lq: np.ndarray
    fitted: np.ndarray
    sr: np.ndarray | None
    gt: np.ndarray | None
    maps: dict[str, np.ndarray] | None = None
    heatmaps: FoundHeatmaps | None = None
    steps: list[Step] | None = None
    landmarks: Found | None = None


def plan_jobs(
    sources: Iterable[str | os.PathLike],
    out: str | os.PathLike,
    *,
    gt: str | os.PathLike | None = None,
    grid: bool = False,
    attention: bool = False,
    heatmaps: bool = False,
    steps: bool = False,
    landmarks: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """List what has to be done.

    Args:
        sources: Files, folders (one level) and globs of aligned faces.
        out: Folder of the results, ``<stem>.png``; comparison pictures go to its sub-folder ``grid``.
        gt: Ground truth with the stems of the inputs; file, folder or glob.
        grid: Draw comparison pictures.
        attention: Draw attention figures, into the sub-folder ``attention``.
        heatmaps: Draw landmarks and their heatmaps, into the sub-folder ``heatmaps``.
        steps: Draw every step of a network that has some, into the sub-folder ``steps``.
        landmarks: Write what a network with a landmark head finds, drawn on the result and as a landmark file in its
            pixels: ``<stem>.png`` and ``<stem>.json`` in the sub-folder ``landmarks``.
        overwrite: Restore again what has a result.

    Raises:
        FileNotFoundError: If a source or ``gt`` names nothing.
        ValueError: If there are no images, two share a stem, a ground truth is missing, or ``out`` holds inputs.
    """
    inputs = list(dict.fromkeys(path for source in sources for path in list_images(source)))
    truths = {} if gt is None else by_stem(list_images(gt))
    check_apart([*inputs, *truths.values()], out)
    missing = [path.stem for path in inputs if gt is not None and composed_stem(path) not in truths]
    if missing:
        raise ValueError(f"gt must hold a picture for every input, got none for {len(missing)}, first {missing[0]!r}")
    wanted = {
        GRID_FOLDER: grid,
        ATTENTION_FOLDER: attention,
        HEATMAP_FOLDER: heatmaps,
        STEPS_FOLDER: steps,
        LANDMARK_FOLDER: landmarks,
    }
    pictures = {
        name: png_paths(inputs, Path(out) / name) if asked else [None] * len(inputs) for name, asked in wanted.items()
    }
    return [
        Job(source, output, truths.get(composed_stem(source)), drawing, output.is_file() and not overwrite, *figures)
        for source, output, drawing, *figures in zip(inputs, png_paths(inputs, out), *pictures.values(), strict=True)
    ]


def run_jobs(
    jobs: Sequence[Job],
    restorer: Restorer,
    *,
    batch: int = 16,
    workers: int = 2,
    blocks: Sequence[str] | None = None,
    find_heatmaps: Callable[[np.ndarray], FoundHeatmaps] | None = None,
) -> Summary:
    """Do the jobs. A file that fails is noted in the summary and the others go on.

    Args:
        jobs: From ``plan_jobs``. One with a result is only compared, or left alone if nothing is missing.
        restorer: Restores the faces.
        batch: Faces that go through the network at a time.
        workers: Threads that read and write files, at least one.
        blocks: Whose attention is drawn; see ``choose_blocks``.
        find_heatmaps: Finds the landmarks of a result, such as a ``HeatmapFinder``; for jobs with ``heatmaps``.

    Raises:
        ValueError: If a network itself fails (see ``Restorer``), has no attention there to draw, or there is none for
            the heatmaps, no steps to draw, or no landmarks.
    """
    summary = Summary(skipped=sum(job.done for job in jobs))
    todo = [job for job in jobs if not job.complete]
    if any(job.steps for job in todo):
        check_steps(restorer)
    if any(job.landmarks for job in todo):
        check_landmark_head(restorer)
    shown = choose_blocks(restorer.network, blocks) if any(job.attention for job in todo) else []
    pool = ThreadPoolExecutor(max(workers, 1))
    try:
        with tqdm(total=len(todo), unit="face", disable=None) as bar:
            finishing: list[Future] = []
            for group in _groups(map_ahead(pool, partial(_read, restorer), todo, 2 * batch), batch):
                _collect([future.result() for future in finishing], summary, bar)
                _collect([item for item in group if isinstance(item, Failure)], summary, bar)
                faces = _restore(restorer, [item for item in group if isinstance(item, _Face)])
                faces = [_look(restorer, face, shown) if face.job.attention else face for face in faces]
                faces = [_find(find_heatmaps, face) if face.job.heatmaps else face for face in faces]
                faces = [
                    face._replace(steps=find_steps(restorer, face.fitted)) if face.job.steps else face for face in faces
                ]
                finishing = [pool.submit(_finish, restorer.card, face) for face in faces]
            _collect([future.result() for future in finishing], summary, bar)
    finally:
        pool.shutdown(cancel_futures=True)
    return summary


def map_ahead(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
    """Map in order, at most ``depth`` items ahead of the consumer."""
    waiting: deque[Future] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _groups(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while group := list(islice(items, size)):
        yield group


def _collect(outcomes: Iterable[Outcome | Failure], summary: Summary, bar: tqdm) -> None:
    for outcome in outcomes:
        summary.note(outcome)
        bar.update()


def _read(restorer: Restorer, job: Job) -> _Face | Failure:
    try:
        image = decode_rgb(job.source.read_bytes(), "the file")
        fitted = restorer.fit(image)
        lq = image if image.size < fitted.size else fitted
        sr = decode_rgb(job.output.read_bytes(), "the existing result") if job.done else None
        gt = decode_rgb(job.gt.read_bytes(), "the ground truth") if job.gt else None
    except (ValueError, OSError) as error:
        return Failure(job.source, str(error))
    return _Face(job, lq, fitted, sr, gt)


def _restore(restorer: Restorer, faces: list[_Face]) -> list[_Face]:
    """Add results and landmarks to those that lack them; at most one batch."""
    todo = [face for face in faces if face.sr is None or face.job.landmarks]
    images, batch = [face.fitted for face in todo], max(len(todo), 1)
    if any(face.job.landmarks for face in todo):
        new = iter(restore_with_landmarks(restorer, images, batch))
    else:
        new = iter([Restored(image) for image in restorer(images, batch)])
    return [_add(face, next(new)) if face.sr is None or face.job.landmarks else face for face in faces]


def _add(face: _Face, restored: Restored) -> _Face:
    """An existing result stays; one of another network's size cannot have the landmarks of this one."""
    if face.sr is not None and face.sr.shape != restored.image.shape:
        return face
    return face._replace(sr=restored.image if face.sr is None else face.sr, landmarks=restored.landmarks)


def _look(restorer: Restorer, face: _Face, blocks: Sequence[str]) -> _Face:
    """Add the attention maps, means over their channels; the face goes through the network alone."""
    with capture_attention(restorer.network) as maps:
        restorer(face.fitted)
    return face._replace(maps={name: maps[name][0].mean(0, keepdim=True).numpy() for name in blocks})


def _find(find_heatmaps: Callable[[np.ndarray], FoundHeatmaps] | None, face: _Face) -> _Face:
    if find_heatmaps is None:
        raise ValueError("find_heatmaps must be given for jobs with heatmaps, got None")
    return face._replace(heatmaps=find_heatmaps(face.sr))


def _finish(card: SystemCard, face: _Face) -> Outcome | Failure:
    """Write the result and what was asked for beside it."""
    job = face.job
    try:
        if not job.done:
            write_png(job.output, face.sr)
        if face.gt is not None and face.gt.shape != face.sr.shape:
            wanted, given = (f"{image.shape[1]} x {image.shape[0]}" for image in (face.sr, face.gt))
            raise ValueError(f"the ground truth must be {wanted} like the result, got {given}")
        if job.grid:
            write_png(job.grid, comparison_grid([Comparison(face.lq, face.sr, face.gt)]))
        if job.attention or job.heatmaps or job.steps:
            _draw_figures(card, face)
        if job.landmarks:
            write_found(job.landmarks, job.output.name, Restored(face.sr, face.landmarks))
    except (ValueError, OSError) as error:
        return Failure(job.source, str(error))
    return Outcome(not job.done, None if face.gt is None else _compare(card, face))


def _draw_figures(card: SystemCard, face: _Face) -> None:
    job = face.job
    before = [Cell("bicubic", resize_bicubic(face.lq, face.sr.shape[:2]))]
    after = [] if face.gt is None else [Cell("ground truth", face.gt)]
    if job.attention:
        write_png(job.attention, attention_figure(face.sr, face.maps, before=before, after=after))
    if job.heatmaps:
        write_png(job.heatmaps, heatmap_figure(face.sr, *face.heatmaps, before=before, after=after))
    if job.steps:
        images, heatmaps, points = zip(*face.steps, strict=True)
        cells = [Cell(_name_step(card, number, image, face.gt), image) for number, image in enumerate(images, 1)]
        write_png(job.steps, steps_figure(cells, heatmaps, points, before=before, after=after))


def _name_step(card: SystemCard, number: int, image: np.ndarray, gt: np.ndarray | None) -> str:
    return f"step {number}" if gt is None else f"step {number}: {_measure(card, image, gt).psnr:.2f} dB"


def _compare(card: SystemCard, face: _Face) -> tuple[Scores, Scores]:
    bicubic = resize_bicubic(face.lq, face.sr.shape[:2])
    return _measure(card, face.sr, face.gt), _measure(card, bicubic, face.gt)


def _measure(card: SystemCard, image: np.ndarray, gt: np.ndarray) -> Scores:
    psnr, ssim = (METRIC_REGISTRY.get(f"calculate_{card.metric_protocol}_{name}") for name in ("psnr", "ssim"))
    image, gt = image[..., ::-1], gt[..., ::-1]  # metrics take BGR, as BasicSR's
    return Scores(psnr(image, gt), ssim(image, gt))
