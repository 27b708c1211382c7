"""Loss of the heatmaps of every stage against targets with a mask (JASRNet, AAAI 2020, as released)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facesr_plugin.registry import LOSS_REGISTRY


def stage_distance(heatmaps: Sequence[Tensor], target: Tensor, mask: Tensor) -> Tensor:
    """Return half the squared differences where the mask is 1, summed over stages, maps and cells, per image.

    Args:
        heatmaps: ``(N, K, H, W)`` of each stage.
        target: ``(N, K, H, W)``; gets no gradient.
        mask: ``(N, K, 1, 1)``, 1 for maps that count, else 0.

    Returns:
        Scalar, float32 or wider.
    """
    stages = torch.stack(tuple(heatmaps))  # (T, N, K, H, W)
    stages = stages.to(torch.promote_types(stages.dtype, target.dtype))
    return ((stages - target.detach()).square() * mask).sum() / (2 * len(target))


@LOSS_REGISTRY.register()
class CPMLoss(nn.Module):
    r"""Squared error of the heatmaps of all stages of a landmark head.

    .. math:: L = \frac{w}{2 N} \sum_t \sum_{n, k, i, j} M_{nk} (h^t_{nkij} - T_{nkij})^2

    A sum, not a mean: heatmaps of zeros cost about 370 with 68 points at 128 x 128. Published weight: 1.

    Args:
        loss_weight: w.
    """

    def __init__(self, *, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, heatmaps: Sequence[Tensor], target: Tensor, mask: Tensor) -> Tensor:
        """Return the loss; arguments as for ``stage_distance``.

        Raises:
            ValueError: If there is no stage, or shapes differ.
        """
        shapes = {tuple(maps.shape) for maps in heatmaps}
        if shapes != {tuple(target.shape)}:
            raise ValueError(f"heatmaps must have the shape of target, {tuple(target.shape)}, got {sorted(shapes)}")
        if mask.shape != (*target.shape[:2], 1, 1):
            raise ValueError(f"mask must have shape {(*target.shape[:2], 1, 1)}, got {tuple(mask.shape)}")
        return self.loss_weight * stage_distance(heatmaps, target, mask)
