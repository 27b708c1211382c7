"""Feature loss of DICGAN (CVPR 2020): distance between the LightCNN features of two faces."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import build_network, load_weights
from facesr_plugin.losses.alignment import check_images
from facesr_plugin.losses.perceptual_loss import CRITERIA
from facesr_plugin.registry import LOSS_REGISTRY
from facesr_plugin.utils.weights import resolve_weights

_ARCH = "LightCNNFeature"
_CARD = get_card("dic")


@LOSS_REGISTRY.register()
class LightCNNFeatureLoss(nn.Module):
    r"""Mean absolute (or squared) difference of the features of a frozen LightCNNFeature.

    .. math:: L = w \operatorname{mean} |\phi(sr) - \phi(gt)|

    It takes images as the model's network gives them: of DIC without further options, of a model whose images are in
    [-1, 1] with ``mean: [0.5, 0.5, 0.5]`` and ``std: [0.5, 0.5, 0.5]``.

    Args:
        loss_weight: w, published with 0.1.
        weights: File of the network: the authors', one that ``facesr convert`` wrote, or one of a
            LightCNNDiscriminator, whose features it then takes; None to look for the authors' as
            ``facesr weights list`` shows.
        criterion: ``l1`` or ``l2`` (squared, without root).
        mean: What was subtracted from RGB in [0, 1]; the mean of the system ``dic`` by default.
        std: What it was divided by then.

    Raises:
        FileNotFoundError: If there is no weight file.
        ValueError: If ``criterion`` is unknown, ``mean`` or ``std`` has not three numbers, or the file other weights.
    """

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        weights: str | os.PathLike | None = None,
        criterion: str = "l1",
        mean: Sequence[float] = _CARD.mean,
        std: Sequence[float] = _CARD.std,
    ) -> None:
        super().__init__()
        if criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}")
        for name, value in {"mean": mean, "std": std}.items():
            if len(value) != 3:
                raise ValueError(f"{name} must have three numbers, for R, G and B, got {list(value)}")
        self.loss_weight = loss_weight
        self.criterion = criterion
        self.net = build_network(load_weights(resolve_weights("lightcnn", weights), arch=_ARCH), _ARCH)
        shift = [own - wanted for own, wanted in zip(mean, _CARD.mean, strict=True)]
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(map(float, std))).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """Return the loss.

        Args:
            sr: ``(N, 3, H, W)`` RGB, normalised with ``mean`` and ``std``.
            gt: As ``sr``; gets no gradient.

        Raises:
            ValueError: If shapes differ.
        """
        check_images(sr, gt)
        with torch.no_grad():
            wanted = self.extract(gt)
        return self.loss_weight * CRITERIA[self.criterion](self.extract(sr), wanted)

    def extract(self, images: Tensor) -> Tensor:
        """Return the features ``(N, 128, H / 16, W / 16)`` of images, normalised as those of ``forward``."""
        return self.net(images * self.std + self.shift)
