"""Make LMDBs of faces that are aligned as FFHQ's, the training data of SPARNetHD.

A face is brought to the template (eyes, nose tip, mouth corners) by a least-squares similarity and resampled by
Catmull-Rom, as the restoration of photographs does. What differs from the released alignment: beyond the photo the
picture is mirrored, and a photo that shrinks to half or less is first averaged over whole pixels, which keeps it from
aliasing. Images that are aligned already are only resized (Pillow bicubic).
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.data.crop import mirrored
from facesr_plugin.data.face_png import encode_face
from facesr_plugin.data.inputs import read_item
from facesr_plugin.data.prepare import Job, Outcome, Report, Task, run_job
from facesr_plugin.data.transforms import resize, resize_landmarks
from facesr_plugin.ops.affine import (
    FFHQ_SIZE,
    FFHQ_TEMPLATE,
    fit_similarity,
    invert,
    rescale_source,
    rescale_target,
    scale_of,
    transform,
    warp_cubic,
)
from facesr_plugin.utils.imageio import decode_rgb

_SMALLEST, _LARGEST = 16, 4096
_TAPS_PX = 3
_LARGEST_WINDOW = 4  # times the image's longer side: farther out is a mistake in the annotation
_FIVE_OF_68 = ((36, 42), (42, 48), (30, 31), (48, 49), (54, 55))  # ranges whose means are eyes, nose tip, mouth corners


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
        landmarks: Landmark file of 5 or 68 points in pixels of the source images; the faces' own go to
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
    if landmarks is not None and read_landmarks(landmarks).num_points not in (5, 68):
        count = read_landmarks(landmarks).num_points
        raise ValueError(f"landmark file {landmarks} must have 5 or 68 points per face, got {count}")
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
    matrix = ffhq_matrix(points, size)
    return align_face(image, matrix, size), transform(points, matrix).astype(np.float32)


def ffhq_matrix(points: np.ndarray, size: int) -> np.ndarray:
    """Return the 2x3 similarity from an image to its aligned face of side ``size``.

    Args:
        points: ``(5, 2)`` eyes, nose tip, mouth corners, or ``(68, 2)`` of iBUG/300-W: (x, y) in pixels, pixel centres
            at integers.
        size: In pixels.

    Raises:
        ValueError: If the points coincide or are not finite.
    """
    if len(points) == 68:
        points = np.stack([points[first:end].mean(0) for first, end in _FIVE_OF_68])
    return rescale_target(fit_similarity(points, np.array(FFHQ_TEMPLATE)), size / FFHQ_SIZE)


def align_face(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Cut an aligned face out of ``(H, W, 3)`` uint8 RGB; beyond the border the image is mirrored.

    Args:
        image: The photo.
        matrix: From it to the face.
        size: Side of the face in pixels.

    Returns:
        ``(size, size, 3)`` uint8 RGB.

    Raises:
        ValueError: If the face lies beside the photo or is far larger than it.
    """
    end = size - 0.5
    corners = transform([[-0.5, -0.5], [end, -0.5], [-0.5, end], [end, end]], invert(matrix))
    left, top = np.floor(corners.min(0)).astype(int) - _TAPS_PX
    width, height = np.ceil(corners.max(0)).astype(int) + _TAPS_PX + 1 - (left, top)
    _check_window(corners, max(width, height), image.shape[:2])
    rows, columns = mirrored(top, height, image.shape[0]), mirrored(left, width, image.shape[1])
    window = np.ascontiguousarray(image[rows][:, columns])
    matrix = np.column_stack([matrix[:, :2], transform([left, top], matrix)])
    factor = math.floor(1 / scale_of(matrix) + 1e-6)
    if factor >= 2:
        height, width = height // factor * factor, width // factor * factor
        window = np.asarray(Image.fromarray(window[:height, :width]).reduce(factor))
        matrix = rescale_source(matrix, 1 / factor)
    return np.rint(warp_cubic(window, matrix, (size, size))).astype(np.uint8)


def _check_window(corners: np.ndarray, side: int, size: tuple[int, int]) -> None:
    height, width = size
    x, y = corners.mean(0)
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1) or side > _LARGEST_WINDOW * max(size):
        raise ValueError(
            f"landmarks do not fit an image of {width} x {height} pixels: the face's centre is {x:.0f}, {y:.0f}"
        )
