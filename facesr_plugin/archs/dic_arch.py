"""Generator of DIC and DICGAN: 8x face super-resolution and landmark estimation that help each other step by step.

Source: *Deep Face Super-Resolution with Iterative Collaboration between Attentive Recovery and Landmark Estimation*
(Ma et al., CVPR 2020, arXiv 2003.13063), as released (6 projection groups, 21.80 M parameters). What differs from the
released code: recurrent state is passed and never kept; 1x1 convolutions of joined features are sums, so the features
are not copied; what is the same in all later steps is computed once; the last landmark estimate is skipped unless it is
asked for. The projections enlarge by 8 a feature grid that is already twice the input: the weights depend on it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.archs.arch_util import JoinedConv2d, check_image, check_int, choose, run_checkpointed
from facesr_plugin.archs.hourglass_arch import FeedbackHourglass, check_width
from facesr_plugin.ops.heatmap import merge_heatmaps
from facesr_plugin.ops.landmark import group_matrix
from facesr_plugin.registry import ARCH_REGISTRY

INIT_TYPES = ("torch", "kaiming")
_UPSCALE = 8
_NUM_GROUPS_OF_LANDMARKS = 5
_PROJECTION = {"kernel_size": 12, "stride": 8, "padding": 2}
_SLOPE = 0.2
_SIDE_MULTIPLE = 8  # of the hourglass: 64 pixels of the restored image


class ActivatedConv(nn.Module):
    """A convolution and a PReLU with one slope."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.act = nn.PReLU(init=_SLOPE)

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        """Apply both to what the convolution takes."""
        return self.act(self.conv(x))


class ProjectionGroups(nn.Module):
    """Enlarge and reduce features by 8 in turns, each time from all results of that size before.

    Args:
        num_feat: Width.
        num_groups: Number of turns.
    """

    def __init__(self, num_feat: int, num_groups: int) -> None:
        super().__init__()
        later = range(2, num_groups + 1)  # inputs of the layers that join them

        def joined(num_parts: int) -> ActivatedConv:
            return ActivatedConv(JoinedConv2d(num_feat, num_feat, num_parts=num_parts))

        self.up = nn.ModuleList(
            ActivatedConv(nn.ConvTranspose2d(num_feat, num_feat, **_PROJECTION)) for _ in range(num_groups)
        )
        self.down = nn.ModuleList(
            ActivatedConv(nn.Conv2d(num_feat, num_feat, **_PROJECTION)) for _ in range(num_groups)
        )
        self.join_small = nn.ModuleList(joined(count) for count in later)
        self.join_large = nn.ModuleList(joined(count) for count in later)
        self.join_out = joined(num_groups)

    def forward(self, feat: Tensor) -> Tensor:
        """Map ``(N, num_feat, H, W)`` to the same shape."""
        small, large = [feat], []
        for index, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            large.append(up(self.join_small[index - 1](small) if index else feat))
            small.append(down(self.join_large[index - 1](large) if index else large[0]))
        return self.join_out(small[1:])


class FirstBlock(nn.Module):
    """Recovery block of the first step, which has neither a state nor landmarks (Sec. 3.2)."""

    def __init__(self, num_feat: int, num_groups: int) -> None:
        super().__init__()
        self.compress = ActivatedConv(nn.Conv2d(num_feat, num_feat, 1))
        self.projections = ProjectionGroups(num_feat, num_groups)

    def forward(self, shallow: Tensor) -> Tensor:
        """Map ``(N, num_feat, H, W)`` to the same shape."""
        return self.projections(self.compress(shallow))


class GroupResidual(nn.Module):
    """Two 3x3 convolutions, each landmark group for itself, added to the input."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        num_ch = _NUM_GROUPS_OF_LANDMARKS * num_feat
        self.conv1 = nn.Conv2d(num_ch, num_ch, 3, padding=1, groups=_NUM_GROUPS_OF_LANDMARKS)
        self.conv2 = nn.Conv2d(num_ch, num_ch, 3, padding=1, groups=_NUM_GROUPS_OF_LANDMARKS)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 5 * num_feat, H, W)`` to the same shape."""
        return x + self.conv2(F.leaky_relu(self.conv1(x), _SLOPE, inplace=True))


class AttentiveFusion(nn.Module):
    """Make features for each of five landmark groups and mix them by the softmax of the groups' heatmaps (Sec. 3.3).

    Args:
        num_feat: Width in and out.
        num_block: Residual blocks.
    """

    def __init__(self, num_feat: int, num_block: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(num_feat, _NUM_GROUPS_OF_LANDMARKS * num_feat, 1)
        self.blocks = nn.Sequential(*(GroupResidual(num_feat) for _ in range(num_block)))

    def forward(self, feat: Tensor, group_heatmaps: Tensor) -> Tensor:
        """Map features ``(N, num_feat, H, W)`` and heatmaps ``(N, 5, H, W)`` to ``(N, num_feat, H, W)``."""
        of_groups = self.blocks(F.leaky_relu(self.head(feat), _SLOPE, inplace=True))
        attention = F.softmax(group_heatmaps, dim=1).unsqueeze(2)
        return (of_groups.unflatten(1, (_NUM_GROUPS_OF_LANDMARKS, -1)) * attention).sum(1)


class AttentiveBlock(nn.Module):
    """Recovery block of all later steps: takes its own last result as state, and the landmarks as attention."""

    def __init__(self, num_feat: int, num_groups: int, num_fusion_block: int) -> None:
        super().__init__()
        self.compress = ActivatedConv(JoinedConv2d(num_feat, num_feat, num_parts=2))
        self.fusion = AttentiveFusion(num_feat, num_fusion_block)
        self.projections = ProjectionGroups(num_feat, num_groups)

    def prepare(self, shallow: Tensor) -> Tensor:
        """Return the part of every step that ``(N, num_feat, H, W)`` alone decides, of the same shape."""
        return self.compress.conv.convolve_part(0, shallow)

    def forward(self, prepared: Tensor, state: Tensor, group_heatmaps: Tensor) -> Tensor:
        """Run one step.

        Args:
            prepared: Result of ``prepare``.
            state: ``(N, num_feat, H, W)``, result of the step before.
            group_heatmaps: ``(N, 5, H, W)`` of the step before.

        Returns:
            ``(N, num_feat, H, W)``, also the state for the next step.
        """
        feat = self.compress.act(prepared + self.compress.conv.convolve_part(1, state))
        return self.projections(self.fusion(feat, group_heatmaps))


class DICOutput(NamedTuple):
    """Restored faces ``(N, 3, 8 * H, 8 * W)`` and heatmaps ``(N, K, 2 * H, 2 * W)`` of every step, last one best."""

    sr: list[Tensor]
    heatmaps: list[Tensor]


@ARCH_REGISTRY.register()
class DICNet(nn.Module):
    """Enlarge an aligned face by 8. Input and output: RGB in [0, 1] minus the mean of DIC's card, output unclamped.

    Args:
        num_landmarks: Number of heatmaps: 68 (iBUG), 194 (Helen) or 5.
        num_feat: Width of the recovery branch.
        num_groups: Pairs of projections in a recovery block.
        num_steps: Number of steps. The weights do not depend on it.
        num_fusion_block: Residual blocks of the attentive fusion.
        hourglass_feat: Width of the landmark branch, a multiple of 4.
        detach_attention: Keep the gradients of later steps away from the heatmaps that guide them.
        whole_contours: With 194 landmarks, let the groups include the last point of every contour, which the released
            table leaves out.
        init_type: ``torch`` for the initial values of torch's layers, or ``kaiming`` for the published ones, N(0,
            2 / fan_in) without bias, of the recovery branch. The landmark branch always starts
            with heatmaps of 0: see FeedbackHourglass.
        checkpointing: Where gradients are needed, compute the features of each recovery block again in the backward
            instead of keeping them: less memory, one more forward of the blocks.

    Raises:
        TypeError: If a number is not an int or a flag not a bool.
        ValueError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        num_landmarks: int = 68,
        num_feat: int = 48,
        num_groups: int = 6,
        num_steps: int = 4,
        num_fusion_block: int = 7,
        hourglass_feat: int = 256,
        detach_attention: bool = False,
        whole_contours: bool = False,
        init_type: str = "torch",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"num_feat": num_feat, "num_groups": num_groups, "num_steps": num_steps}
        for name, value in (sizes | {"num_fusion_block": num_fusion_block}).items():
            check_int(name, value, least=0 if name == "num_fusion_block" else 1)
        check_width("hourglass_feat", hourglass_feat)
        flags = {"detach_attention": detach_attention, "whole_contours": whole_contours, "checkpointing": checkpointing}
        _check_flags(flags)
        groups = torch.as_tensor(group_matrix(num_landmarks, whole_contours))
        init_type = choose("init_type", init_type, INIT_TYPES)
        self.num_steps = num_steps
        self.detach_attention = detach_attention
        self.checkpointing = checkpointing
        self.register_buffer("groups", groups, persistent=False)
        self.head = ActivatedConv(nn.Conv2d(3, 4 * num_feat, 3, padding=1))
        self.first_block = FirstBlock(num_feat, num_groups)
        self.block = AttentiveBlock(num_feat, num_groups, num_fusion_block)
        self.tail_up = ActivatedConv(nn.ConvTranspose2d(num_feat, num_feat, 8, stride=4, padding=2))
        self.tail = nn.Conv2d(num_feat, 3, 3, padding=1)
        if init_type == "kaiming":
            _init_kaiming(self)
        self.hourglass = FeedbackHourglass(num_landmarks=num_landmarks, num_feat=hourglass_feat)

    def forward(self, lq: Tensor, every_step: bool = False) -> Tensor | DICOutput:
        """Enlarge a batch.

        Args:
            lq: ``(N, 3, H, W)`` RGB in [0, 1] minus the mean, sides multiples of 8, published with 16.
            every_step: Return what every step found.

        Returns:
            ``(N, 3, 8 * H, 8 * W)`` of the last step, about [0, 1] minus the mean; or with ``every_step`` the images
            and the heatmaps ``(N, num_landmarks, 2 * H, 2 * W)`` of all steps.

        Raises:
            ValueError: If ``lq`` has another shape.
        """
        check_image("lq", lq, _SIDE_MULTIPLE)
        enlarged = F.interpolate(lq, scale_factor=_UPSCALE, mode="bilinear", align_corners=False)
        shallow = F.pixel_shuffle(self.head(lq), 2)
        state, hidden = self._run(self.first_block, shallow), None
        prepared = self.block.prepare(shallow) if self.num_steps > 1 else None
        output = DICOutput([], [])
        for step in range(1, self.num_steps + 1):
            if step > 1:
                state = self._run(self.block, prepared, state, self._merge(output.heatmaps[-1]))
            output.sr.append(enlarged + self.tail(self.tail_up(state)))
            if every_step or step < self.num_steps:
                heatmaps, hidden = self.hourglass(output.sr[-1], hidden)
                output.heatmaps.append(heatmaps)
        return output if every_step else output.sr[-1]

    def _merge(self, heatmaps: Tensor) -> Tensor:
        return merge_heatmaps(heatmaps.detach() if self.detach_attention else heatmaps, self.groups)

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return run_checkpointed(block, *inputs)
        return block(*inputs)


def _check_flags(flags: dict[str, bool]) -> None:
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be true or false, got {value!r}")


def _init_kaiming(network: nn.Module) -> None:
    """Draw the weights of all convolutions from N(0, 2 / fan_in) and set their biases to 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
