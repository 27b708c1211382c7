"""Ground-truth faces with their published small input, from an LMDB or a folder.

Source: the released data sets of SPARNet and DIC (Pillow bicubic on 8-bit RGB) and Progressive FSR (Pillow bilinear,
by halves), as the system's card says. The randomness of SPARNet and DIC depended on the worker; here every random draw
depends on (``manual_seed``, epoch, position) alone, so a run that continues sees the same samples. The network's input
is made from ``lq`` later, by the system's card.
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
        any_size: The stored faces are squares of any size, brought to ``gt_size`` with their points (Pillow bicubic).
        use_hflip: Mirror half of the training samples.
        flip_points: How the 68 points of a mirrored face are numbered: ``correct``, or ``released`` as DIC's program
            does, which leaves each eye its points.
        use_rot: Turn three quarters of the training samples by 90, 180 or 270 degrees.
        distort: Smallest and largest height-to-width ratio of the part of a training sample that is stretched to the
            square (DIC: 0.66 and 1.33); needs ``landmarks``, whose extent stays inside.
        zoom: Of the training samples: ``official`` or ``corrected`` (see ``transforms``); none by default.
        zoom_range: Of the enlargement.
        landmarks: Landmark file to deliver points from; every image must be in it.
    """

    type: Literal["FaceSRDataset"]
    dataroot_lq: str | None = None
    any_size: bool = False
    use_hflip: bool = False
    flip_points: Literal["correct", "released"] = "correct"
    use_rot: bool = False
    distort: tuple[float, float] | None = None
    zoom: Literal["official", "corrected"] | None = None
    zoom_range: tuple[float, float] = (1.0, 1.3)
    landmarks: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1.0 <= self.zoom_range[0] <= self.zoom_range[1]:
            raise ValueError(f"zoom_range must be [low, high] with 1 <= low <= high, got {list(self.zoom_range)}")
        if self.distort is not None and not 0 < self.distort[0] <= self.distort[1]:
            raise ValueError(f"distort must be [low, high] with 0 < low <= high, got {list(self.distort)}")
        if self.distort is not None and self.landmarks is None:
            raise ValueError("distort must have landmarks, whose extent it keeps. Set landmarks, or remove distort.")
        if self.flip_points == "released" and (self.landmarks is None or not self.use_hflip):
            raise ValueError("flip_points must be correct without landmarks and use_hflip, got released")
        for name in ("zoom", "distort"):
            if getattr(self, name) is not None and self.dataroot_lq is not None:
                raise ValueError(
                    f"{name} must be unset with dataroot_lq: given inputs cannot follow it. Remove one of them."
                )


class Draw(NamedTuple):
    """Random values of one sample."""

    flip: bool = False
    zoom: transforms.ZoomDraw | None = None
    turns: int = 0
    ratio: float = 1.0


class Sample(NamedTuple):
    """A face on its way: ``gt`` and ``lq`` ``(h, w, 3)`` uint8 RGB, ``points`` ``(K, 2)`` in pixels of ``gt``."""

    gt: np.ndarray
    lq: np.ndarray | None
    points: np.ndarray | None


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
        self._released_flip = self.options.flip_points == "released"
        self._points = None
        if path is not None:
            self._points = self.read_points(path, mirrored=self.options.use_hflip, released=self._released_flip)

    def sample(self, index: int) -> dict[str, Any]:
        """Return the sample of ``index``; arguments and errors as ``__getitem__``."""
        key = self.keys[index]
        draw = self._draw(index)
        gt, lq, points = self._augment(self._cut(self._read(key), draw), draw)
        source = self.lq_source or self.gt_source
        sample = {
            "lq": to_tensor(lq),
            "gt": to_tensor(gt),
            "lq_path": source.path(key),
            "gt_path": self.gt_source.path(key),
        }
        return sample if points is None else {**sample, "landmarks": torch.from_numpy(points)}

    def _read(self, key: str) -> Sample:
        lq = None if self.lq_source is None else self._read_lq(key)
        return Sample(self._read_gt(key), lq, None if self._points is None else self._points[key])

    def _cut(self, sample: Sample, draw: Draw) -> Sample:
        """Bring a stored face to ``gt_size``, with the aspect that was drawn."""
        gt, points = sample.gt, sample.points
        side = len(gt)
        patch = transforms.Patch(0, 0, side, side)
        if draw.ratio != 1:
            patch = transforms.distortion_patch(points, side, draw.ratio)
        elif side == self.gt_size:
            return sample
        if points is not None:
            points = transforms.cut_patch_landmarks(points, patch, self.gt_size)
        return Sample(transforms.cut_patch(gt, patch, self.gt_size), sample.lq, points)

    def _augment(self, sample: Sample, draw: Draw) -> Sample:
        """Apply the drawn values in the published order, mirror and zoom before the reduction, and turns after it."""
        gt, lq, points = sample
        if draw.flip:
            gt = transforms.hflip(gt)
            lq = None if lq is None else transforms.hflip(lq)
            points = None if points is None else transforms.hflip_landmarks(points, self.gt_size, self._released_flip)
        if draw.zoom is not None:
            mode = self.options.zoom
            points = None if points is None else transforms.zoom_landmarks(points, gt.shape[:2], draw.zoom, mode)
            gt = transforms.zoom(gt, draw.zoom, mode)
        if lq is None:
            lq = transforms.make_lq(gt, self.scale, self._reduction)
        if draw.turns:
            gt, lq = (transforms.turn(image, draw.turns) for image in (gt, lq))
            points = None if points is None else transforms.turn_landmarks(points, self.gt_size, draw.turns)
        return Sample(gt, lq, points)

    def _draw(self, index: int) -> Draw:
        options = self.options
        if options.phase != "train":
            return Draw()
        rng = np.random.default_rng(self.seed_of(index))
        flip = bool(rng.random() < 0.5)  # drawn whether used or not: one option does not move the values of another
        size = (self.gt_size, self.gt_size)
        zoom = None if options.zoom is None else transforms.draw_zoom(rng, size, options.zoom, options.zoom_range)
        turns = transforms.draw_turns(rng)
        ratio = 1.0 if options.distort is None else float(rng.uniform(*options.distort))
        return Draw(flip and options.use_hflip, zoom, turns if options.use_rot else 0, ratio)

    def _read_gt(self, key: str) -> np.ndarray:
        gt = self.gt_source.read(key)
        if not self._fits(gt.shape[:2]):
            raise ValueError(self._wrong_size(key, gt.shape[:2]))
        return gt

    def _fits(self, size: tuple[int, int]) -> bool:
        return size[0] == size[1] if self.options.any_size else tuple(size) == (self.gt_size, self.gt_size)

    def _read_lq(self, key: str) -> np.ndarray:
        lq, side = self.lq_source.read(key), self.gt_size // self.scale
        if lq.shape[:2] != (side, side):
            raise ValueError(
                f"lq image {key!r} of {self.options.dataroot_lq} must be {side}x{side} "
                f"(gt_size {self.gt_size} / scale {self.scale}), got {lq.shape[0]}x{lq.shape[1]}"
            )
        return lq

    def _wrong_size(self, key: str, size: tuple[int, int]) -> str:
        wanted = "square" if self.options.any_size else f"{self.gt_size}x{self.gt_size}"
        remedy = f"Make the faces that size: facesr prepare faces IN --out X.lmdb --size {self.gt_size}"
        if self.options.any_size:
            remedy = "Make square faces: facesr prepare faces IN --out X.lmdb --size native --crop CROP"
        elif size[0] == size[1]:
            remedy += ", or set any_size: true"
        return f"gt image {key!r} of {self.options.dataroot_gt} must be {wanted}, got {size[0]}x{size[1]}. {remedy}"

    def _check_known_sizes(self) -> None:
        shapes = self.gt_source.shapes()
        wrong = [key for key in self.keys if key in shapes and not self._fits(shapes[key])]
        if wrong:
            raise ValueError(self._wrong_size(wrong[0], shapes[wrong[0]]))

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
