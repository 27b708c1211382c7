"""What the data sets of this package share: BasicSR's loader keys, images by key, random draws, threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from facesr_plugin.data.annotations import Landmarks, read_landmarks
from facesr_plugin.data.keys import key_of, read_name_list, select_keys
from facesr_plugin.data.sources import ImageSource, open_source
from facesr_plugin.ops.landmark import flip_permutation


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


class FaceDataset(Dataset):
    """Ground-truth faces by key; a system's data set derives from it.

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
        self._limited = False

    def __len__(self) -> int:
        return len(self.keys)

    def seed_of(self, index: int) -> tuple[int, int, int]:
        """Return (``manual_seed``, epoch, position): what the random draws of a training sample depend on.

        Args:
            index: Plain (epoch 0, its own position), or a ``SampleIndex`` of BasicSR's repaired sampler.
        """
        return self._seed, getattr(index, "epoch", 0), getattr(index, "position", int(index))

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

    def limit_threads(self) -> None:
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
