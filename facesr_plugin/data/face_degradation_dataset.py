"""High-quality faces, and the same faces degraded at random and enlarged again: SPARNetHD's training data.

Source: SPARNetHD's released data set (spec 4.2): Pillow bicubic to 512x512, grey with probability 0.3, then blur,
downsampling, noise and JPEG on 8-bit RGB, and back to 512x512. Differs from it in the random numbers (the released
code repeats the same ones in every worker and epoch): here they depend on (``manual_seed``, epoch, position) in
training and on the image's name in validation, so a validation image is degraded the same way every time.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from facesr_plugin.cards import get_card
from facesr_plugin.data import transforms
from facesr_plugin.data.base import FaceDataset, FaceOptions, to_tensor
from facesr_plugin.data.degradation import Degradation, Operation, degrade, draw_operations, parse_degradations
from facesr_plugin.ops.degradation import to_grey
from facesr_plugin.registry import DATASET_REGISTRY
from facesr_plugin.utils.options import parse_section


@dataclass(frozen=True, kw_only=True)
class FaceDegradationOptions(FaceOptions):
    """Options of ``FaceDegradationDataset`` beside those of ``FaceOptions``.

    ``scale`` must be 1. Outside of the phase ``train``, ``manual_seed`` has no effect.

    Args:
        type: ``FaceDegradationDataset``.
        degradations: What happens to ``lq``, in order; see ``data/degradation.py``.
        grey_prob: How often a sample is made grey, ``gt`` and ``lq``.
        validation_seed: Of the random draws outside of the phase ``train``.
        degrade_on: ``worker``: the sample has ``lq``; ``device``: the model makes it, in batch (phase ``train`` only).
    """

    type: Literal["FaceDegradationDataset"]
    degradations: tuple[dict, ...]
    system: str = "sparnethd"
    grey_prob: float = 0.3
    validation_seed: int = 0
    degrade_on: Literal["worker", "device"] = "worker"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale not in (None, 1):
            raise ValueError(f"scale must be 1: lq is as large as gt, got {self.scale}. Set it at the top of the file.")
        if self.degrade_on == "device" and self.phase != "train":
            raise ValueError(f"degrade_on must be worker in the phase {self.phase}, got device. Remove it there.")
        if not 0 <= self.grey_prob <= 1:
            raise ValueError(f"grey_prob must be from 0 to 1, got {self.grey_prob}")


class Draw(NamedTuple):
    """Random values of one sample."""

    grey: bool
    operations: list[Operation]


def draw_sample(seed: Sequence[int], grey_prob: float, degradations: Sequence[Degradation]) -> Draw:
    """Draw what happens to one sample from its seed, in a worker or on the training device alike."""
    rng = np.random.default_rng(tuple(seed))
    grey = bool(rng.random() < grey_prob)
    return Draw(grey, draw_operations(degradations, rng))


@DATASET_REGISTRY.register()
class FaceDegradationDataset(FaceDataset):
    """Pairs of degraded and original face, both of the card's ``gt_size``.

    A sample is ``{"lq", "gt", "lq_path", "gt_path"}``: ``lq`` and ``gt`` are ``(3, H, H)`` float32 RGB in [0, 1]
    (bytes / 255). With ``degrade_on: device`` it has ``"degradation_seed"``, ``(3)`` int64, instead of ``lq``.

    Args:
        opt: Section of the option file; see ``FaceDegradationOptions``.

    Raises:
        FileNotFoundError: If the LMDB, the folder or the list is missing.
        TypeError: If an option has the wrong type.
        ValueError: If an option is unknown or wrong, or images and list do not fit together.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        where = f"datasets.{opt.get('phase', 'val')}"
        self.options = parse_section(FaceDegradationOptions, opt, where)
        self._degradations = parse_degradations(self.options.degradations, f"{where}.degradations")
        card = get_card(self.options.system)
        self.gt_size = self.options.gt_size or card.gt_size
        super().__init__(opt, self.options)
        shapes = self.gt_source.shapes()
        for key in self.keys:
            if key in shapes:
                self._check_size(key, shapes[key])

    def sample(self, index: int) -> dict[str, Any]:
        """Return the sample of ``index``; arguments and errors as ``__getitem__``."""
        key = self.keys[index]
        seed = self._seed_of_sample(key, index)
        draw = draw_sample(seed, self.options.grey_prob, self._degradations)
        gt = self._read_gt(key)
        gt = to_grey(gt) if draw.grey else gt
        path = self.gt_source.path(key)
        sample = {"gt": to_tensor(gt), "lq_path": path, "gt_path": path}
        if self.options.degrade_on == "device":
            return {**sample, "degradation_seed": torch.tensor(seed, dtype=torch.int64)}
        return {**sample, "lq": to_tensor(degrade(gt, draw.operations))}

    def _seed_of_sample(self, key: str, index: int) -> tuple[int, int, int]:
        if self.options.phase == "train":
            return self.seed_of(index)
        return self.options.validation_seed, 0, zlib.crc32(key.encode())

    def _read_gt(self, key: str) -> np.ndarray:
        gt = self.gt_source.read(key)
        self._check_size(key, gt.shape[:2])
        return transforms.resize(gt, (self.gt_size, self.gt_size))

    def _check_size(self, key: str, size: tuple[int, int]) -> None:
        height, width = size
        if height != width or height < self.gt_size:
            raise ValueError(
                f"gt image {key!r} of {self.options.dataroot_gt} must be square, of {self.gt_size} pixels or more, got "
                f"{width}x{height}. Make such faces: facesr prepare ffhq IN --out X.lmdb --size {self.gt_size}"
            )
