"""Landmark networks of DIC: the recurrent hourglass of its generator, and the stacked one that evaluates its results.

Source: the released code of *Deep Face Super-Resolution with Iterative Collaboration between Attentive Recovery and
Landmark Estimation* (CVPR 2020, arXiv 2003.13063). What differs: the hidden features are an argument and a result, and
convolutions of two maps side by side are sums. The 1x1 convolution that ends a residual block has no activation before
it in the recurrent network; the weights depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.archs.arch_util import JoinedConv2d, check_image, check_int, choose
from facesr_plugin.registry import ARCH_REGISTRY

CONNECTIONS = ("mean", "cat")
_DEPTH = 4
_SIDE_MULTIPLE = 64  # four times smaller at the head, then halved four times


def check_width(name: str, num_feat: int) -> None:
    """Refuse a width that no hourglass of DIC can have.

    Raises:
        TypeError: If ``num_feat`` is not an int.
        ValueError: If it is not a positive multiple of 4.
    """
    check_int(name, num_feat, least=4)
    if num_feat % 4:
        raise ValueError(f"{name} must be a multiple of 4, got {num_feat}")


class PlainResidual(nn.Module):
    """1x1, ReLU, 3x3 and 1x1 convolution, added to the input; nothing between the last two, nothing after the sum."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        mid = out_ch // 2
        self.conv1 = nn.Conv2d(in_ch, mid, 1)
        self.conv2 = nn.Conv2d(mid, mid, 3, padding=1)
        self.conv3 = nn.Conv2d(mid, out_ch, 1)
        self.shortcut = nn.Identity() if in_ch == out_ch else nn.Conv2d(in_ch, out_ch, 1)
        nn.init.kaiming_normal_(self.conv1.weight)
        _keep_variance(self.conv2.weight)
        nn.init.zeros_(self.conv3.weight)
        if in_ch != out_ch:
            _keep_variance(self.shortcut.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H, W)``."""
        return self.shortcut(x) + self.conv3(self.conv2(F.relu(self.conv1(x))))


def _keep_variance(weight: Tensor) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="linear")


class NormResidual(nn.Module):
    """1x1, 3x3 and 1x1 convolution, each with batch norm, ReLU between them, added to the input."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        mid = out_ch // 2
        self.conv1 = nn.Conv2d(in_ch, mid, 1)
        self.norm1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, out_ch, 1)
        self.norm3 = nn.BatchNorm2d(out_ch)
        self.shortcut: nn.Module = nn.Identity()
        if in_ch != out_ch:
            self.shortcut = nn.Sequential(nn.Conv2d(in_ch, out_ch, 1), nn.BatchNorm2d(out_ch))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H, W)``."""
        feat = F.relu(self.norm1(self.conv1(x)))
        feat = F.relu(self.norm2(self.conv2(feat)))
        return self.shortcut(x) + self.norm3(self.conv3(feat))


class Hourglass(nn.Module):
    """Halve the features four times and enlarge them again, adding those of each size.

    Args:
        num_feat: Width.
        residual: Residual block for channels in and out.
    """

    def __init__(self, num_feat: int, residual: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.side = nn.ModuleList(residual(num_feat, num_feat) for _ in range(_DEPTH))  # the first is the smallest
        self.down = nn.ModuleList(residual(num_feat, num_feat) for _ in range(_DEPTH))
        self.bottom = residual(num_feat, num_feat)
        self.up = nn.ModuleList(residual(num_feat, num_feat) for _ in range(_DEPTH))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, num_feat, H, W)`` to the same shape; sides are multiples of 16."""
        sides = []
        for side, down in zip(reversed(self.side), reversed(self.down), strict=True):
            sides.append(side(x))
            x = down(F.max_pool2d(x, 2))
        x = self.bottom(x)
        for up in self.up:
            x = sides.pop() + F.interpolate(up(x), scale_factor=2, mode="bilinear", align_corners=True)
        return x


class RecurrentLandmarks(NamedTuple):
    """Heatmaps ``(N, K, H / 4, W / 4)`` and the hidden features ``(N, num_feat, H / 4, W / 4)`` for the next call."""

    heatmaps: Tensor
    hidden: Tensor


@ARCH_REGISTRY.register()
class FeedbackHourglass(nn.Module):
    """Predict landmark heatmaps of a face, better with every call that gets the hidden features of the one before.

    Input: RGB in [0, 1] minus DIC's mean. Heatmaps are not squashed; they are trained towards peaks of 1.

    Initial values are such that residual blocks pass on their input, hidden features have no effect and heatmaps are 0.
    With the published ones, or torch's, heatmaps grow from call to call, and squared errors then drive the network to 0
    for good, which is nearly right for heatmaps.

    Args:
        num_landmarks: Number of heatmaps.
        num_feat: Width; the hourglass itself is twice as wide.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If it is less than 1, or ``num_feat`` is not a multiple of 4.
    """

    def __init__(self, *, num_landmarks: int = 68, num_feat: int = 256) -> None:
        super().__init__()
        check_int("num_landmarks", num_landmarks, least=1)
        check_width("num_feat", num_feat)
        quarter, half = num_feat // 4, num_feat // 2
        self.num_feat = num_feat
        self.head = nn.Conv2d(3, quarter, 7, stride=2, padding=3)
        self.block1 = PlainResidual(quarter, half)
        self.block2 = PlainResidual(half, half)
        self.block3 = PlainResidual(half, num_feat)
        self.compress = JoinedConv2d(num_feat, 2 * num_feat, num_parts=2)
        self.hourglass = Hourglass(2 * num_feat, PlainResidual)
        self.top = PlainResidual(num_feat, num_feat)
        self.conv = nn.Conv2d(num_feat, num_feat, 1)
        self.heatmaps = nn.Conv2d(num_feat, num_landmarks, 1)
        self._start_calmly()

    @torch.no_grad()
    def _start_calmly(self) -> None:
        for weight in (self.head.weight, self.compress.weight[:, : self.num_feat], self.conv.weight):
            _keep_variance(weight)
        nn.init.zeros_(self.compress.weight[:, self.num_feat :])
        for tensor in (self.heatmaps.weight, self.heatmaps.bias):
            nn.init.zeros_(tensor)

    def forward(self, image: Tensor, hidden: Tensor | None = None) -> RecurrentLandmarks:
        """Predict heatmaps.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1] minus the mean, sides multiples of 64, published with 128.
            hidden: What the call before returned as ``hidden``; None in the first, which takes the image's own
                features instead.

        Returns:
            Heatmaps ``(N, num_landmarks, H / 4, W / 4)`` and hidden features ``(N, num_feat, H / 4, W / 4)``.

        Raises:
            ValueError: If ``image`` has another shape.
        """
        check_image("image", image, _SIDE_MULTIPLE)
        feat = self.block1(F.relu(self.head(image)))
        feat = self.block3(self.block2(F.max_pool2d(feat, 2)))
        feat = self.hourglass(self.compress([feat, feat if hidden is None else hidden]))
        feat, hidden = feat.split(self.num_feat, dim=1)
        return RecurrentLandmarks(self.heatmaps(F.relu(self.conv(self.top(feat)))), hidden)


class EvaluationStack(nn.Module):
    """One hourglass with its heatmaps, and what it hands to the next stack."""

    def __init__(self, num_landmarks: int, num_feat: int, connect: str, *, last: bool) -> None:
        super().__init__()
        self.hourglass = Hourglass(num_feat, NormResidual)
        self.top = NormResidual(num_feat, num_feat)
        self.conv = nn.Conv2d(num_feat, num_feat, 1)
        self.norm = nn.BatchNorm2d(num_feat)
        self.heatmaps = nn.Conv2d(num_feat, num_landmarks, 1)
        if last:
            return
        self.feat_back = nn.Conv2d(num_feat, num_feat, 1)
        self.heatmaps_back = nn.Conv2d(num_landmarks, num_feat, 1)
        self.join = JoinedConv2d(num_feat, num_feat, num_parts=2) if connect == "cat" else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, num_feat, H, W)`` to features of the same shape and heatmaps ``(N, num_landmarks, H, W)``."""
        feat = F.relu(self.norm(self.conv(self.top(self.hourglass(x)))))
        return feat, self.heatmaps(feat)

    def hand_on(self, feat: Tensor, hidden: Tensor, given: Tensor | None) -> Tensor:
        """Return what is added to this stack's input for the next one.

        Args:
            feat: First result of ``forward``.
            hidden: ``heatmaps_back`` of the second.
            given: Hidden map of the same place from an earlier call.
        """
        if given is not None:
            hidden = self.join([hidden, given]) if self.join is not None else (hidden + given) / 2
        return self.feat_back(feat) + hidden


class StackedLandmarks(NamedTuple):
    """Heatmaps ``(N, K, H / 4, W / 4)`` of the last stack, and one hidden map per stack before it."""

    heatmaps: Tensor
    hidden: list[Tensor]


@ARCH_REGISTRY.register()
class StackedHourglass(nn.Module):
    """Predict landmark heatmaps of a face with stacked hourglasses, as DIC's evaluation does.

    Input: RGB in [0, 1] minus DIC's mean. Heatmaps are not squashed.

    Args:
        num_landmarks: Number of heatmaps.
        num_feat: Width.
        num_stacks: Number of hourglasses.
        connect: How hidden maps of an earlier call are taken in: ``mean``, or ``cat`` with a convolution.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If it is out of range, or ``connect`` is unknown.
    """

    def __init__(
        self, *, num_landmarks: int = 68, num_feat: int = 256, num_stacks: int = 4, connect: str = "mean"
    ) -> None:
        super().__init__()
        check_int("num_landmarks", num_landmarks, least=1)
        check_width("num_feat", num_feat)
        check_int("num_stacks", num_stacks, least=1)
        connect = choose("connect", connect, CONNECTIONS)
        quarter, half = num_feat // 4, num_feat // 2
        self.head = nn.Conv2d(3, quarter, 7, stride=2, padding=3)
        self.head_norm = nn.BatchNorm2d(quarter)
        self.block1 = NormResidual(quarter, half)
        self.block2 = NormResidual(half, half)
        self.block3 = NormResidual(half, num_feat)
        self.stacks = nn.ModuleList(
            EvaluationStack(num_landmarks, num_feat, connect, last=i == num_stacks - 1) for i in range(num_stacks)
        )

    def forward(self, image: Tensor, hidden: Sequence[Tensor] | None = None) -> StackedLandmarks:
        """Predict heatmaps.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1] minus the mean, sides multiples of 64, published with 128.
            hidden: Hidden maps of an earlier call, as it returned them; None as in the published evaluation.

        Returns:
            Heatmaps ``(N, num_landmarks, H / 4, W / 4)`` of the last stack, and ``num_stacks - 1`` hidden maps
            ``(N, num_feat, H / 4, W / 4)``.

        Raises:
            ValueError: If ``image`` has another shape, or ``hidden`` another number of maps.
        """
        check_image("image", image, _SIDE_MULTIPLE)
        *inner, last = self.stacks
        given = [None] * len(inner) if hidden is None else hidden
        if len(given) != len(inner):
            raise ValueError(f"hidden must have one map for each stack but the last ({len(inner)}), got {len(given)}")
        feat = self.block1(F.relu(self.head_norm(self.head(image))))
        feat = self.block3(self.block2(F.max_pool2d(feat, 2)))
        found = []
        for stack, map_before in zip(inner, given, strict=True):
            top, heatmaps = stack(feat)
            found.append(stack.heatmaps_back(heatmaps))
            feat = feat + stack.hand_on(top, found[-1], map_before)
        return StackedLandmarks(last(feat)[1], found)
