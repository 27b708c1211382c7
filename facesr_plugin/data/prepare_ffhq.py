"""Make LMDBs of faces that are aligned as FFHQ's, the training data of SPARNetHD.

A face is brought to the template (eyes, nose tip, mouth corners) by a least-squares similarity and resampled by
Catmull-Rom, as the restoration of photographs does. What differs from the released alignment: beyond the photo the
picture is mirrored, and a photo that shrinks to half or less is first averaged over whole pixels, which keeps it from
aliasing. Images that are aligned already are only resized (Pillow bicubic).

The points come from a landmark file, or from a finder (``pipeline.detector.FaceDetector``), which gives any number of
faces per photo; small ones, and those with less than three quarters of their crop in the photo, are left out.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch

from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.data.face_png import encode_face
from facesr_plugin.data.inputs import read_item
from facesr_plugin.data.prepare import Job, Outcome, Report, Task, run_job
from facesr_plugin.data.transforms import resize, resize_landmarks
from facesr_plugin.ops.affine import FFHQ_SIZE, invert, transform
from facesr_plugin.ops.align import crop_face, ffhq_matrix
from facesr_plugin.ops.landmark import five_points
from facesr_plugin.utils.imageio import decode_rgb

_SMALLEST, _LARGEST = 16, 4096
_LEAST_INSIDE = 0.75  # of the crop; what lies beyond the photo is mirrored


@dataclass(frozen=True)
class FFHQRecipe:
    """What a face of the LMDB is made by.

    Args:
        size: Side of the face in pixels, 16 to 4096.
        aligned: The images are aligned already: resize them only.
        encoding: Of the stored faces, ``png`` or ``jpeg`` (quality 95, 4:4:4: a fifth of the size).

    Raises:
        ValueError: If ``size`` or ``encoding`` is not one of these.
    """

    size: int = FFHQ_SIZE
    aligned: bool = False
    encoding: str = "png"

    def __post_init__(self) -> None:
        if not _SMALLEST <= self.size <= _LARGEST:
            raise ValueError(f"size must be from {_SMALLEST} to {_LARGEST}, got {self.size}")
        if self.encoding not in ("png", "jpeg"):
            raise ValueError(f"encoding must be png or jpeg, got {self.encoding!r}")


class FoundFace(Protocol):
    """What a finder knows about a face, such as ``pipeline.face.Face``."""

    landmarks: np.ndarray
    """``(5, 2)`` (x, y) in pixels of the photo, pixel centres at integers; order of ``FFHQ_TEMPLATE``."""

    @property
    def size(self) -> float:
        """Longer side of the face (not of its crop) in pixels."""


class Search(NamedTuple):
    """How faces are found in photos.

    Args:
        find: Maps ``(H, W, 3)`` uint8 RGB to its faces. Picklable: every worker process has its own.
        identity: What ``find`` is, weights included: a run that was stopped continues with the same only.
        min_face: Smaller faces are left out, in pixels; by default those smaller than half of the recipe's size.
        only_largest: Take the largest face of a photo only.
    """

    find: Callable[[np.ndarray], Sequence[FoundFace]]
    identity: str
    min_face: float | None = None
    only_largest: bool = False


def prepare_ffhq(
    source: str | os.PathLike,
    out: str | os.PathLike,
    recipe: FFHQRecipe,
    *,
    landmarks: str | os.PathLike | None = None,
    search: Search | None = None,
    lists: Mapping[str, str | os.PathLike] | None = None,
    workers: int = 2,
    overwrite: bool = False,
) -> list[Report]:
    """Write aligned faces of ``source`` into ``out``, or into ``X_<name>.lmdb`` for each list.

    Keys are those of the images. Faces that were found have a number too, ``<key>_00`` for the largest of a photo,
    unless only the largest is taken.

    Args:
        source: Folder, zip file, or text file of paths.
        out: ``X.lmdb``.
        recipe: Size, and whether the images are aligned.
        landmarks: Landmark file of 5, 68 or 98 points in pixels of the source images, one face each; the faces' own
            go to ``landmarks.npz`` in the LMDB.
        search: How faces are found where there is no landmark file.
        lists: Lists of names by split (``train``, ``val``).
        workers: Processes; 0 works in this one.
        overwrite: Replace a finished LMDB.

    Returns:
        One report per LMDB.

    Raises:
        FileExistsError: If an output exists and ``overwrite`` is not set.
        OSError: If an input is missing or the disk is full.
        ValueError: If an input, a list or the landmark file is wrong, or no image can be used.
    """
    _check(recipe, landmarks, search)
    plan = {"format": 1, "kind": "ffhq", "size": recipe.size, "aligned": recipe.aligned, "encoding": recipe.encoding}
    job = Job(functools.partial(_make_all, recipe=recipe, search=None), plan)
    if search is not None:
        min_face = recipe.size / 2 if search.min_face is None else search.min_face
        plan |= {"search": search.identity, "min_face": min_face, "only_largest": search.only_largest}
        make = functools.partial(_make_all, recipe=recipe, search=search._replace(min_face=min_face))
        job = Job(make, plan, finds=True, numbered=not search.only_largest, chunk=1)
    return run_job(job, source, out, lists=lists or {}, landmarks=landmarks, workers=workers, overwrite=overwrite)


def _check(recipe: FFHQRecipe, landmarks: str | os.PathLike | None, search: Search | None) -> None:
    if search is None and landmarks is None and not recipe.aligned:
        raise ValueError("photos need landmarks or a search to be aligned by. Give one, or aligned=True if they are.")
    if search is not None and (landmarks is not None or recipe.aligned):
        raise ValueError("search must be None where landmarks are given or images are aligned, got one")
    if search is not None and search.min_face is not None and not search.min_face >= 0:
        raise ValueError(f"min_face must not be negative, got {search.min_face}")
    if landmarks is not None and (count := read_landmarks(landmarks).num_points) not in (5, 68, 98):
        raise ValueError(f"landmark file {landmarks} must have 5, 68 or 98 points per face, got {count}")


def _make_all(tasks: Sequence[Task], recipe: FFHQRecipe, search: Search | None) -> list[Outcome]:
    """Make the faces of some images, in a worker process."""
    if multiprocessing.parent_process() is not None:  # threads for all cores in each would hinder the others
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
    return [_make(task, recipe, search) for task in tasks]


def _make(task: Task, recipe: FFHQRecipe, search: Search | None) -> Outcome:
    try:
        image = decode_rgb(read_item(task.item), task.item.name)
        if recipe.aligned:
            faces = [_shrink(image, task.points, recipe.size)]
        elif search is None:
            faces = [_align(image, task.points, recipe.size)]
        else:
            faces = [_align(image, face.landmarks, recipe.size) for face in _choose(search, image)]
    except ValueError as error:
        return Outcome(task.item, (), str(error))
    return Outcome(task.item, tuple(encode_face(face, points, recipe.encoding) for face, points in faces))


def _choose(search: Search, photo: np.ndarray) -> list[FoundFace]:
    """Find the faces to take, the largest first."""
    found = sorted(search.find(photo), key=lambda face: face.size, reverse=True)
    if not found:
        raise ValueError("photo has no face")
    large = [face for face in found if face.size >= search.min_face]
    if not large:
        raise ValueError(f"photo has no face of {search.min_face:g} pixels, its largest has {found[0].size:.0f}")
    chosen = [face for face in large if _share_inside(face.landmarks, photo.shape[:2]) >= _LEAST_INSIDE]
    if not chosen:
        raise ValueError(f"photo cuts its faces off: {len(large)} with less than {_LEAST_INSIDE:.0%} of the crop in it")
    return chosen[:1] if search.only_largest else chosen


def _share_inside(points: np.ndarray, size: tuple[int, int]) -> float:
    """Return how much of a crop, sampled at 16x16 pixels, lies in a photo of ``(height, width)``."""
    crop = np.stack(np.meshgrid(np.arange(16), np.arange(16)), axis=-1)
    x, y = np.moveaxis(transform(crop, invert(ffhq_matrix(points, 16))), -1, 0)
    return float(((x >= -0.5) & (x <= size[1] - 0.5) & (y >= -0.5) & (y <= size[0] - 0.5)).mean())


def _shrink(image: np.ndarray, points: np.ndarray | None, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    height, width = image.shape[:2]
    if height != width or height < size:
        raise ValueError(f"aligned image must be square, of {size} pixels or more, got {width} x {height}")
    moved = None if points is None else resize_landmarks(points, (height, width), (size, size))
    return resize(image, (size, size)), moved


def _align(image: np.ndarray, points: np.ndarray | None, size: int) -> tuple[np.ndarray, np.ndarray]:
    if points is None:
        raise ValueError("image has no landmarks")
    matrix = ffhq_matrix(five_points(points), size)
    return crop_face(image, matrix, size), transform(points, matrix).astype(np.float32)
