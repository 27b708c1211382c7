"""Feature matching: distance between a discriminator's features of two images (pix2pixHD, as in SPARNetHD)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.registry import LOSS_REGISTRY


def feature_distance(sr: Sequence[Tensor], gt: Sequence[Tensor]) -> Tensor:
    """Return the sum over layers of the mean absolute difference; ``gt`` gets no gradient.

    Raises:
        ValueError: If the numbers of layers differ or are 0.
    """
    if len(sr) != len(gt) or not sr:
        raise ValueError(f"sr and gt must have features of the same layers, got {len(sr)} and {len(gt)}")
    return sum(F.l1_loss(one, other.detach()) for one, other in zip(sr, gt, strict=True))


@LOSS_REGISTRY.register()
class SPARNetFeatureMatchingLoss(nn.Module):
    r"""Distance between the features of a multi-scale discriminator, averaged over its S scales.

    .. math:: L = w \frac1S \sum_i \sum_j \operatorname{mean} |f_{ij}(sr) - f_{ij}(gt)|

    Args:
        loss_weight: w.
    """

    def __init__(self, *, loss_weight: float = 10.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, sr: Sequence[Sequence[Tensor]], gt: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return the loss.

        Args:
            sr: Features of the restored images: by scale, then by layer, any shape.
            gt: Those of the ground truth, of the same shapes; they get no gradient.

        Raises:
            ValueError: If the numbers of scales or layers differ or are 0.
        """
        if len(sr) != len(gt) or not sr:
            raise ValueError(f"sr and gt must have features of the same scales, got {len(sr)} and {len(gt)}")
        distances = [feature_distance(one, other) for one, other in zip(sr, gt, strict=True)]
        return self.loss_weight * sum(distances) / len(distances)
