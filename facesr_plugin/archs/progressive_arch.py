"""Generator of progressive face super-resolution: 16x16 to 32x32, 64x64 or 128x128.

Source: *Progressive Face Super-Resolution via Attention to Facial Landmark* (Kim et al., BMVC 2019), as released (batch
norm and ReLU after the first convolution, a ReLU before each residual addition; 8.97 M parameters). What differs from
the released code: equalised weights are computed in the layer, so a network can be copied after a training step.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.archs.arch_util import EqualConv2d, check_int
from facesr_plugin.registry import ARCH_REGISTRY

NUM_STEPS = 3
_WIDTH_MULTIPLE = 2**NUM_STEPS


def check_width(num_feat: int) -> None:
    """Refuse a width that cannot be halved by every step.

    Raises:
        TypeError: If ``num_feat`` is not an int.
        ValueError: If it is not a positive multiple of 8.
    """
    check_int("num_feat", num_feat, least=_WIDTH_MULTIPLE)
    if num_feat % _WIDTH_MULTIPLE:
        raise ValueError(f"num_feat must be a multiple of {_WIDTH_MULTIPLE}, got {num_feat}")


def check_step(step: int) -> None:
    """Refuse anything but a step of the progressive networks.

    Raises:
        ValueError: If ``step`` is not 1, 2 or 3.
    """
    if step not in (1, 2, 3):
        raise ValueError(f"step must be 1, 2 or 3, got {step!r}")


def is_fading(step: int, alpha: float) -> bool:
    """Whether the head of the step before takes part: steps 2 and 3 with 0 <= ``alpha`` < 1."""
    return step > 1 and 0 <= alpha < 1


def idle_layers(stages: nn.ModuleList, of_rgb: nn.ModuleList, step: int, alpha: float) -> list[nn.Module]:
    """Return the layers of a progressive network that do not run.

    Args:
        stages: By step; all up to the current one run.
        of_rgb: Layers to or from RGB by step; the current one's runs, and when a step fades in, that of the one before.
        step: 1, 2 or 3.
        alpha: Share of the newest stage.
    """
    oldest = step - 2 if is_fading(step, alpha) else step - 1
    return [*stages[step:], *(layer for i, layer in enumerate(of_rgb) if not oldest <= i < step)]


class ResidualBlock(nn.Module):
    """Two equalised convolutions, each with batch norm and ReLU, added to the input without an activation after."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = EqualConv2d(num_feat, num_feat)
        self.norm1 = nn.BatchNorm2d(num_feat)
        self.conv2 = EqualConv2d(num_feat, num_feat)
        self.norm2 = nn.BatchNorm2d(num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, num_feat, H, W)`` to the same shape."""
        feat = F.relu(self.norm1(self.conv1(x)))
        return x + F.relu(self.norm2(self.conv2(feat)))


class DoublingStage(nn.Module):
    """Residual block, then a transposed convolution that doubles the sides, batch norm and ReLU."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.block = ResidualBlock(in_ch)
        self.up = nn.ConvTranspose2d(in_ch, out_ch, 4, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(out_ch)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, 2 * H, 2 * W)``."""
        return F.relu(self.norm(self.up(self.block(x))))


@ARCH_REGISTRY.register()
class ProgressiveFSRNet(nn.Module):
    """Enlarge an aligned face by 2, 4 or 8. Input and output: RGB in [-1, 1], output unclamped.

    Args:
        num_feat: Width of the first features; halved by each step.

    Raises:
        TypeError: If ``num_feat`` is not an int.
        ValueError: If it is not a positive multiple of 8.
    """

    def __init__(self, *, num_feat: int = 512) -> None:
        super().__init__()
        check_width(num_feat)
        widths = [num_feat >> i for i in range(NUM_STEPS + 1)]
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.head_norm = nn.BatchNorm2d(num_feat)
        self.stages = nn.ModuleList(DoublingStage(widths[i], widths[i + 1]) for i in range(NUM_STEPS))
        self.to_rgb = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in widths[1:])

    def forward(self, lq: Tensor, step: int = NUM_STEPS, alpha: float = 1.0) -> Tensor:
        """Enlarge a batch.

        Args:
            lq: ``(N, 3, H, W)`` RGB in [-1, 1], published with sides of 16.
            step: 1, 2 or 3: enlarge by ``2**step``. Later stages do not run.
            alpha: Share of the newest stage in steps 2 and 3; the rest is the result of the step before, enlarged by
                nearest interpolation. Outside [0, 1) the newest stage alone.

        Returns:
            ``(N, 3, H * 2**step, W * 2**step)`` RGB, about [-1, 1].

        Raises:
            ValueError: If ``lq`` has another shape or ``step`` is none of 1, 2, 3.
        """
        if lq.dim() != 4 or lq.shape[1] != 3:
            raise ValueError(f"lq must have shape (N, 3, H, W), got {tuple(lq.shape)}")
        check_step(step)
        feat = F.relu(self.head_norm(self.head(lq)))
        for stage in self.stages[: step - 1]:
            feat = stage(feat)
        newest = self.to_rgb[step - 1](self.stages[step - 1](feat))
        if not is_fading(step, alpha):
            return newest
        before = F.interpolate(self.to_rgb[step - 2](feat), scale_factor=2, mode="nearest")
        return (1 - alpha) * before + alpha * newest

    def idle_parts(self, step: int = NUM_STEPS, alpha: float = 1.0) -> list[nn.Module]:
        """Return the parts that a forward with these arguments leaves out."""
        return idle_layers(self.stages, self.to_rgb, step, alpha)
