"""Heatmap loss: a frozen network shall find the same landmarks in two images (Progressive FSR, BMVC 2019).

The released program shifts the restored image's heatmaps by the smallest value of the real image's, by a slip of a
variable's name: ``normalisation: official``. Its effect is about 1 % of the loss.
"""

from __future__ import annotations

import os

import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.losses.alignment import HeatmapPair, check_images, check_maps, load_aligner
from facesr_plugin.ops.heatmap import scale_to_unit
from facesr_plugin.registry import LOSS_REGISTRY

NORMALISATIONS = ("corrected", "official")


def heatmap_distance(heatmaps: HeatmapPair, normalisation: str = "corrected") -> Tensor:
    """Return the mean squared difference of the heatmaps, scaled per image, all landmarks together, to [0, 1].

    Args:
        heatmaps: ``sr`` and ``gt`` ``(N, K, H, W)`` of any range; ``gt`` gets no gradient, ``sr`` also through its
            smallest and largest value.
        normalisation: ``corrected``: each by its own smallest and largest value. ``official``: what becomes 0 in
            ``sr`` is the smallest value of ``gt``.
    """
    gt = heatmaps.gt.detach()
    low = gt.amin((1, 2, 3), keepdim=True) if normalisation == "official" else None
    return F.mse_loss(scale_to_unit(heatmaps.sr, low), scale_to_unit(gt))


@LOSS_REGISTRY.register()
class FaceHeatmapLoss(nn.Module):
    r"""Mean squared difference between the landmark heatmaps of two images.

    .. math:: L = w \operatorname{mean} (H'(sr) - H'(gt))^2

    with H' the heatmaps of a frozen CompressedFAN at the images' own size, scaled per image, all landmarks together,
    to [0, 1]. Published weight: 50, at 64x64 and at 128x128, with faces framed as in CelebA.

    Args:
        loss_weight: w.
        weights: File of the CompressedFAN; None to look for the authors' as ``facesr weights list`` shows.
        normalisation: ``corrected``, or ``official`` to shift H(sr) by the smallest value of H(gt), as released.
        mode: ``eval``, or ``train`` to run the network with the statistics of each batch, as released.

    Raises:
        FileNotFoundError: If there is no weight file.
        ValueError: If ``normalisation`` or ``mode`` is unknown, or the file has other weights.
    """

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        weights: str | os.PathLike | None = None,
        normalisation: str = "corrected",
        mode: str = "eval",
    ) -> None:
        super().__init__()
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {normalisation!r}")
        self.loss_weight = loss_weight
        self.normalisation = normalisation
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
        found = self.aligner.pair(sr, gt) if heatmaps is None else heatmaps
        for name, maps in zip(found._fields, found, strict=True):
            check_maps(f"heatmaps.{name}", maps, sr)
        return self.loss_weight * heatmap_distance(found, self.normalisation)
