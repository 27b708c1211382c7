"""JASRNet: super-resolution and landmarks of tiny faces from one shared encoder.

Source: *Joint Super-Resolution and Alignment of Tiny Faces* (Yin et al., AAAI 2020), as released (19.9 M parameters
with 68 points). What differs from the released code: either head can be left out of a forward; the shifts by the mean
colour are buffers, and the second, unused copy of the input's shift exists in official files only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.archs.arch_util import check_image, check_int, choose, run_checkpointed
from facesr_plugin.registry import ARCH_REGISTRY

STRIDE = 8
UPSCALES = (2, 3, 4, 8)
HEADS = ("sr", "landmarks", "both")
COLOR_MEAN = (0.485, 0.456, 0.406)
COLOR_STD = (0.229, 0.224, 0.225)
_NUM_STAGES = 3
_SR_BLOCK_SCALE = 0.1
_INITS = ("normal", "torch")
_INIT_STD = 0.01


class JASROutput(NamedTuple):
    """The restored face and the heatmaps of each stage."""

    sr: Tensor
    heatmaps: list[Tensor]


class ColorShift(nn.Module):
    """Divide by the deviation of natural images' colours, then add ``sign`` times their mean, divided likewise.

    With ``sign`` 1 this is not the inverse of ``sign`` -1: the released network is trained so.
    """

    def __init__(self, sign: int, rgb_range: float) -> None:
        super().__init__()
        std = torch.tensor(COLOR_STD)
        self.register_buffer("weight", torch.eye(3).view(3, 3, 1, 1) / std.view(3, 1, 1, 1))
        self.register_buffer("bias", sign * rgb_range * torch.tensor(COLOR_MEAN) / std)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` RGB to the same shape."""
        return F.conv2d(x, self.weight, self.bias)


class ResidualBlock(nn.Module):
    """Two convolutions with a ReLU between, their result times ``scale`` added to the input; no activation after."""

    def __init__(self, num_feat: int, scale: float = 1.0) -> None:
        super().__init__()
        self.conv1 = conv3x3(num_feat, num_feat)
        self.conv2 = conv3x3(num_feat, num_feat)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, num_feat, H, W)`` to the same shape."""
        residual = self.conv2(F.relu(self.conv1(x), inplace=True))
        return x + residual if self.scale == 1 else x + self.scale * residual


def conv3x3(in_ch: int, out_ch: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution with bias and zero padding."""
    return nn.Conv2d(in_ch, out_ch, 3, stride=stride, padding=1)


def _blocks(num_feat: int, count: int) -> Iterable[nn.Module]:
    """Return residual blocks, each followed by a ReLU."""
    for _ in range(count):
        yield from (ResidualBlock(num_feat), nn.ReLU(inplace=True))


def _skip(num_feat: int) -> nn.Sequential:
    layers = (layer for _ in range(3) for layer in (conv3x3(num_feat, num_feat), nn.MaxPool2d(2)))
    return nn.Sequential(*layers)


def _upsampler(num_feat: int, upscale: int) -> nn.Sequential:
    factors = [3] if upscale == 3 else [2] * (upscale.bit_length() - 1)
    layers = (layer for f in factors for layer in (conv3x3(num_feat, num_feat * f * f), nn.PixelShuffle(f)))
    return nn.Sequential(*layers)


def _stage(num_feat: int, num_maps: int, *, first: bool) -> nn.Sequential:
    """Return one stage of the landmark head; later ones take the heatmaps before them too."""
    entry = () if first else (conv3x3(num_feat + num_maps, num_feat), nn.ReLU(inplace=True))
    return nn.Sequential(*entry, *_blocks(num_feat, 2 if first else 3), conv3x3(num_feat, num_maps))


def _check_range(rgb_range: float) -> None:
    if isinstance(rgb_range, bool) or not isinstance(rgb_range, int | float):
        raise TypeError(f"rgb_range must be a number, got {rgb_range!r}")
    if not 0 < rgb_range < math.inf:
        raise ValueError(f"rgb_range must be a positive number, got {rgb_range}")


@ARCH_REGISTRY.register()
class JASRNet(nn.Module):
    """Restore a face that was enlarged to its final size, and find its landmarks.

    Args:
        num_landmarks: Points, published with 68 (300-W), 19 (AFLW), 194 (Helen) and 5 (CelebA).
        num_feat: Width of all features; 128, or 256 in the wide variant.
        num_block: Residual blocks of the shared body; 32, or 16 in the wide variant.
        upscale: Factor from the features at an eighth of the input to the restored face: 8 gives the size of the
            input, 2, 3 and 4 less. It is not the factor by which the face was reduced.
        rgb_range: Largest value of a colour, 1 or 255.
        init_type: ``normal``: weights from N(0, 0.01), biases 0, as published. ``torch``: PyTorch's own.
        checkpointing: Compute the encoder and the body again in the backward instead of keeping their features.

    Raises:
        TypeError: If a number of layers or ``upscale`` is not an int, or ``rgb_range`` no number.
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        num_landmarks: int = 68,
        num_feat: int = 128,
        num_block: int = 32,
        upscale: int = 8,
        rgb_range: float = 1.0,
        init_type: str = "normal",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        layers = {"num_landmarks": num_landmarks, "num_feat": num_feat, "num_block": num_block, "upscale": upscale}
        for name, value in layers.items():
            check_int(name, value, least=1)
        if upscale not in UPSCALES:
            raise ValueError(f"upscale must be one of {', '.join(map(str, UPSCALES))}, got {upscale!r}")
        _check_range(rgb_range)
        init_type = choose("init_type", init_type, _INITS)
        self.checkpointing = checkpointing
        width, num_maps = num_feat, num_landmarks + 1  # the last heatmap is the background
        self.shift_in = ColorShift(-1, rgb_range)
        self.shift_out = ColorShift(1, rgb_range)
        self.head = conv3x3(3, width)
        self._add_encoder(width)
        self.body = nn.Sequential(*_blocks(width, num_block))
        self.skip = _skip(width)
        self.sr_body = nn.Sequential(*(ResidualBlock(width, _SR_BLOCK_SCALE) for _ in range(2)), conv3x3(width, width))
        self.sr_up = _upsampler(width, upscale)
        self.sr_tail = conv3x3(width, 3)
        self.landmark_body = nn.Sequential(*_blocks(width, 2), conv3x3(width, width))
        self.stages = nn.ModuleList(_stage(width, num_maps, first=i == 0) for i in range(_NUM_STAGES))
        if init_type == "normal":
            self._init_normal()

    def _add_encoder(self, width: int) -> None:
        """Add the levels at full, half and quarter size, and the convolutions that carry them to an eighth."""
        self.encoder1 = nn.Sequential(*_blocks(width, 2))
        self.down1 = conv3x3(width, width, stride=2)
        self.encoder2 = nn.Sequential(nn.MaxPool2d(2), *_blocks(width, 3))
        self.down2 = conv3x3(width, width, stride=2)
        self.pool = nn.MaxPool2d(2)
        self.encoder3 = nn.Sequential(*_blocks(width, 4))
        self.down3 = conv3x3(width, width, stride=2)
        self.encoder4 = nn.Sequential(nn.MaxPool2d(2), *_blocks(width, 2))

    def _init_normal(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, _INIT_STD)
                nn.init.zeros_(module.bias)

    def forward(self, lq: Tensor, heads: str = "sr") -> Tensor | list[Tensor] | JASROutput:
        """Run the network, without the layers that only the other head needs.

        Args:
            lq: ``(N, 3, H, W)`` RGB in [0, rgb_range], the small face enlarged; sides are multiples of 8.
            heads: ``sr``, ``landmarks`` or ``both``.

        Returns:
            ``sr``: ``(N, 3, H, W)`` RGB, about [0, rgb_range] (sides times ``upscale / 8``). ``landmarks``: one
            ``(N, num_landmarks + 1, H / 8, W / 8)`` of each of three stages, the background last; the last stage is
            the best. ``both``: the two as a ``JASROutput``.

        Raises:
            ValueError: If ``lq`` has another shape or ``heads`` is unknown.
        """
        check_image("lq", lq, multiple=STRIDE)
        heads = choose("heads", heads, HEADS)
        first = self.head(self.shift_in(lq))
        feat = self._encode(first)
        if heads == "landmarks":
            return self._heatmaps(feat)
        sr = self._restore(feat, first)
        return sr if heads == "sr" else JASROutput(sr, self._heatmaps(feat))

    def idle_parts(self, heads: str) -> list[nn.Module]:
        """Return the parts that a forward with ``heads`` leaves out."""
        of_images = [self.skip, self.sr_body, self.sr_up, self.sr_tail]
        of_landmarks = [self.landmark_body, self.stages]
        return {"sr": of_landmarks, "landmarks": of_images, "both": []}[heads]

    def _encode(self, first: Tensor) -> Tensor:
        """Return the shared features at an eighth of the size, levels fused by strided convolutions."""
        level1 = self._run(self.encoder1, first)
        level2 = self._run(self.encoder2, level1)
        level3 = self._run(self.encoder3, self.pool(level2))
        fused = self.down2(self.down1(level1) + level2)
        fused = self.down3(fused + level3)
        return self._run(self.body, self._run(self.encoder4, level3)) + fused

    def _restore(self, feat: Tensor, first: Tensor) -> Tensor:
        feat = self.sr_body(feat) + self._run(self.skip, first)
        return self.shift_out(self.sr_tail(self.sr_up(feat)))

    def _heatmaps(self, feat: Tensor) -> list[Tensor]:
        feat = self.landmark_body(feat)
        heatmaps = [self.stages[0](feat)]
        for stage in self.stages[1:]:
            heatmaps.append(stage(torch.cat((feat, heatmaps[-1]), 1)))
        return heatmaps

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        return run_checkpointed(block, x) if self.checkpointing and torch.is_grad_enabled() else block(x)
