"""What the data sets of this package share: BasicSR's loader keys, images by key, random draws, threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from facesr_plugin.data.annotations import Landmarks, read_landmarks
from facesr_plugin.data.keys import key_of, read_name_list, select_keys
from facesr_plugin.data.sources import BrokenImageError, ImageSource, open_source
from facesr_plugin.ops.landmark import flip_permutation
from facesr_plugin.utils.resume import SampleIndex, place_of

_NAMED = 3  # broken images that one sample or message names


@dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """Options that every data set of faces takes.

    Args:
        dataroot_gt: ``X.lmdb`` or folder of ground-truth faces.
        name: For the log.
        phase: ``train``, ``val`` or ``test``; BasicSR sets it.
        scale: Factor from the small input. BasicSR sets it from the top of the file.
        system: Name of the card.
        io_backend: ``type: lmdb`` or ``type: disk``; it must fit the paths.
        meta_info_file: List of the image names to use (one a line, such as train.txt); all by default.
        gt_size: Side of the faces in pixels, the card's by default.
        manual_seed: Of the random draws.
        on_broken: ``raise``: an image that cannot be read ends the run; ``skip``: the next readable one takes its
            place (phase ``train`` only).
        worker_timeout: Seconds that the loader waits for a batch before the run ends; 0 waits for ever.
        num_worker_per_gpu: For BasicSR's loader, as all that follow.
        batch_size_per_gpu: See BasicSR.
        use_shuffle: See BasicSR.
        dataset_enlarge_ratio: See BasicSR.
        prefetch_mode: See BasicSR.
        num_prefetch_queue: See BasicSR.
        pin_memory: See BasicSR.
        persistent_workers: See BasicSR.
    """

    dataroot_gt: str
    name: str = "faces"
    phase: Literal["train", "val", "test"] = "val"
    scale: int | None = None
    system: str = "sparnet"
    io_backend: dict | None = None
    meta_info_file: str | None = None
    gt_size: int | None = None
    manual_seed: int = 0
    on_broken: Literal["raise", "skip"] = "raise"
    worker_timeout: float = 0.0
    num_worker_per_gpu: int = 0
    batch_size_per_gpu: int = 1
    use_shuffle: bool = True
    dataset_enlarge_ratio: int = 1
    prefetch_mode: str | None = None
    num_prefetch_queue: int = 1
    pin_memory: bool = False
    persistent_workers: bool = False

    def __post_init__(self) -> None:
        for name in ("scale", "gt_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if self.on_broken == "skip" and self.phase != "train":
            raise ValueError(
                f"on_broken must be raise in the phase {self.phase}, got skip: metrics of other faces cannot be "
                "compared. Remove it there."
            )
        if not self.worker_timeout >= 0:
            raise ValueError(f"worker_timeout must be 0 (wait for ever) or more seconds, got {self.worker_timeout}")


class FaceDataset(Dataset, ABC):
    """Ground-truth faces by key; a system's data set derives from it and defines ``sample``.

    With ``on_broken: skip`` a sample also has ``"skipped"``, int, how many broken images it passed over, and
    ``"broken"``, str, what the first of them lack, one a line.

    Args:
        opt: Section of the option file as BasicSR gives it.
        options: The same, checked.

    Attributes:
        keys: Keys of the images in use, in order.

    Raises:
        FileNotFoundError: If the LMDB, the folder or the list is missing.
        ValueError: If they are damaged or do not fit together.
    """

    def __init__(self, opt: dict[str, Any], options: FaceOptions) -> None:
        self.opt = opt  # BasicSR reads the name from it
        self.gt_source = open_source(options.dataroot_gt, options.io_backend)
        self.keys = _select(self.gt_source, options.meta_info_file)
        self._seed = options.manual_seed
        self._where = f"data set {options.name!r} (phase {options.phase})"
        self._skips = options.on_broken == "skip"
        self._limited = False

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample.

        Args:
            index: Plain, or a ``SampleIndex`` whose epoch and position decide the random draws.

        Raises:
            BrokenImageError: If its image is missing, unreadable or damaged, or with ``on_broken: skip`` every one.
            OSError: If the images are out of reach.
            ValueError: If an image has the wrong size.
        """
        self._limit_threads()
        if self._skips:
            return self._first_readable(index)
        try:
            return self.sample(index)
        except BrokenImageError as error:
            raise BrokenImageError(
                f"{self._where}: {error} In training, on_broken: skip goes on without it."
            ) from error

    @abstractmethod
    def sample(self, index: int) -> dict[str, Any]:
        """Return the sample of ``index``; arguments and errors as ``__getitem__``."""

    def _first_readable(self, index: int) -> dict[str, Any]:
        """Return the sample of the first readable image from ``index`` on, with the random draws of ``index``."""
        _, epoch, position = self.seed_of(index)
        broken: list[str] = []
        for row in range(int(index), int(index) + len(self)):
            try:
                sample = self.sample(SampleIndex.make(row % len(self), epoch, position))
            except BrokenImageError as error:
                broken.append(str(error))
                continue
            return {**sample, "skipped": len(broken), "broken": "\n".join(broken[:_NAMED])}
        raise BrokenImageError(
            f"{self._where} must have an image that can be read, got none of {len(self)}: {' '.join(broken[:_NAMED])}"
        )

    def seed_of(self, index: int) -> tuple[int, int, int]:
        """Return (``manual_seed``, epoch, position): what the random draws of a training sample depend on.

        Args:
            index: Plain (epoch 0, its own position), or a ``SampleIndex`` of BasicSR's repaired sampler.
        """
        return self._seed, *place_of(index)

    def read_points(self, path: str, *, mirrored: bool, released: bool = False) -> dict[str, np.ndarray]:
        """Read the points of every image in use.

        Args:
            path: Landmark file.
            mirrored: Whether the points must have a table for their mirrored places.
            released: Whether that has to be DIC's.

        Returns:
            ``(K, 2)`` float32 (x, y) in pixels of the stored image, pixel centres at integers, by key.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it lacks an image, a point is unknown, most points of a face are outside its image, or there
                is no table for K points.
        """
        landmarks = read_landmarks(path)
        if mirrored:
            flip_permutation(landmarks.num_points, released)
        known = landmarks.rows_by_key()
        rows = {key: known.get(key, known.get(key_of(key))) for key in self.keys}  # an LMDB's own file names keys
        missing = [key for key, row in rows.items() if row is None]
        if missing:
            raise ValueError(
                f"landmark file {path} lacks {len(missing)} of {len(self.keys)} images: {', '.join(missing[:3])}. "
                "Use a meta_info_file without them."
            )
        points = landmarks.points[[rows[key] for key in self.keys]]
        _check_points(path, self.keys, points, self.gt_source.shapes())
        return dict(zip(self.keys, points, strict=True))

    def _limit_threads(self) -> None:
        """One thread in each worker process, once: OpenCV would start as many as there are cores in every worker."""
        if not self._limited and get_worker_info() is not None:
            cv2.setNumThreads(0)
            torch.set_num_threads(1)
            self._limited = True


def to_tensor(image: np.ndarray) -> Tensor:
    """Turn ``(H, W, 3)`` uint8 RGB into ``(3, H, W)`` float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(torch.float32).div_(255)


def _check_points(path: str, keys: list[str], points: np.ndarray, shapes: dict[str, tuple[int, int]]) -> None:
    unknown = [key for key, values in zip(keys, points, strict=True) if not np.isfinite(values).all()]
    if unknown:
        raise ValueError(
            f"landmark file {path} must know every point of a face, it does not for {len(unknown)} of {len(keys)} "
            f"images: {', '.join(unknown[:3])}. Use a meta_info_file without them."
        )
    if shapes:
        sizes = np.array([shapes[key] for key in keys])
        try:
            Landmarks(tuple(keys), points, image_size=sizes)
        except ValueError as error:
            raise ValueError(f"landmark file {path}: {error}") from error


def _select(source: ImageSource, path: str | None) -> list[str]:
    return list(source.keys) if path is None else select_keys(read_name_list(path), source.keys, f"list {path}")
