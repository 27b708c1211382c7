"""LightCNN with nine layers: DICGAN's discriminator, and the network whose features its feature loss compares.

Source: *A Light CNN for Deep Face Representation with Noisy Labels* (TIFS 2018) in the form of *Deep Face
Super-Resolution with Iterative Collaboration between Attentive Recovery and Landmark Estimation* (CVPR 2020, as
released), which takes RGB instead of grey. What differs: the discriminator can be built for images of other sizes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.archs.arch_util import check_image, check_int
from facesr_plugin.registry import ARCH_REGISTRY

NUM_FEAT = 128
REDUCTION = 16
_WIDTHS = (48, 96, 192, 128, 128)
_POOLED = (0, 1, 3)  # groups after which the sides are halved, as after the first layer
_HIDDEN = 256


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, ceil_mode=True)


class MaxFeatureConv(nn.Module):
    """Convolution to twice the channels; of the two halves the larger value is kept (max-feature-map)."""

    def __init__(self, in_ch: int, out_ch: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_ch, 2 * out_ch, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H, W)``."""
        return torch.maximum(*self.conv(x).chunk(2, dim=1))


class MaxFeatureGroup(nn.Module):
    """A 1x1 and a 3x3 convolution, both with max-feature-map."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.mix = MaxFeatureConv(in_ch, in_ch, 1)
        self.filter = MaxFeatureConv(in_ch, out_ch, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H, W)``."""
        return self.filter(self.mix(x))


@ARCH_REGISTRY.register()
class LightCNNFeature(nn.Module):
    """Extract face features. Input: RGB in [0, 1] minus the mean of the system ``dic``."""

    def __init__(self) -> None:
        super().__init__()
        self.head = MaxFeatureConv(3, _WIDTHS[0], 5)
        self.groups = nn.ModuleList(MaxFeatureGroup(_WIDTHS[i], _WIDTHS[i + 1]) for i in range(len(_WIDTHS) - 1))

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` to ``(N, 128, H / 16, W / 16)``; each of the four halvings rounds up.

        Raises:
            ValueError: If ``image`` has another shape.
        """
        check_image("image", image, multiple=1)
        feat = _halve(self.head(image))
        for i, group in enumerate(self.groups):
            feat = group(feat)
            feat = _halve(feat) if i in _POOLED else feat
        return feat


@ARCH_REGISTRY.register()
class LightCNNDiscriminator(nn.Module):
    """Score faces. Input: RGB in [0, 1] minus the mean of the system ``dic``.

    Args:
        image_size: Side of the images in pixels, a multiple of 16.

    Raises:
        TypeError: If ``image_size`` is not an int.
        ValueError: If it is not a positive multiple of 16.
    """

    def __init__(self, *, image_size: int = 128) -> None:
        super().__init__()
        check_int("image_size", image_size, least=REDUCTION)
        if image_size % REDUCTION:
            raise ValueError(f"image_size must be a multiple of {REDUCTION}, got {image_size}")
        self.image_size = image_size
        self.features = LightCNNFeature()
        self.hidden = nn.Linear(NUM_FEAT * (image_size // REDUCTION) ** 2, 2 * _HIDDEN)
        self.score = nn.Linear(_HIDDEN, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, image_size, image_size)`` to logits ``(N, 1)``, large for real.

        Raises:
            ValueError: If ``image`` has another shape.
        """
        if image.dim() != 4 or image.shape[1:] != (3, self.image_size, self.image_size):
            side = self.image_size
            raise ValueError(
                f"image must have shape (N, 3, {side}, {side}), got {tuple(image.shape)}. "
                "Set image_size in network_d to the side of the training faces"
            )
        hidden = torch.maximum(*self.hidden(self.features(image).flatten(1)).chunk(2, dim=1))
        return self.score(F.leaky_relu(hidden, 0.2))
