"""What every step of a recurrent network makes of a face: its image, its heatmaps and the landmarks that they show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from facesr_plugin.ops.heatmap import decode_subpixel
from facesr_plugin.ops.protocol import quantise
from facesr_plugin.pipeline.restorer import Restorer


class Step(NamedTuple):
    """Result of one step.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        heatmaps: ``(K, H / stride, W / stride)`` float32.
        points: ``(K, 2)`` float32 (x, y) in pixels of the image, pixel centres at integers.
    """

    image: np.ndarray
    heatmaps: np.ndarray
    points: np.ndarray


def find_steps(restorer: Restorer, face: np.ndarray) -> list[Step]:
    """Restore a face alone and return all steps.

    Args:
        restorer: Of a system whose card has ``every_step``.
        face: ``(H, W, 3)`` uint8 RGB.

    Raises:
        TypeError, ValueError: As from ``Restorer``.
        ValueError: If the network has no steps.
    """
    check_steps(restorer)
    outputs = []

    def network(images: Tensor) -> Tensor:
        outputs.append(restorer.network(images, **restorer.call, every_step=True))
        return outputs[-1].sr[-1]

    restorer.run_fitted(restorer.fit(face)[np.newaxis], network)
    images = [quantise(sr, restorer.card)[0].permute(1, 2, 0).contiguous().cpu().numpy() for sr in outputs[0].sr]
    return [Step(*pair) for pair in zip(images, *_read_heatmaps(outputs[0].heatmaps, images[0]), strict=True)]


def check_steps(restorer: Restorer) -> None:
    """Refuse a network without steps.

    Raises:
        ValueError: If it is one.
    """
    if not restorer.card.every_step:
        raise ValueError(f"steps must be of a network that has them, such as DIC's, got one of {restorer.card.system}")


def _read_heatmaps(steps: list[Tensor], image: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Heatmaps and points of each step; pixel p of the image is p / stride of a heatmap, as in training."""
    heatmaps = [step[0].float().cpu() for step in steps]
    stride = image.shape[0] / heatmaps[0].shape[1]
    points = [decode_subpixel(step.unsqueeze(0))[0] * stride for step in heatmaps]
    return [step.numpy() for step in heatmaps], [step.numpy() for step in points]
