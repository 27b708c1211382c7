"""What models that learn from landmarks ask of the option file and of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def find_wrong_sigma(train: Mapping[str, Any], unit: str) -> Iterator[str]:
    """Say that ``train.sigma`` is there and no positive number.

    Args:
        train: Section of the option file.
        unit: What it counts, for the message.
    """
    sigma = train.get("sigma", 1)
    if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 < sigma < math.inf:
        yield f"train.sigma must be a positive number of {unit}, got {sigma!r}"


def find_missing_landmarks(options: dict[str, Any], loss: str) -> Iterator[str]:
    """Say that the training data have no landmarks.

    Args:
        options: Of a training.
        loss: Section of ``train`` that needs them.
    """
    section = (options.get("datasets") or {}).get("train") or {}
    if section.get("type") == "FaceSRDataset" and not section.get("landmarks"):
        yield (
            f"datasets.train.landmarks must name the landmark file of the faces for train.{loss}, got none. "
            "`facesr prepare faces --landmarks` writes landmarks.npz into the LMDB."
        )


def check_landmarks(landmarks: Tensor | None, number: int) -> Tensor:
    """Return the landmarks of a batch.

    Args:
        landmarks: ``(N, K, 2)`` or None.
        number: K that the network has heatmaps for.

    Raises:
        ValueError: If there are none, or of another number of points.
    """
    if landmarks is None:
        raise ValueError(
            "a batch must have landmarks for the heatmaps to learn, got none. Name their file in "
            "datasets.train.landmarks."
        )
    if landmarks.shape[1] != number:
        raise ValueError(
            f"landmarks must have {number} points as the network has heatmaps, got {landmarks.shape[1]}. "
            f"Set network_g.num_landmarks: {landmarks.shape[1]}, or use another landmark file."
        )
    return landmarks
