"""Faces cut out of photos or loose crops by their landmarks, in training with random scale, rotation and place.

Source: JASRNet (AAAI 2020); its offline augmentation is reconstructed on the fly, see ``data/face_crop.py``. Every
random draw depends on (``manual_seed``, epoch, position) alone. The network's input is made from ``lq`` later, by the
system's card.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from facesr_plugin.cards import get_card
from facesr_plugin.data import transforms
from facesr_plugin.data.annotations import Landmarks, read_landmarks
from facesr_plugin.data.base import FaceDataset, FaceOptions, to_tensor
from facesr_plugin.data.face_crop import (
    CropDraw,
    Framed,
    Ranges,
    cut_box,
    draw_crop,
    forget_outside,
    mirror,
    vary_crop,
    window_of,
)
from facesr_plugin.data.keys import key_of
from facesr_plugin.data.lmdb_store import LANDMARK_FILE
from facesr_plugin.ops.landmark import flip_permutation
from facesr_plugin.registry import DATASET_REGISTRY
from facesr_plugin.utils.options import parse_section


@dataclass(frozen=True, kw_only=True)
class FaceCropOptions(FaceOptions):
    """Options of ``FaceCropDataset`` beside those of ``FaceOptions``.

    Only the phase ``train`` draws random numbers; ``scale`` and ``gt_size`` are the card's by default.

    Args:
        type: ``FaceCropDataset``.
        landmarks: Landmark file of the photos, any number of faces each; true takes the one in the LMDB or folder.
        expand: Part of a face's box that is added on each side. The box is the landmark file's, else that about the
            visible points.
        scale_range: Of a training sample.
        rotation: Largest angle of a training sample in degrees, either way.
        rotation_kernel: How a training sample is turned: as published, or smoother.
        jitter: Largest shift of a training sample in pixels of ``gt``, each way.
        use_hflip: Mirror half of the training samples.
        flip_points: Where the points of a mirrored face lie: ``correct``, or ``released``, a pixel beside as in
            JASRNet's program.
        deliver_box: Deliver the landmark file's box of each face too, for metrics (AFLW); not in the phase ``train``.
    """

    type: Literal["FaceCropDataset"]
    system: str = "jasrnet"
    landmarks: str | bool = True
    expand: float = 0.2
    scale_range: tuple[float, float] = (0.9, 1.1)
    rotation: float = 20.0
    rotation_kernel: Literal["nearest", "bilinear", "bicubic"] = "nearest"
    jitter: float = 30.0
    use_hflip: bool = True
    flip_points: Literal["correct", "released"] = "correct"
    deliver_box: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.landmarks is False:
            raise ValueError("landmarks must name a file, or be true for the one with the photos, got false")
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ValueError(f"scale_range must be [low, high] with 0 < low <= high, got {list(self.scale_range)}")
        for name in ("expand", "rotation", "jitter"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.flip_points == "released" and not self.use_hflip:
            raise ValueError("flip_points must be correct without use_hflip, got released")
        if self.deliver_box and self.phase == "train":
            raise ValueError("deliver_box must be false in the phase train, which turns the faces. Remove it there.")


class Draw(NamedTuple):
    """Random values of one sample."""

    crop: CropDraw
    flip: bool


class Face(NamedTuple):
    """One face of a photo: ``points`` (K, 2) with NaN where not visible, ``box`` (4), in pixels of the photo."""

    key: str
    name: str
    points: np.ndarray
    box: np.ndarray


@DATASET_REGISTRY.register()
class FaceCropDataset(FaceDataset):
    """Pairs of small input and ground truth, one per face of the photos.

    A sample is ``{"lq", "gt", "landmarks", "lq_path", "gt_path"}``: ``lq`` is ``(3, h, h)`` and ``gt`` ``(3, H, H)``
    float32 RGB in [0, 1] (bytes / 255), ``landmarks`` ``(K, 2)`` float32 (x, y) in pixels of ``gt``, pixel centres at
    integers, NaN for points that are not visible or outside. The paths are the photo's key, with the number of the
    face if the landmark file numbers faces. With ``deliver_box`` there is ``box``, ``(4)`` float32, x1 y1 x2 y2 in
    pixels of ``gt``.

    Args:
        opt: Section of the option file; see ``FaceCropOptions``.

    Attributes:
        faces: What the samples are made of, in order.

    Raises:
        FileNotFoundError: If the LMDB, the folder, the list or the landmark file is missing.
        TypeError: If an option has the wrong type.
        ValueError: If an option is unknown or wrong, or images, list and landmarks do not fit together.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.options = options = parse_section(FaceCropOptions, opt, f"datasets.{opt.get('phase', 'val')}")
        super().__init__(opt, options)
        card = get_card(options.system)
        self.scale = card.scale if options.scale is None else options.scale
        self.gt_size = card.gt_size if options.gt_size is None else options.gt_size
        if self.gt_size % self.scale:
            raise ValueError(f"gt_size must be a multiple of scale {self.scale}, got {self.gt_size}")
        self._reduction = card.reduction
        self._reduction.factors(self.scale)  # refuses a scale that the card cannot have, before the first sample
        self._ranges = Ranges(options.scale_range, options.rotation, options.jitter)
        self.faces = self._read_faces()

    def __len__(self) -> int:
        return len(self.faces)

    def sample(self, index: int) -> dict[str, Any]:
        """Return the sample of ``index``; arguments and errors as ``__getitem__``.

        Raises:
            ValueError: Also if a face lies beside its image.
        """
        face = self.faces[index]
        photo = self.gt_source.read(face.key)
        try:
            framed = cut_box(Framed(photo, face.points), face.box, self.options.expand, self.gt_size)
        except ValueError as error:
            raise ValueError(f"face {face.name!r} of {self.options.dataroot_gt}: {error}. Correct it.") from error
        gt, points = self._augment(framed, index)
        sample = {
            "lq": to_tensor(transforms.make_lq(gt, self.scale, self._reduction)),
            "gt": to_tensor(gt),
            "landmarks": torch.from_numpy(forget_outside(points, gt.shape[:2])),
            "lq_path": face.name,
            "gt_path": face.name,
        }
        return {**sample, "box": self._move_box(face, photo.shape[:2])} if self.options.deliver_box else sample

    def _augment(self, face: Framed, index: int) -> Framed:
        if self.options.phase != "train":
            return face
        draw = self._draw(index)
        varied = vary_crop(face, draw.crop, self.options.rotation_kernel)
        return mirror(varied, self.options.flip_points == "released") if draw.flip else varied

    def _draw(self, index: int) -> Draw:
        rng = np.random.default_rng(self.seed_of(index))
        flip = bool(rng.random() < 0.5)  # drawn whether used or not: one option does not move the values of another
        return Draw(draw_crop(rng, self._ranges), flip and self.options.use_hflip)

    def _move_box(self, face: Face, size: tuple[int, int]) -> torch.Tensor:
        left, top, right, bottom = window_of(face.box, self.options.expand, size)
        corners = face.box.reshape(2, 2) - np.array([left, top], np.float32)
        moved = transforms.resize_landmarks(corners, (bottom - top, right - left), (self.gt_size, self.gt_size))
        return torch.from_numpy(moved.reshape(4))

    def _read_faces(self) -> list[Face]:
        path = _landmark_file(self.options)
        landmarks = read_landmarks(path)
        if self.options.phase == "train" and self.options.use_hflip:
            flip_permutation(landmarks.num_points)  # refuses points without a table
        if self.options.deliver_box and landmarks.boxes is None:
            raise ValueError(f"landmark file {path} must have boxes for deliver_box, got none. Remove deliver_box.")
        rows = _rows_of_images(landmarks, set(self.keys))
        missing = [key for key in self.keys if key not in rows]
        if missing:
            raise ValueError(
                f"landmark file {path} lacks {len(missing)} of {len(self.keys)} images: {', '.join(missing[:3])}. "
                "Use a meta_info_file without them."
            )
        faces = [_read_face(landmarks, row, key) for key in self.keys for row in rows[key]]
        self._check_faces(path, faces)
        return faces

    def _check_faces(self, path: str | Path, faces: list[Face]) -> None:
        """Refuse faces that cannot be cut, as far as that is known without reading the images."""
        shapes = self.gt_source.shapes()
        for face in faces:
            size = shapes.get(face.key, (2**31, 2**31))
            try:
                if not np.isfinite(face.points).all(-1).any():
                    raise ValueError("it must have a visible point")
                window_of(face.box, self.options.expand, size)
            except ValueError as error:
                raise ValueError(f"landmark file {path}, face {face.name!r}: {error}. Remove it.") from error


def _landmark_file(options: FaceCropOptions) -> str | Path:
    if options.landmarks is not True:
        return options.landmarks
    path = Path(options.dataroot_gt) / LANDMARK_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{options.dataroot_gt} has no {LANDMARK_FILE}. Make one with facesr prepare landmarks, and name it in "
            f"datasets.{options.phase}.landmarks."
        )
    return path


def _rows_of_images(landmarks: Landmarks, keys: set[str]) -> dict[str, list[int]]:
    """Return the rows of each image by its key; an LMDB's own file has keys for names."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(landmarks.names):
        key = name if name in keys else key_of(name)
        rows.setdefault(key, []).append(row)
    return rows


def _read_face(landmarks: Landmarks, row: int, key: str) -> Face:
    points = landmarks.points[row].astype(np.float32)
    if landmarks.visible is not None:
        points[~landmarks.visible[row]] = np.nan
    name = key if landmarks.face is None else f"{key}_{landmarks.face[row]:02d}"
    if landmarks.boxes is not None:
        return Face(key, name, points, landmarks.boxes[row].astype(np.float32))
    known = points[np.isfinite(points).all(-1)]
    box = np.concatenate([known.min(0), known.max(0)]) if len(known) else np.zeros(4, np.float32)
    return Face(key, name, points, box)
