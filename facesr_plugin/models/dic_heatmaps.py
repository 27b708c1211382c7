"""Heatmaps that DIC's landmark branch should give (CVPR 2020), and the landmarks that it gives, both on the device.

Pixel p of an image is place p / stride of a heatmap, as published: the centres of the first pixels fall together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from facesr_plugin.models.landmarks import check_landmarks
from facesr_plugin.models.validation import Result
from facesr_plugin.ops.heatmap import decode_subpixel, render_gaussian


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
    landmarks = check_landmarks(landmarks, num_landmarks)
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


def shows_steps(opt: Mapping[str, Any]) -> bool:
    """Return whether ``val.steps`` of the options wants results of every step."""
    return bool((opt.get("val") or {}).get("steps"))


def results_of_steps(
    images: Sequence[Tensor], heatmaps: Sequence[Tensor], *, every: bool, restored: bool = True
) -> dict[str, Result]:
    """Return the last step's images with the landmarks that its heatmaps show, by name, see ``FaceSRModel``.

    Args:
        images: ``(N, 3, stride * H, stride * W)`` of each step.
        heatmaps: ``(N, K, H, W)`` of each step.
        every: Add those of all steps, named ``step1`` and so on.
        restored: See ``Result``.
    """
    steps = list(zip(images, heatmaps, strict=True))[0 if every else -1 :]
    found = [Result(shown, find_landmarks(maps, shown), restored, maps) for shown, maps in steps]
    named = {f"step{step}": result for step, result in enumerate(found, 1)} if every else {}
    return {"": found[-1], **named}


def _stride(images: Tensor, heatmaps: Tensor) -> float:
    return images.shape[-1] / heatmaps.shape[-1]
