"""Facial attention: pixel differences count more where landmarks are (Progressive FSR, BMVC 2019).

The released program also stretched the maps of a batch once more, by numbers that are always 0 and 1.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from facesr_plugin.losses.alignment import HeatmapPair, check_images, check_maps, load_aligner
from facesr_plugin.ops.heatmap import scale_to_unit
from facesr_plugin.registry import LOSS_REGISTRY


@torch.no_grad()
def attention_map(heatmaps: Tensor) -> Tensor:
    """Return how close each pixel is to a landmark: the largest heatmap there, after all were scaled to [0, 1].

    Args:
        heatmaps: ``(N, K, H, W)`` of real images, any range.

    Returns:
        ``(N, 1, H, W)`` with 1 at the highest peak of each image. The smallest value is above 0 as a rule, and no
        gradient goes through it.
    """
    return scale_to_unit(heatmaps.amax(1, keepdim=True), low=heatmaps.amin((1, 2, 3), keepdim=True))


def attention_weighted_error(sr: Tensor, gt: Tensor, attention: Tensor) -> Tensor:
    """Return the mean over all values of ``attention`` times the absolute difference.

    Args:
        sr: ``(N, C, H, W)``.
        gt: As ``sr``.
        attention: ``(N, 1, H, W)``, the same for all channels.

    Raises:
        ValueError: If ``attention`` has another shape.
    """
    if attention.shape != (len(sr), 1, *sr.shape[2:]):
        raise ValueError(f"attention must have shape {(len(sr), 1, *sr.shape[2:])}, got {tuple(attention.shape)}")
    return (attention * (sr - gt).abs()).mean()


@LOSS_REGISTRY.register()
class FacialAttentionLoss(nn.Module):
    r"""Absolute difference of two images, weighted by the landmark heatmaps of the real one.

    .. math:: L = w \operatorname{mean} (A |sr - gt|), \qquad A = \max_k H'_k(gt)

    with H' the heatmaps of a frozen CompressedFAN at the images' own size, scaled per image, all landmarks together,
    to [0, 1]. Published weights: 500 at 64x64, 50 at 128x128 with faces framed as in CelebA.

    Args:
        loss_weight: w.
        weights: File of the CompressedFAN; None to look for the authors' as ``facesr weights list`` shows.
        mode: ``eval``, or ``train`` to run the network with the statistics of each batch, as released.

    Raises:
        FileNotFoundError: If there is no weight file.
        ValueError: If ``mode`` is unknown or the file has other weights.
    """

    def __init__(
        self, *, loss_weight: float = 1.0, weights: str | os.PathLike | None = None, mode: str = "eval"
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.aligner = load_aligner(weights, mode)

    def forward(self, sr: Tensor, gt: Tensor, heatmaps: HeatmapPair | None = None) -> Tensor:
        """Return the loss.

        Args:
            sr: ``(N, 3, H, W)`` RGB in [-1, 1].
            gt: As ``sr``; gets no gradient.
            heatmaps: What ``self.aligner.pair(sr, gt)`` gave, if another loss with the same ``aligner`` needs it too.

        Raises:
            ValueError: If shapes differ.
        """
        check_images(sr, gt)
        found = self.aligner.target(gt) if heatmaps is None else heatmaps.gt
        check_maps("heatmaps.gt", found, gt)
        return self.loss_weight * attention_weighted_error(sr, gt.detach(), attention_map(found))
