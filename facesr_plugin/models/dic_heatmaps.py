"""Heatmaps that DIC's landmark branch should give (CVPR 2020), and the landmarks that it gives, both on the device.

Pixel p of an image is place p / stride of a heatmap, as published: the centres of the first pixels fall together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from facesr_plugin.ops.heatmap import decode_subpixel, render_gaussian


def check_sigma(train: Mapping[str, Any]) -> None:
    """Check ``train.sigma``.

    Raises:
        ValueError: If it is no positive number.
    """
    sigma = train.get("sigma", 1.0)
    if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 < sigma < math.inf:
        raise ValueError(f"train.sigma must be a positive number of heatmap pixels, got {sigma!r}")


def make_targets(landmarks: Tensor | None, images: Tensor, heatmaps: Tensor, sigma: float) -> Tensor:
    """Draw a Gaussian of height 1 about each landmark, in the size of the heatmaps.

    Args:
        landmarks: ``(N, K, 2)``, (x, y) in pixels of ``images``, pixel centres at integers; NaN for an unknown point.
        images: ``(N, 3, stride * H, stride * W)``.
        heatmaps: ``(N, K, H, W)`` that the network gave.
        sigma: Of the Gaussians, in heatmap pixels.

    Returns:
        ``(N, K, H, W)`` float32 in [0, 1], within 1e-7 of exact ones; 0 for an unknown point.

    Raises:
        ValueError: If there are no landmarks, or as many as the network does not have.
    """
    num_landmarks, height, width = heatmaps.shape[1:]
    if landmarks is None:
        raise ValueError(
            "a batch must have landmarks for the heatmaps to learn, got none. Name their file in "
            "datasets.train.landmarks."
        )
    if landmarks.shape[1] != num_landmarks:
        raise ValueError(
            f"landmarks must have {num_landmarks} points as the network has heatmaps, got {landmarks.shape[1]}. "
            f"Set network_g.num_landmarks: {landmarks.shape[1]}, or use another landmark file."
        )
    return render_gaussian(landmarks.to(torch.float32) / _stride(images, heatmaps), (height, width), sigma)


def find_landmarks(heatmaps: Tensor, images: Tensor) -> Tensor:
    """Return the landmarks that heatmaps show.

    Args:
        heatmaps: ``(N, K, H, W)``.
        images: ``(N, 3, stride * H, stride * W)``.

    Returns:
        ``(N, K, 2)`` float32, (x, y) in pixels of ``images``, pixel centres at integers, to a quarter of the stride.
    """
    return decode_subpixel(heatmaps.float()) * _stride(images, heatmaps)


def _stride(images: Tensor, heatmaps: Tensor) -> float:
    return images.shape[-1] / heatmaps.shape[-1]
