"""U-Net that judges every pixel: the other discriminator in the release of DICGAN (CVPR 2020), named UNetF there.

What differs: by default the forward gives the map alone, as losses of scores take it. The released training program
could build this network but not train with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.registry import ARCH_REGISTRY

_WIDTHS = (64, 128, 256, 256)
_UP_WIDTHS = (128, 64, 64)
_LEAST_SIDE = 8
_SLOPE = 0.2


class UNetOutput(NamedTuple):
    """What ``UNetFeatureDiscriminator`` gives on request.

    Args:
        features: ``(N, 128, H / 2, W / 2)``, ``(N, 256, H / 4, W / 4)`` and ``(N, 256, H / 8, W / 8)``, rounded down.
        logits: ``(N, 3, H, W)``; None with ``feature_only``.
    """

    features: tuple[Tensor, Tensor, Tensor]
    logits: Tensor | None


class ConvPair(nn.Module):
    """Two 3x3 convolutions, each with LeakyReLU."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, padding=1)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H, W)``."""
        return F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x), _SLOPE)), _SLOPE)


@ARCH_REGISTRY.register()
class UNetFeatureDiscriminator(nn.Module):
    """Score every value of an image. Input: RGB in [0, 1] minus the mean of the system ``dic``.

    Args:
        feature_only: Build only the half that makes the features.
    """

    def __init__(self, *, feature_only: bool = False) -> None:
        super().__init__()
        self.head = ConvPair(3, _WIDTHS[0])
        self.down = nn.ModuleList(ConvPair(_WIDTHS[i], _WIDTHS[i + 1]) for i in range(3))
        self.up: nn.ModuleList | None = None
        self.tail: nn.Conv2d | None = None
        if not feature_only:
            below = (_WIDTHS[3], *_UP_WIDTHS)
            self.up = nn.ModuleList(ConvPair(_WIDTHS[2 - i] + below[i], _UP_WIDTHS[i]) for i in range(3))
            self.tail = nn.Conv2d(_UP_WIDTHS[2], 3, 1)

    def forward(self, image: Tensor, features: bool = False) -> Tensor | UNetOutput:
        """Judge images.

        Args:
            image: ``(N, 3, H, W)``, sides of 8 and more.
            features: Return the features too.

        Returns:
            Logits ``(N, 3, H, W)``, or ``UNetOutput``.

        Raises:
            ValueError: If ``image`` has another shape, or logits are wanted of a network with ``feature_only``.
        """
        if image.dim() != 4 or image.shape[1] != 3 or min(image.shape[2:]) < _LEAST_SIDE:
            raise ValueError(f"image must have shape (N, 3, H, W), sides of 8 and more, got {tuple(image.shape)}")
        if self.tail is None and not features:
            raise ValueError("feature_only must be false for logits, got True. Call with features=True for features")
        found = [self.head(image)]
        for down in self.down:
            found.append(down(F.avg_pool2d(found[-1], 2)))
        logits = self._judge(found)
        return UNetOutput((found[1], found[2], found[3]), logits) if features else logits

    def _judge(self, found: list[Tensor]) -> Tensor | None:
        if self.up is None or self.tail is None:
            return None
        feat = found[-1]
        for up, skip in zip(self.up, reversed(found[:-1]), strict=True):
            feat = up(torch.cat([skip, _enlarge(feat, skip)], dim=1))
        return self.tail(feat)


def _enlarge(feat: Tensor, like: Tensor) -> Tensor:
    """Double the sides, and pad with zeros to those of ``like``: the smaller half of them left and above."""
    feat = F.interpolate(feat, scale_factor=2, mode="bilinear", align_corners=True)
    rows, columns = like.shape[2] - feat.shape[2], like.shape[3] - feat.shape[3]
    return F.pad(feat, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
