"""Critic of progressive face super-resolution, which grows with the generator.

Source: *Progressive Face Super-Resolution via Attention to Facial Landmark* (Kim et al., BMVC 2019), as released. What
differs: parts of a batch can be judged in one pass as if alone (``groups``), a batch of one has the statistic 0 instead
of NaN, and images may have other sides than the published 32, 64 and 128.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.archs.arch_util import EqualConv2d, conv_leaky_relu
from facesr_plugin.archs.progressive_arch import NUM_STEPS, check_step, check_width, idle_layers, is_fading
from facesr_plugin.registry import ARCH_REGISTRY


class HalvingStage(nn.Module):
    """Two equalised convolutions with LeakyReLU, then the mean of each 2x2 pixels."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.conv1 = EqualConv2d(in_ch, out_ch)
        self.conv2 = EqualConv2d(out_ch, out_ch)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H / 2, W / 2)``."""
        return F.avg_pool2d(conv_leaky_relu(self.conv2, conv_leaky_relu(self.conv1, x)), 2)


@ARCH_REGISTRY.register()
class ProgressiveFSRDiscriminator(nn.Module):
    """Score the images of a step. Input: RGB in [-1, 1].

    Args:
        num_feat: Width of the last features; halved by each step away from them.

    Raises:
        TypeError: If ``num_feat`` is not an int.
        ValueError: If it is not a positive multiple of 8.
    """

    def __init__(self, *, num_feat: int = 512) -> None:
        super().__init__()
        check_width(num_feat)
        widths = [num_feat >> i for i in range(NUM_STEPS + 1)]
        self.from_rgb = nn.ModuleList(nn.Conv2d(3, width, 1) for width in widths[1:])
        self.stages = nn.ModuleList(HalvingStage(widths[i + 1], widths[i]) for i in range(NUM_STEPS))
        self.mix = EqualConv2d(num_feat + 1, num_feat)
        self.linear1 = nn.Linear(num_feat, 4 * num_feat)
        self.linear2 = nn.Linear(4 * num_feat, 1)

    def forward(self, x: Tensor, step: int = NUM_STEPS, alpha: float = 1.0, groups: int = 1) -> Tensor:
        """Score a batch.

        Args:
            x: ``(N, 3, H, W)`` RGB in [-1, 1], sides multiples of ``2**step``, published with ``16 * 2**step``.
            step: 1, 2 or 3. Stages of later steps do not run.
            alpha: Share of the step's own stage in steps 2 and 3; the rest is the halved image. Outside [0, 1) the
                stage alone.
            groups: Number of equal parts of the batch (such as restored, then real) whose statistic is computed apart.

        Returns:
            ``(N,)`` scores, large for real.

        Raises:
            ValueError: If ``x`` has another shape, ``step`` is not 1, 2 or 3, or ``groups`` does not divide the batch.
        """
        check_step(step)
        _check_images(x, step, groups)
        feat = self.stages[step - 1](self.from_rgb[step - 1](x))
        if is_fading(step, alpha):
            feat = (1 - alpha) * self.from_rgb[step - 2](F.avg_pool2d(x, 2)) + alpha * feat
        for stage in reversed(self.stages[: step - 1]):
            feat = stage(feat)
        sigma = batch_deviation(x, groups).to(feat.dtype).view(-1, 1, 1, 1).expand(-1, 1, *feat.shape[2:])
        feat = self.mix(torch.cat([feat, sigma], dim=1)).mean(dim=(2, 3))
        return self.linear2(self.linear1(feat)).squeeze(1)

    def idle_parts(self, step: int = NUM_STEPS, alpha: float = 1.0) -> list[nn.Module]:
        """Return the parts that a forward with these arguments leaves out."""
        return idle_layers(self.stages, self.from_rgb, step, alpha)


def batch_deviation(x: Tensor, groups: int = 1) -> Tensor:
    """Measure how much the images of a batch differ: their standard deviation per value, averaged over the values.

    Differentiable twice, also where all images have the same value.

    Args:
        x: ``(N, C, H, W)``.
        groups: Number of equal parts of the batch that are measured apart.

    Returns:
        ``(N,)``, the same number for all images of a part; 0 for parts of one image.
    """
    parts = x.unflatten(0, (groups, -1))
    if parts.shape[1] == 1:
        return x.new_zeros(len(x))
    variance = parts.var(dim=1)
    varies = variance > 0
    deviation = torch.where(varies, variance, 1.0).sqrt() * varies  # the root's gradient at 0 would be infinite
    return deviation.mean(dim=(1, 2, 3)).repeat_interleave(parts.shape[1])


def _check_images(x: Tensor, step: int, groups: int) -> None:
    if x.dim() != 4 or x.shape[1] != 3:
        raise ValueError(f"x must have shape (N, 3, H, W), got {tuple(x.shape)}")
    if any(side == 0 or side % 2**step for side in x.shape[2:]):
        raise ValueError(f"x must have sides that are multiples of {2**step} in step {step}, got {tuple(x.shape[2:])}")
    if groups < 1 or len(x) % groups:
        raise ValueError(f"groups must divide the batch of {len(x)}, got {groups}")
