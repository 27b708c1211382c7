"""Ground-truth faces with their published small input, from an LMDB or a folder.

Source: the released data sets of SPARNet (Pillow bicubic on 8-bit RGB) and Progressive FSR (Pillow bilinear, by
halves), as the system's card says. SPARNet's randomness depended on the worker; here every random draw depends on
(``manual_seed``, epoch, position) alone, so a run that continues sees the same samples. The network's input is made
from ``lq`` later, by the system's card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from facesr_plugin.cards import get_card
from facesr_plugin.data import transforms
from facesr_plugin.data.base import FaceDataset, FaceOptions, to_tensor
from facesr_plugin.data.sources import ImageSource, open_source
from facesr_plugin.registry import DATASET_REGISTRY
from facesr_plugin.utils.options import parse_section


@dataclass(frozen=True, kw_only=True)
class FaceSROptions(FaceOptions):
    """Options of ``FaceSRDataset`` beside those of ``FaceOptions``.

    Only the phase ``train`` draws random numbers; ``scale`` is the card's by default.

    Args:
        type: ``FaceSRDataset``.
        dataroot_lq: Given small inputs under the same keys; by default they are made from the ground truth.
        use_hflip: Mirror half of the training samples.
        zoom: Of the training samples: ``official`` or ``corrected`` (see ``transforms``); none by default.
        zoom_range: Of the enlargement.
        landmarks: Landmark file to deliver points from; every image must be in it.
    """

    type: Literal["FaceSRDataset"]
    dataroot_lq: str | None = None
    use_hflip: bool = False
    zoom: Literal["official", "corrected"] | None = None
    zoom_range: tuple[float, float] = (1.0, 1.3)
    landmarks: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1.0 <= self.zoom_range[0] <= self.zoom_range[1]:
            raise ValueError(f"zoom_range must be [low, high] with 1 <= low <= high, got {list(self.zoom_range)}")
        if self.zoom is not None and self.dataroot_lq is not None:
            raise ValueError("zoom must be unset with dataroot_lq: given inputs cannot follow it. Remove one of them.")


class Draw(NamedTuple):
    """Random values of one sample."""

    flip: bool = False
    zoom: transforms.ZoomDraw | None = None


@DATASET_REGISTRY.register()
class FaceSRDataset(FaceDataset):
    """Pairs of small input and ground truth.

    A sample is ``{"lq", "gt", "lq_path", "gt_path"}`` and, with landmark file, ``"landmarks"``: ``lq`` is
    ``(3, h, w)`` and ``gt`` ``(3, H, W)`` float32 RGB in [0, 1] (bytes / 255), ``landmarks`` ``(K, 2)``
    float32 (x, y) in pixels of ``gt``, pixel centres at integers.

    Args:
        opt: Section of the option file; see ``FaceSROptions``.

    Raises:
        FileNotFoundError: If an LMDB, folder, list or landmark file is missing.
        TypeError: If an option has the wrong type.
        ValueError: If an option is unknown or wrong, or images, lists and landmarks do not fit together.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.options = parse_section(FaceSROptions, opt, f"datasets.{opt.get('phase', 'val')}")
        super().__init__(opt, self.options)
        card = get_card(self.options.system)
        self.scale = card.scale if self.options.scale is None else self.options.scale
        self.gt_size = card.gt_size if self.options.gt_size is None else self.options.gt_size
        if self.gt_size % self.scale:
            raise ValueError(f"gt_size must be a multiple of scale {self.scale}, got {self.gt_size}")
        self._reduction = card.reduction
        self._reduction.factors(self.scale)  # refuses a scale that the card cannot have, before the first sample
        self._check_known_sizes()
        self.lq_source = self._open_lq()
        path = self.options.landmarks
        self._points = None if path is None else self.read_points(path, mirrored=self.options.use_hflip)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample.

        Args:
            index: Plain, or a ``SampleIndex`` whose epoch and position decide the random draws.

        Raises:
            ValueError: If an image is damaged or has the wrong size.
        """
        self.limit_threads()
        key = self.keys[index]
        draw = self._draw(index)
        gt = self._read_gt(key)
        points = None if self._points is None else self._points[key]
        lq = None if self.lq_source is None else self._read_lq(key)
        gt, lq, points = self._augment(gt, lq, points, draw)
        if lq is None:
            lq = transforms.make_lq(gt, self.scale, self._reduction)
        source = self.lq_source or self.gt_source
        sample = {
            "lq": to_tensor(lq),
            "gt": to_tensor(gt),
            "lq_path": source.path(key),
            "gt_path": self.gt_source.path(key),
        }
        return sample if points is None else {**sample, "landmarks": torch.from_numpy(points)}

    def _augment(
        self, gt: np.ndarray, lq: np.ndarray | None, points: np.ndarray | None, draw: Draw
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Apply the drawn values in the published order: mirror, then zoom."""
        if draw.flip:
            gt = transforms.hflip(gt)
            lq = None if lq is None else transforms.hflip(lq)
            points = None if points is None else transforms.hflip_landmarks(points, self.gt_size)
        if draw.zoom is not None:
            mode = self.options.zoom
            points = None if points is None else transforms.zoom_landmarks(points, gt.shape[:2], draw.zoom, mode)
            gt = transforms.zoom(gt, draw.zoom, mode)
        return gt, lq, points

    def _draw(self, index: int) -> Draw:
        if self.options.phase != "train":
            return Draw()
        rng = np.random.default_rng(self.seed_of(index))
        flip = bool(rng.random() < 0.5)  # drawn whether used or not: one option does not move the values of another
        size = (self.gt_size, self.gt_size)
        mode = self.options.zoom
        zoom = None if mode is None else transforms.draw_zoom(rng, size, mode, self.options.zoom_range)
        return Draw(flip and self.options.use_hflip, zoom)

    def _read_gt(self, key: str) -> np.ndarray:
        gt = self.gt_source.read(key)
        if gt.shape[:2] != (self.gt_size, self.gt_size):
            raise ValueError(self._wrong_size(key, gt.shape[:2]))
        return gt

    def _read_lq(self, key: str) -> np.ndarray:
        lq, side = self.lq_source.read(key), self.gt_size // self.scale
        if lq.shape[:2] != (side, side):
            raise ValueError(
                f"lq image {key!r} of {self.options.dataroot_lq} must be {side}x{side} "
                f"(gt_size {self.gt_size} / scale {self.scale}), got {lq.shape[0]}x{lq.shape[1]}"
            )
        return lq

    def _wrong_size(self, key: str, size: tuple[int, int]) -> str:
        return (
            f"gt image {key!r} of {self.options.dataroot_gt} must be {self.gt_size}x{self.gt_size}, got "
            f"{size[0]}x{size[1]}. Make the faces that size: facesr prepare faces IN --out X.lmdb --size {self.gt_size}"
        )

    def _check_known_sizes(self) -> None:
        shapes = self.gt_source.shapes()
        for key in self.keys:
            if shapes.get(key, (self.gt_size, self.gt_size)) != (self.gt_size, self.gt_size):
                raise ValueError(self._wrong_size(key, shapes[key]))

    def _open_lq(self) -> ImageSource | None:
        if self.options.dataroot_lq is None:
            return None
        source = open_source(self.options.dataroot_lq, self.options.io_backend)
        missing = sorted(set(self.keys) - set(source.keys))
        if missing:
            raise ValueError(
                f"{self.options.dataroot_lq} lacks {len(missing)} images of {self.options.dataroot_gt}: "
                f"{', '.join(missing[:3])}. Every gt image needs its lq image under the same name."
            )
        return source
