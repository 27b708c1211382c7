"""The frozen network that finds landmarks for losses (Progressive FSR, BMVC 2019, section 3).

It runs with its own statistics (``mode: eval``). In the released program it ran with those of each batch, since the
file was saved in training mode and nobody switched it: ``mode: train``, for restored and real images apart.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from facesr_plugin.checkpoints import build_network, load_weights
from facesr_plugin.utils.weights import resolve_weights

MODES = ("eval", "train")
_ARCH = "CompressedFAN"


class HeatmapPair(NamedTuple):
    """Heatmaps ``(N, K, H, W)`` as the network gives them, of the restored images and, without graph, of the real."""

    sr: Tensor
    gt: Tensor


class FrozenAligner(nn.Module):
    """A landmark network that never learns, nor changes its mode with the module around it.

    Args:
        net: Maps ``(N, 3, H, W)`` RGB in [0, 1] to heatmaps ``(N, K, H, W)``.
        mode: ``eval``, or ``train`` for the statistics of each batch, as released.

    Raises:
        ValueError: If ``mode`` is another one.
    """

    def __init__(self, net: nn.Module, mode: str = "eval") -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        self.mode = mode
        self.net = net.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> FrozenAligner:
        """Leave the mode as it was chosen."""
        return super().train(self.mode == "train")

    def forward(self, images: Tensor) -> Tensor:
        """Return the heatmaps ``(N, K, H, W)`` of images ``(N, 3, H, W)`` RGB in [-1, 1]."""
        return self.net(images * 0.5 + 0.5)

    def pair(self, sr: Tensor, gt: Tensor) -> HeatmapPair:
        """Return the heatmaps of both; arguments as for ``forward``, of one shape; ``gt`` gets no gradient."""
        check_images(sr, gt)
        return HeatmapPair(self(sr), self.target(gt))

    @torch.no_grad()
    def target(self, gt: Tensor) -> Tensor:
        """Return the heatmaps of real images without graph."""
        return self(gt)


_LOADED: WeakValueDictionary[tuple, FrozenAligner] = WeakValueDictionary()


def load_aligner(weights: str | os.PathLike | None = None, mode: str = "eval") -> FrozenAligner:
    """Read a compressed FAN; as long as one of the same file and mode is in use, it is that one.

    Args:
        weights: The file: the authors', one that ``facesr convert`` or a distillation wrote; None to look for the
            authors' as ``facesr weights list`` shows.
        mode: As of ``FrozenAligner``.

    Raises:
        FileNotFoundError: If there is no such file; the message says where to get the authors'.
        ValueError: If ``mode`` is unknown, or the file has another hash than the authors'.
        UnsupportedCheckpointError: If the file cannot be read or holds another network.
    """
    path = Path(resolve_weights("compressed_fan", weights)).resolve()
    stat = path.stat()
    key = (path, stat.st_mtime_ns, stat.st_size, mode)
    aligner = _LOADED.get(key)
    if aligner is None:
        aligner = _LOADED[key] = FrozenAligner(build_network(load_weights(path), _ARCH), mode)
    return aligner


def check_images(sr: Tensor, gt: Tensor) -> None:
    """Raise ``ValueError`` unless both are ``(N, 3, H, W)`` of one shape."""
    if sr.dim() != 4 or sr.shape[1] != 3 or sr.shape != gt.shape:
        raise ValueError(f"sr and gt must have one shape (N, 3, H, W), got {tuple(sr.shape)} and {tuple(gt.shape)}")


def check_maps(name: str, heatmaps: Tensor, images: Tensor) -> None:
    """Raise ``ValueError`` unless there are heatmaps ``(N, K, H, W)`` of the images' number and size."""
    if heatmaps.dim() != 4 or len(heatmaps) != len(images) or heatmaps.shape[2:] != images.shape[2:]:
        size = f"({len(images)}, K, {images.shape[2]}, {images.shape[3]})"
        raise ValueError(f"{name} must have shape {size} as the images, got {tuple(heatmaps.shape)}")
