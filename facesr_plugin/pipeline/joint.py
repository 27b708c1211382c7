"""Faces and their landmarks from one network: both in one forward, or the landmarks alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.data.transforms import resize_landmarks
from facesr_plugin.ops.heatmap_targets import decode_centroid
from facesr_plugin.pipeline.restorer import Restorer, fitted_size
from facesr_plugin.utils.imageio import write_png
from facesr_plugin.utils.visualize import draw_points


class Found(NamedTuple):
    """Landmarks of a face: ``points`` (K, 2) float32 (x, y), pixel centres at integers; ``score`` (K), peak heights."""

    points: np.ndarray
    score: np.ndarray


class Restored(NamedTuple):
    """``image`` (H, W, 3) uint8 RGB with the landmarks in its pixels, None of a network that finds none."""

    image: np.ndarray
    landmarks: Found | None = None


def check_landmark_head(restorer: Restorer) -> None:
    """Refuse a network that only restores.

    Raises:
        ValueError: If it is one.
    """
    if not restorer.card.landmark_head:
        raise ValueError(
            f"landmarks must be of a network that finds them beside restoring, such as JASRNet, got one of "
            f"{restorer.card.system}"
        )


def restore_with_landmarks(restorer: Restorer, faces: Sequence[np.ndarray], batch: int = 16) -> list[Restored]:
    """Restore faces and find their landmarks.

    Args:
        restorer: Of a system whose card has ``landmark_head``.
        faces: ``(H, W, 3)`` uint8 RGB, as ``Restorer`` takes them.
        batch: As for ``Restorer``.

    Returns:
        Image and landmarks, in its pixels, of each face.

    Raises:
        TypeError, ValueError: As from ``Restorer``.
        ValueError: If the network has no landmark head.
    """
    check_landmark_head(restorer)
    return restorer.map_fitted(partial(_both, restorer), faces, batch)


def find_landmarks(restorer: Restorer, faces: Sequence[np.ndarray], batch: int = 16) -> list[Found]:
    """Find the landmarks of faces without restoring them, which costs three quarters of both.

    Args:
        restorer: As for ``restore_with_landmarks``.
        faces: As for ``restore_with_landmarks``.
        batch: As for ``restore_with_landmarks``.

    Returns:
        Landmarks of each face, in its own pixels.

    Raises:
        TypeError, ValueError: As from ``restore_with_landmarks``.
    """
    check_landmark_head(restorer)
    found = restorer.map_fitted(partial(_landmarks, restorer), faces, batch)
    return [
        _resized(one, fitted_size(face.shape[:2], restorer.card), face.shape[:2])
        for one, face in zip(found, faces, strict=True)
    ]


def write_found(picture: Path, name: str, restored: Restored) -> None:
    """Draw the landmarks of a face on it, and write them into a landmark file beside the picture.

    Args:
        picture: ``.png`` to write; the landmark file has the same stem.
        name: Of the image, for the landmark file.
        restored: Image and landmarks.

    Raises:
        OSError: If a file cannot be written.
        ValueError: If there are no landmarks, which is so if the image is of another network.
    """
    height, width = restored.image.shape[:2]
    if restored.landmarks is None:
        raise ValueError(
            f"the existing result of {width} x {height} is of another network. Restore it with --overwrite"
        )
    points, score = restored.landmarks
    inside = ((points >= -0.5) & (points <= [width - 0.5, height - 0.5])).all(-1)
    size = np.array([[height, width]])
    landmarks = Landmarks((name,), points[None], inside[None], score=score.mean(keepdims=True), image_size=size)
    write_png(picture, draw_points(restored.image, points))
    write_landmarks(picture.with_suffix(".json"), landmarks)


def _both(restorer: Restorer, fitted: np.ndarray) -> list[Restored]:
    heatmaps = []

    def network(images: Tensor) -> Tensor:
        output = restorer.network(images, **restorer.call, heads="both")
        heatmaps.append(output.heatmaps[-1])
        return output.sr

    images = restorer.restore_fitted(fitted, network)
    size = fitted.shape[1:3]
    found = [_resized(one, size, image.shape[:2]) for one, image in zip(_read(heatmaps[0], size), images, strict=True)]
    return [Restored(*pair) for pair in zip(images, found, strict=True)]


def _landmarks(restorer: Restorer, fitted: np.ndarray) -> list[Found]:
    def network(images: Tensor) -> Tensor:
        return restorer.network(images, **restorer.call, heads="landmarks")[-1]

    return _read(restorer.run_fitted(fitted, network), fitted.shape[1:3])


@torch.inference_mode()
def _read(heatmaps: Tensor, size: tuple[int, int]) -> list[Found]:
    """Read the points off ``(N, K + 1, h, w)``, the last of which is the background, in pixels of ``size``."""
    peaks = decode_centroid(heatmaps[:, :-1].float(), stride=size[0] // heatmaps.shape[2])
    return [Found(*pair) for pair in zip(peaks.points.cpu().numpy(), peaks.score.cpu().numpy(), strict=True)]


def _resized(found: Found, source: tuple[int, int], target: tuple[int, int]) -> Found:
    return found if source == target else found._replace(points=resize_landmarks(found.points, source, target))
