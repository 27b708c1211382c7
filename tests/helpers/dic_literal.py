"""DIC's generator as the specification says it: every concatenation is made, every step computes all it needs.

Works on tensors by official key, so it can share the parameters of a network of ours. What the network is compared with
in tests, and in ``scripts/benchmark/dic.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from facesr_plugin.archs.dic_arch import DICNet
from facesr_plugin.checkpoints import detect

_GROUPS_OF_68 = (range(36, 42), range(42, 48), range(27, 36), range(48, 68), range(27))
_DEPTH = 4


class LiteralDIC:
    """The generator for 68 landmarks.

    Args:
        weights: Tensors by official key.
        num_steps: Number of steps.
        detach_attention: Cut the gradients of merged heatmaps.
    """

    def __init__(self, weights: Mapping[str, Tensor], *, num_steps: int, detach_attention: bool = False) -> None:
        self.weights = weights
        self.num_steps = num_steps
        self.detach_attention = detach_attention

    def __call__(self, lq: Tensor, every_step: bool = True) -> tuple[list[Tensor], list[Tensor]]:
        """Return the images and the heatmaps of all steps, the only way it knows."""
        assert every_step
        enlarged = F.interpolate(lq, scale_factor=8, mode="bilinear", align_corners=False)
        x = F.pixel_shuffle(self.prelu("conv_in.1", self.conv("conv_in.0", lq, padding=1)), 2)
        images, heatmaps, state, hidden = [], [], None, None
        for step in range(self.num_steps):
            state = self.later_block(x, state, self.merge(heatmaps[-1])) if step else self.first_block(x)
            up = self.prelu("out.1", self.transposed("out.0", state, stride=4))
            images.append(enlarged + self.conv("conv_out.0", up, padding=1))
            found, hidden = self.hourglass(images[-1], hidden)
            heatmaps.append(found)
        return images, heatmaps

    def conv(self, name: str, x: Tensor, **options: int) -> Tensor:
        """Convolve."""
        return F.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], **options)

    def transposed(self, name: str, x: Tensor, stride: int) -> Tensor:
        """Convolve in the other direction, padding 2."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.conv_transpose2d(x, weight, bias, stride=stride, padding=2)

    def prelu(self, name: str, x: Tensor) -> Tensor:
        """Apply a PReLU."""
        return F.prelu(x, self.weights[f"{name}.weight"])

    def pointwise(self, name: str, parts: list[Tensor]) -> Tensor:
        """Join, convolve and apply a PReLU."""
        return self.prelu(f"{name}.1", self.conv(f"{name}.0", torch.cat(parts, 1)))

    def first_block(self, x: Tensor) -> Tensor:
        """Recovery block of step 1."""
        return self.projections("first_block", self.pointwise("first_block.compress_in", [x]))

    def later_block(self, x: Tensor, state: Tensor, merged: Tensor) -> Tensor:
        """Recovery block of all other steps."""
        feat = self.fusion(self.pointwise("block.compress_in", [x, state]), merged)
        return self.projections("block", feat)

    def projections(self, block: str, feat: Tensor) -> Tensor:
        """Up and down in turns (spec section 2.3)."""
        low, high = [feat], []
        for g in range(sum(key.startswith(f"{block}.upBlocks.") and key.endswith(".0.bias") for key in self.weights)):
            a = self.pointwise(f"{block}.uptranBlocks.{g - 1}", low) if g else feat
            high.append(self.prelu(f"{block}.upBlocks.{g}.1", self.transposed(f"{block}.upBlocks.{g}.0", a, stride=8)))
            b = self.pointwise(f"{block}.downtranBlocks.{g - 1}", high) if g else high[0]
            down = self.conv(f"{block}.downBlocks.{g}.0", b, stride=8, padding=2)
            low.append(self.prelu(f"{block}.downBlocks.{g}.1", down))
        return self.pointwise(f"{block}.compress_out", low[1:])

    def fusion(self, feat: Tensor, merged: Tensor) -> Tensor:
        """Attentive fusion (spec section 2.4)."""
        name = "block.fusion_block"
        y = F.leaky_relu(self.conv(f"{name}.conv_in.0", feat), 0.2)
        index = 0
        while f"{name}.resnet.{index}.res.0.bias" in self.weights:
            inner = F.leaky_relu(self.conv(f"{name}.resnet.{index}.res.0", y, padding=1, groups=5), 0.2)
            y = y + self.conv(f"{name}.resnet.{index}.res.2", inner, padding=1, groups=5)
            index += 1
        attention = torch.softmax(merged, 1)
        return sum(part * attention[:, i : i + 1] for i, part in enumerate(y.chunk(5, 1)))

    def merge(self, heatmaps: Tensor) -> Tensor:
        """Five groups of 68 heatmaps (spec section 2.5)."""
        peaks = heatmaps.flatten(2).max(2).values[:, :, None, None]
        scaled = heatmaps / torch.maximum(peaks, torch.full_like(peaks, 0.05))
        merged = torch.stack([scaled[:, list(group)].sum(1) for group in _GROUPS_OF_68], 1)
        return merged.detach() if self.detach_attention else merged

    def hourglass(self, image: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Landmark branch (spec section 2.6)."""
        feat = F.relu(self.conv("HG.pre_conv_block.0", image, stride=2, padding=3))
        feat = F.max_pool2d(self.residual("HG.pre_conv_block.2", feat), 2)
        feat = self.residual("HG.pre_conv_block.5", self.residual("HG.pre_conv_block.4", feat))
        joined = torch.cat([feat, feat if hidden is None else hidden], 1)
        out = self.level(_DEPTH, self.conv("HG.compress_in", joined))
        top, hidden = out.chunk(2, 1)
        top = F.relu(self.conv("HG.hg_conv_out.1.conv_block.0", self.residual("HG.hg_conv_out.0", top)))
        return self.conv("HG.hg_conv_out.2", top), hidden

    def level(self, n: int, x: Tensor) -> Tensor:
        """One level of the hourglass."""
        side = self.residual(f"HG.hg.res{n}_1", x)
        low = self.residual(f"HG.hg.res{n}_2", F.max_pool2d(x, 2))
        low = self.level(n - 1, low) if n > 1 else self.residual("HG.hg.res_center", low)
        low = self.residual(f"HG.hg.res{n}_3", low)
        return side + F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=True)

    def residual(self, name: str, x: Tensor) -> Tensor:
        """Residual block without batch norm."""
        inner = F.relu(self.conv(f"{name}.conv_block.0", x))
        inner = self.conv(f"{name}.conv_block.2", inner, padding=1)
        skip = self.conv(f"{name}.skip_layer", x) if f"{name}.skip_layer.bias" in self.weights else x
        return self.conv(f"{name}.conv_block.3", inner) + skip


def literal_twin(net: DICNet) -> LiteralDIC:
    """Return the literal form of a network, with the same parameters, not copies of them."""
    (form,) = (form for form in detect.FORMATS if form.arch == "DICNet")
    weights = form.keys.to_official(dict(net.named_parameters()))
    return LiteralDIC(weights, num_steps=net.num_steps, detach_attention=net.detach_attention)


class Saved:
    """Bytes that autograd keeps for the backward (``total``), each storage once, parameters left out."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = {value.untyped_storage()._cdata for value in parameters}
        self._sizes: dict[int, int] = {}

    def add(self, tensor: Tensor) -> Tensor:
        """Count what is saved."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._parameters:
            self._sizes[storage._cdata] = storage.nbytes()
        return tensor

    @property
    def total(self) -> int:
        """Sum of all."""
        return sum(self._sizes.values())


@contextmanager
def count_saved(parameters: Iterable[Tensor]) -> Iterator[Saved]:
    """Count what autograd saves inside; results must be kept until the end, so that no storage is used again."""
    saved = Saved(parameters)
    with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda tensor: tensor):
        yield saved
