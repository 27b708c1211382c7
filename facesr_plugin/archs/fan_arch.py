"""Face alignment networks: the small one that guides progressive super-resolution, and the one that it learns from.

Source: the distilled network of *Progressive Face Super-Resolution via Attention to Facial Landmark* (BMVC 2019; five
convolutions at full resolution, no hourglass), and 2DFAN of *How far are we from solving the 2D & 3D face alignment
problem?* (ICCV 2017), in its public layout of 2019 (68 points, not the 98-point network of facexlib).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.archs.arch_util import check_image, check_int
from facesr_plugin.registry import ARCH_REGISTRY

_SLOPE = 0.01
_DEPTH = 4
_TEACHER_CH = 256


@ARCH_REGISTRY.register()
class CompressedFAN(nn.Module):
    """Predict a heatmap of each landmark from a small face. Input: RGB in [0, 1], without further normalisation.

    Each value sees 13x13 pixels, so the scale of the face matters: the published network was trained at 64x64 with
    CelebA framing.

    Args:
        num_landmarks: Number of heatmaps.
        num_feat: Width of the first convolution.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If it is less than 1.
    """

    def __init__(self, *, num_landmarks: int = 68, num_feat: int = 32) -> None:
        super().__init__()
        for name, value in {"num_landmarks": num_landmarks, "num_feat": num_feat}.items():
            check_int(name, value, least=1)
        widths = [num_feat, 2 * num_feat, 4 * num_feat, 4 * num_feat]
        self.head = nn.Conv2d(3, num_feat, 5, padding=2)
        self.convs = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 3, padding=1) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.tail = nn.Conv2d(widths[-1], num_landmarks, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` RGB in [0, 1] to heatmaps ``(N, num_landmarks, H, W)``, peaks about 1.

        Raises:
            ValueError: If ``image`` has another shape.
        """
        check_image("image", image, multiple=1)
        feat = self.head(image)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            feat = F.leaky_relu(norm(conv(feat)), _SLOPE)
        return F.leaky_relu(self.tail(feat), _SLOPE)


class PreactivationBlock(nn.Module):
    """Three convolutions, each after its norm and ReLU, whose results side by side are added to the input."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        half, quarter = out_ch // 2, out_ch // 4
        self.norm1 = nn.BatchNorm2d(in_ch)
        self.conv1 = nn.Conv2d(in_ch, half, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(quarter)
        self.conv3 = nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if in_ch != out_ch:
            self.shortcut = nn.Sequential(nn.BatchNorm2d(in_ch), nn.ReLU(), nn.Conv2d(in_ch, out_ch, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H, W)``."""
        first = self.conv1(F.relu(self.norm1(x)))
        second = self.conv2(F.relu(self.norm2(first)))
        third = self.conv3(F.relu(self.norm3(second)))
        return torch.cat([first, second, third], dim=1) + self.shortcut(x)


class Hourglass(nn.Module):
    """Halve the features four times and enlarge them again, adding those of each size."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.side = nn.ModuleList(PreactivationBlock(num_feat, num_feat) for _ in range(_DEPTH))
        self.down = nn.ModuleList(PreactivationBlock(num_feat, num_feat) for _ in range(_DEPTH))
        self.bottom = PreactivationBlock(num_feat, num_feat)
        self.up = nn.ModuleList(PreactivationBlock(num_feat, num_feat) for _ in range(_DEPTH))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, num_feat, H, W)`` to the same shape; sides are multiples of 16."""
        sides = []
        for side, down in zip(reversed(self.side), reversed(self.down), strict=True):  # level 1 is the smallest
            sides.append(side(x))
            x = down(F.avg_pool2d(x, 2))
        x = self.bottom(x)
        for up in self.up:
            x = sides.pop() + F.interpolate(up(x), scale_factor=2, mode="nearest")
        return x


class AlignmentStack(nn.Module):
    """One hourglass with its heatmaps, and what it hands to the next stack."""

    def __init__(self, num_landmarks: int, *, last: bool) -> None:
        super().__init__()
        width = _TEACHER_CH
        self.hourglass = Hourglass(width)
        self.top = PreactivationBlock(width, width)
        self.conv = nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.heatmaps = nn.Conv2d(width, num_landmarks, 1)
        self.feat_back = None if last else nn.Conv2d(width, width, 1)
        self.heatmaps_back = None if last else nn.Conv2d(num_landmarks, width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, 256, H, W)`` to heatmaps ``(N, num_landmarks, H, W)`` and the next stack's input."""
        feat = F.relu(self.norm(self.conv(self.top(self.hourglass(x)))))
        heatmaps = self.heatmaps(feat)
        if self.feat_back is not None and self.heatmaps_back is not None:
            x = x + self.feat_back(feat) + self.heatmaps_back(heatmaps)
        return heatmaps, x


@ARCH_REGISTRY.register()
class TeacherFAN(nn.Module):
    """Predict landmark heatmaps of a large face with stacked hourglasses (2DFAN-4). Input: RGB in [0, 1].

    Args:
        num_stacks: Number of hourglasses.
        num_landmarks: Number of heatmaps.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If it is less than 1.
    """

    def __init__(self, *, num_stacks: int = 4, num_landmarks: int = 68) -> None:
        super().__init__()
        for name, value in {"num_stacks": num_stacks, "num_landmarks": num_landmarks}.items():
            check_int(name, value, least=1)
        self.head = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.head_norm = nn.BatchNorm2d(64)
        self.block1 = PreactivationBlock(64, 128)
        self.block2 = PreactivationBlock(128, 128)
        self.block3 = PreactivationBlock(128, _TEACHER_CH)
        self.stacks = nn.ModuleList(AlignmentStack(num_landmarks, last=i == num_stacks - 1) for i in range(num_stacks))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Predict heatmaps.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1], sides multiples of 64, published with 256.

        Returns:
            ``(N, num_landmarks, H / 4, W / 4)`` of each stack; the last one is the best.

        Raises:
            ValueError: If ``image`` has another shape.
        """
        check_image("image", image, multiple=64)
        feat = F.relu(self.head_norm(self.head(image)))
        feat = self.block3(self.block2(F.avg_pool2d(self.block1(feat), 2)))
        heatmaps = []
        for stack in self.stacks:
            found, feat = stack(feat)
            heatmaps.append(found)
        return heatmaps
