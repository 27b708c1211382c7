"""Make LMDBs of faces that are aligned as FFHQ's, the training data of SPARNetHD.

A face is brought to the template (eyes, nose tip, mouth corners) by a least-squares similarity and resampled by
Catmull-Rom, as the restoration of photographs does. What differs from the released alignment: beyond the photo the
picture is mirrored, and a photo that shrinks to half or less is first averaged over whole pixels, which keeps it from
aliasing. Images that are aligned already are only resized (Pillow bicubic).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.data.face_png import encode_face
from facesr_plugin.data.inputs import read_item
from facesr_plugin.data.prepare import Job, Outcome, Report, Task, run_job
from facesr_plugin.data.transforms import resize, resize_landmarks
from facesr_plugin.ops.affine import FFHQ_SIZE, transform
from facesr_plugin.ops.align import crop_face, ffhq_matrix
from facesr_plugin.ops.landmark import five_points
from facesr_plugin.utils.imageio import decode_rgb

_SMALLEST, _LARGEST = 16, 4096


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


def prepare_ffhq(
    source: str | os.PathLike,
    out: str | os.PathLike,
    recipe: FFHQRecipe,
    *,
    landmarks: str | os.PathLike | None = None,
    lists: Mapping[str, str | os.PathLike] | None = None,
    workers: int = 2,
    overwrite: bool = False,
) -> list[Report]:
    """Write aligned faces of ``source`` into ``out``, or into ``X_<name>.lmdb`` for each list.

    Args:
        source: Folder, zip file, or text file of paths.
        out: ``X.lmdb``.
        recipe: Size, and whether the images are aligned.
        landmarks: Landmark file of 5, 68 or 98 points in pixels of the source images; the faces' own go to
            ``landmarks.npz`` in the LMDB. Needed unless the images are aligned.
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
    if landmarks is None and not recipe.aligned:
        raise ValueError("images need --landmarks to be aligned by. Give them, or --aligned if they are aligned.")
    if landmarks is not None and read_landmarks(landmarks).num_points not in (5, 68, 98):
        count = read_landmarks(landmarks).num_points
        raise ValueError(f"landmark file {landmarks} must have 5, 68 or 98 points per face, got {count}")
    plan = {"format": 1, "kind": "ffhq", "size": recipe.size, "aligned": recipe.aligned, "encoding": recipe.encoding}
    job = Job(functools.partial(_make_faces, recipe=recipe), plan)
    return run_job(job, source, out, lists=lists or {}, landmarks=landmarks, workers=workers, overwrite=overwrite)


def _make_faces(tasks: Sequence[Task], recipe: FFHQRecipe) -> list[Outcome]:
    """Make some faces, in a worker process."""
    return [_make_face(task, recipe) for task in tasks]


def _make_face(task: Task, recipe: FFHQRecipe) -> Outcome:
    try:
        image = decode_rgb(read_item(task.item), task.item.name)
        face, points = (_shrink if recipe.aligned else _align)(image, task.points, recipe.size)
    except ValueError as error:
        return Outcome(task.item, None, str(error))
    return Outcome(task.item, encode_face(face, points, recipe.encoding))


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
