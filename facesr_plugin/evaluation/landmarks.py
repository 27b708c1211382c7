"""Landmarks of the faces of an evaluation: from landmark files, or found in aligned faces by a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import numpy as np
import torch

from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.data.keys import key_of
from facesr_plugin.pipeline.landmark_heads import HEADS
from facesr_plugin.pipeline.landmarker import Landmarker, LandmarkFace
from facesr_plugin.utils.weights import MissingWeightsError

MISSING_HEAD = (MissingWeightsError, ImportError, URLError)  # the last: face-alignment downloads its weights itself
TRUE_KEYS, FOUND_KEYS = frozenset({"landmarks", "reference"}), frozenset({"points"})


class Picture(NamedTuple):
    """An image and its file: ``(H, W, 3)`` uint8 RGB, None if only the file is known."""

    path: Path
    image: np.ndarray | None


class LandmarkFile:
    """Landmarks by the names of images.

    Args:
        path: ``.json`` or ``.npz``, one face per image.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or has several faces of an image.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self._name = Path(path).name
        self._landmarks = read_landmarks(path)
        self._rows = self._landmarks.rows_by_key()

    @property
    def num_points(self) -> int:
        """Points of a face."""
        return self._landmarks.num_points

    def look_up(self, picture: Picture) -> dict[str, np.ndarray] | str:
        """Return ``points`` (K, 2), and if known ``visible``, ``boxes`` and ``image_size``; or why there are none."""
        row = self._rows.get(key_of(picture.path.name))
        if row is None:
            return f"{self._name} has no landmarks of it"
        names = ("points", "visible", "boxes", "image_size")
        found = {name: getattr(self._landmarks, name) for name in names}
        found = {name: values[row] for name, values in found.items() if values is not None}
        size = found.get("image_size")
        if size is not None and picture.image is not None and tuple(size) != picture.image.shape[:2]:
            height, width = picture.image.shape[:2]
            return f"{self._name} has landmarks of {size[1]} x {size[0]} pixels, the image has {width} x {height}"
        return found


@dataclass(frozen=True)
class LandmarkSource:
    """Where landmarks come from.

    Args:
        truth: File of the true ones; None: found in the ground truth.
        found: Files of those of the restored faces, by result; where there is none, they are found.
        find: Maps pictures ``(H, W, 3)`` uint8 RGB to their faces or a reason, such as a ``Landmarker``; None: files
            alone count.

    Raises:
        ValueError: If the files differ in the number of points.
    """

    truth: LandmarkFile | None = None
    found: Mapping[str, LandmarkFile] = field(default_factory=dict)
    find: Callable[[Sequence[np.ndarray]], list[list[LandmarkFace] | str]] | None = None

    def __post_init__(self) -> None:
        for file in self.found.values():
            self._check(file.num_points)

    def look_up_true(self, pictures: Sequence[Picture]) -> list[dict[str, np.ndarray] | str]:
        """Return for each face the arrays of its truth (see ``metrics.building``), or why there are none."""
        if self.truth is not None:
            return [_true_arrays(self.truth.look_up(picture)) for picture in pictures]
        sizes = [np.array(picture.image.shape[:2]) for picture in pictures]
        return [
            found if isinstance(found, str) else _true_arrays({"points": found, "image_size": size})
            for found, size in zip(self._find(pictures), sizes, strict=True)
        ]

    def look_up_found(self, result: str, pictures: Sequence[Picture]) -> list[np.ndarray | str]:
        """Return the points ``(K, 2)`` of each restored face, or why there are none.

        Raises:
            ValueError: If the network has other points than the file of the truth.
        """
        if result in self.found:
            rows = [self.found[result].look_up(picture) for picture in pictures]
            return [row if isinstance(row, str) else row["points"] for row in rows]
        return self._find(pictures)

    def _find(self, pictures: Sequence[Picture]) -> list[np.ndarray | str]:
        found = [
            faces if isinstance(faces, str) else faces[0].points
            for faces in self.find([picture.image for picture in pictures])
        ]
        for points in found:
            if not isinstance(points, str):
                self._check(len(points))
        return found

    def _check(self, num_points: int) -> None:
        if self.truth is not None and num_points != self.truth.num_points:
            raise ValueError(
                f"landmarks of restored faces must have {self.truth.num_points} points as the true ones, got "
                f"{num_points}. Use another model or file."
            )


def load_finder(model: str, weights: str | os.PathLike | None, device: torch.device) -> Landmarker:
    """Return what finds the landmarks of aligned faces.

    Args:
        model: Key of ``HEADS``.
        weights: Its file; None to look for it.
        device: Where it runs.

    Raises:
        FileNotFoundError: If ``weights`` does not exist.
        ImportError: If the library that it needs is not installed.
        MissingWeightsError: If the weights are nowhere.
        ValueError: If the file holds something else, or must be named.
    """
    kind = HEADS[model]
    head = kind.load(weights, device)
    return Landmarker(head, head.framing or kind.framing)


def _true_arrays(found: dict[str, Any] | str) -> dict[str, np.ndarray] | str:
    """Under the names for metrics of landmarks and for those of images."""
    if isinstance(found, str):
        return found
    boxes = {"box": found["boxes"]} if "boxes" in found else {}
    rest = {key: value for key, value in found.items() if key != "points"}
    return {"landmarks": found["points"], "reference": found["points"], **boxes, **rest}
