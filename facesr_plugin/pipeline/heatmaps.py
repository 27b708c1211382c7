"""Landmarks of aligned faces with their heatmaps, by a compressed FAN."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import torch

from facesr_plugin.data.transforms import resize, resize_landmarks
from facesr_plugin.losses.alignment import load_aligner
from facesr_plugin.ops.heatmap import decode_subpixel
from facesr_plugin.pipeline.compute import resolve_device, run_network


class FoundHeatmaps(NamedTuple):
    """``heatmaps`` (K, h, w) of a face, and its ``points`` (K, 2) (x, y) in its pixels, pixel centres at integers."""

    heatmaps: np.ndarray
    points: np.ndarray


class HeatmapFinder:
    """Finds the landmarks of aligned faces, one after the other.

    Args:
        weights: File of a ``CompressedFAN``: the authors', or one of ours; None to look for the authors' as ``facesr
            weights list`` shows.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        side: The shorter side gets this many pixels before the network, which knows faces of one scale only: 64 for
            faces framed as CelebA's, and for a network distilled from whole faces of 64 pixels.

    Raises:
        FileNotFoundError: If there is no such file; the message says where to get the authors'.
        ValueError: If the file holds another network, or the device cannot be had.
    """

    def __init__(self, weights: str | os.PathLike | None = None, device: str = "auto", side: int = 64) -> None:
        self.side = side
        self.device = resolve_device(device)
        self.network = load_aligner(weights).to(self.device)

    def __call__(self, face: np.ndarray) -> FoundHeatmaps:
        """Find the landmarks of ``(H, W, 3)`` uint8 RGB."""
        height, width = face.shape[:2]
        size = (round(height * self.side / min(height, width)), round(width * self.side / min(height, width)))
        small = torch.from_numpy(resize(face, size, "bilinear").copy()).to(self.device)
        images = small.permute(2, 0, 1).unsqueeze(0) / 127.5 - 1
        heatmaps = run_network(self.network, images, "fp32", f"--fan-side {self.side}").cpu()
        points = decode_subpixel(heatmaps)[0].numpy()
        return FoundHeatmaps(heatmaps[0].numpy(), resize_landmarks(points, size, (height, width)))
