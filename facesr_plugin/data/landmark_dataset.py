"""Faces with their landmarks, for networks that find them.

Source: the distillation program of Progressive FSR (BMVC 2019), which takes the 64x64 image of its chain without
augmentation. The mirror is this project's; it depends on (``manual_seed``, epoch, position) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from facesr_plugin.data import transforms
from facesr_plugin.data.base import FaceDataset, FaceOptions, to_tensor
from facesr_plugin.data.lmdb_store import LANDMARK_FILE
from facesr_plugin.registry import DATASET_REGISTRY
from facesr_plugin.utils.options import parse_section


@dataclass(frozen=True, kw_only=True)
class LandmarkOptions(FaceOptions):
    """Options of ``LandmarkDataset`` beside those of ``FaceOptions``.

    Args:
        type: ``LandmarkDataset``.
        gt_size: Side that the stored faces get (Pillow bilinear), in pixels.
        landmarks: Landmark file; true takes the one in the LMDB or folder of the faces, false delivers none, which
            only training from a teacher can do without.
        use_hflip: Mirror half of the training samples.
    """

    type: Literal["LandmarkDataset"]
    gt_size: int = 64
    landmarks: str | bool = True
    use_hflip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.landmarks is False and self.phase != "train":
            raise ValueError(f"landmarks must not be false in phase {self.phase}, which measures against them.")


@DATASET_REGISTRY.register()
class LandmarkDataset(FaceDataset):
    """Square faces of one size with their landmarks.

    A sample is ``{"lq", "lq_path", "landmarks"}``: ``lq`` is ``(3, S, S)`` float32 RGB in [0, 1] (bytes / 255) with
    S = ``gt_size``, ``landmarks`` ``(K, 2)`` float32 (x, y) in its pixels, pixel centres at integers; absent
    with ``landmarks: false``.

    Args:
        opt: Section of the option file; see ``LandmarkOptions``.

    Raises:
        FileNotFoundError: If an LMDB, folder, list or landmark file is missing.
        TypeError: If an option has the wrong type.
        ValueError: If an option is unknown or wrong, or images, lists and landmarks do not fit together.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.options = parse_section(LandmarkOptions, opt, f"datasets.{opt.get('phase', 'val')}")
        super().__init__(opt, self.options)
        path = _landmark_file(self.options)
        self._points = None if path is None else self.read_points(path, mirrored=self.options.use_hflip)

    def sample(self, index: int) -> dict[str, Any]:
        """Return the sample of ``index``; arguments and errors as ``__getitem__``."""
        key = self.keys[index]
        image = self.gt_source.read(key)
        height, width = image.shape[:2]
        if height != width:
            raise ValueError(f"image {key!r} of {self.options.dataroot_gt} must be square, got {width} x {height}")
        size = (self.options.gt_size, self.options.gt_size)
        flip = self._draw_flip(index)
        face = transforms.resize(image, size, "bilinear")
        face = transforms.hflip(face) if flip else face
        sample = {"lq": to_tensor(face), "lq_path": self.gt_source.path(key)}
        if self._points is None:
            return sample
        points = transforms.resize_landmarks(self._points[key], (height, width), size)
        points = transforms.hflip_landmarks(points, size[1]) if flip else points
        return {**sample, "landmarks": torch.from_numpy(points)}

    def _draw_flip(self, index: int) -> bool:
        if self.options.phase != "train" or not self.options.use_hflip:
            return False
        return bool(np.random.default_rng(self.seed_of(index)).random() < 0.5)


def _landmark_file(options: LandmarkOptions) -> str | None:
    if options.landmarks is not True:
        return options.landmarks or None
    path = Path(options.dataroot_gt) / LANDMARK_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{options.dataroot_gt} has no {LANDMARK_FILE}. Prepare the faces with --landmarks, or name a landmark "
            f"file in datasets.{options.phase}.landmarks."
        )
    return str(path)
