"""Convolution layers that networks share: SPARNet's two, the progressive generator and critic, and DIC's.

Source: the released code of *Learning Spatial Attention for Face Super-Resolution* (TIP 2021) and of *Progressive Face
Super-Resolution via Attention to Facial Landmark* (BMVC 2019). What differs: layers work in place on nothing but what
their own block made, and spectral norm and the equalised learning rate are convolution classes of their own, which can
be copied and pickled at any time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from facesr_plugin.ops.backends import choose_backend
from facesr_plugin.ops.fused import fused_leaky_relu

SCALES = ("none", "up", "down")
_GROUPS = 32


class PixelNorm(nn.Module):
    """Give the channel vector of every pixel the length 1, in float32 or wider: in float16 ``eps`` would be 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1, eps=1e-12)


def _group_norm(num_ch: int) -> nn.GroupNorm:
    if num_ch % _GROUPS:
        raise ValueError(
            f"norm 'gn' needs channel counts that are multiples of {_GROUPS}, got {num_ch}. "
            "Choose other channel limits or norm 'in'."
        )
    return nn.GroupNorm(_GROUPS, num_ch)


# name -> module for a number of channels
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "bn": nn.BatchNorm2d,
    "in": lambda num_ch: nn.InstanceNorm2d(num_ch, affine=True),
    "gn": _group_norm,
    "pixel": lambda _: PixelNorm(),
    "none": lambda _: nn.Identity(),
}
# all but prelu and none overwrite their input: the backward keeps one tensor instead of two
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "leakyrelu": lambda _: nn.LeakyReLU(0.2, inplace=True),
    "relu": lambda _: nn.ReLU(inplace=True),
    "selu": lambda _: nn.SELU(inplace=True),
    "prelu": nn.PReLU,
    "none": lambda _: nn.Identity(),
}
_WITH_CONV_BIAS = ("none", "pixel")  # the other norms have a shift of their own


def choose(name: str, value: str, known: Iterable[str]) -> str:
    """Return ``value`` in lower case if it is one of ``known``.

    Raises:
        ValueError: If it is not; the message has ``name`` and the known values.
    """
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return value.lower()


def check_int(name: str, value: int, least: int) -> None:
    """Refuse anything but an int of at least ``least``.

    Raises:
        TypeError: If ``value`` is not an int.
        ValueError: If it is too small.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_image(name: str, image: Tensor, multiple: int) -> None:
    """Refuse anything but a batch of RGB images whose sides are multiples of ``multiple``.

    Raises:
        ValueError: If ``image`` has another shape.
    """
    if image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(f"{name} must have shape (N, 3, H, W), got {tuple(image.shape)}")
    if any(side == 0 or side % multiple for side in image.shape[2:]):
        raise ValueError(f"{name} must have sides that are multiples of {multiple}, got {tuple(image.shape[2:])}")


class LayerStyle(NamedTuple):
    """What all layers of a network have in common.

    Args:
        norm: Key of ``NORMS``.
        act: Key of ``ACTIVATIONS``.
        spectral_norm: Divide the weight of every convolution by its spectral norm.
    """

    norm: str = "none"
    act: str = "none"
    spectral_norm: bool = False

    @classmethod
    def from_names(cls, norm_type: str, relu_type: str, spectral_norm: bool) -> LayerStyle:
        """Check the options of a network.

        Raises:
            TypeError: If ``spectral_norm`` is not a bool.
            ValueError: If a name is unknown.
        """
        if not isinstance(spectral_norm, bool):
            raise TypeError(f"spectral_norm must be true or false, got {spectral_norm!r}")
        return cls(choose("norm_type", norm_type, NORMS), choose("relu_type", relu_type, ACTIVATIONS), spectral_norm)

    @property
    def plain(self) -> LayerStyle:
        """The same without norm and activation."""
        return self._replace(norm="none", act="none")


class ScaledConv2d(nn.Conv2d):
    """3x3 convolution with reflection padding that keeps, doubles (nearest, before it) or halves (stride 2) the size.

    Args:
        in_ch: Channels in.
        out_ch: Channels out.
        scale: ``none``, ``up`` or ``down`` (to ceil(H / 2)).
        bias: Add a bias.
        pad: False leaves out the padding; the result of scale ``none`` is then two pixels smaller.

    Raises:
        ValueError: If ``scale`` is unknown, or ``up`` without padding.
    """

    def __init__(self, in_ch: int, out_ch: int, *, scale: str = "none", bias: bool = True, pad: bool = True) -> None:
        choose("scale", scale, SCALES)
        if scale == "up" and not pad:
            raise ValueError("pad must be true for scale 'up', got False")
        super().__init__(in_ch, out_ch, 3, stride=2 if scale == "down" else 1, bias=bias)
        self.upsample = scale == "up"
        self.pad = pad

    def forward(self, x: Tensor, *, add_bias: bool = True) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H', W')``; without the bias if the caller adds it."""
        return self.convolve(x, self.weight, self.bias if add_bias else None)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Apply the layer with the given weight ``(out_ch, in_ch, 3, 3)`` and bias."""
        if self.upsample:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        if self.pad:
            x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(x, weight, bias, self.stride)


class SpectralConv2d(ScaledConv2d):
    """ScaledConv2d whose weight is divided by u^T W v, an estimate of its largest singular value.

    ``weight_u`` and ``weight_v`` are refined by one power iteration per forward in train mode (v first, then u, as in
    the released training) and used as they are in eval mode. Arguments as for :class:`ScaledConv2d`.
    """

    recomputing = False  # whether a forward is repeated for its gradients: u and v are then those of the first time

    def __init__(self, in_ch: int, out_ch: int, *, scale: str = "none", bias: bool = True, pad: bool = True) -> None:
        super().__init__(in_ch, out_ch, scale=scale, bias=bias, pad=pad)
        weight = self.weight
        del self.weight
        self.weight_orig = weight
        self.register_buffer("weight_u", F.normalize(weight.new_empty(out_ch).normal_(), dim=0, eps=1e-12))
        self.register_buffer("weight_v", F.normalize(weight.new_empty(in_ch * 9).normal_(), dim=0, eps=1e-12))

    def forward(self, x: Tensor, *, add_bias: bool = True) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H', W')``; without the bias if the caller adds it."""
        return self.convolve(x, self.normalised_weight(), self.bias if add_bias else None)

    def normalised_weight(self) -> Tensor:
        """Return the weight in use; in train mode this refines ``weight_u`` and ``weight_v`` once."""
        matrix = self.weight_orig.flatten(1)
        with torch.autocast(matrix.device.type, enabled=False):
            if self.training and not self.recomputing:
                self.refine()
            # copies: a second forward before the backward must not change what autograd saved
            u, v = self.weight_u.clone(), self.weight_v.clone()
            sigma = torch.dot(u, torch.mv(matrix, v))
        return self.weight_orig / sigma

    @torch.no_grad()
    def refine(self) -> None:
        """Bring ``weight_u`` and ``weight_v`` closer to the singular vectors by one power iteration."""
        matrix = self.weight_orig.flatten(1)
        self.weight_v.copy_(F.normalize(torch.mv(matrix.t(), self.weight_u), dim=0, eps=1e-12))
        self.weight_u.copy_(F.normalize(torch.mv(matrix, self.weight_v), dim=0, eps=1e-12))


class EqualConv2d(nn.Conv2d):
    """3x3 convolution with equalised learning rate: its weight is ``weight_orig * sqrt(2 / (9 * in_ch))``.

    ``weight_orig`` starts from N(0, 1), the bias from 0 and is not scaled.

    Args:
        in_ch: Channels in.
        out_ch: Channels out.
    """

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__(in_ch, out_ch, 3, padding=1)
        weight = self.weight
        del self.weight
        self.weight_orig = weight
        self.scale = math.sqrt(2 / (9 * in_ch))
        nn.init.normal_(self.weight_orig)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, *, add_bias: bool = True) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H, W)``; without the bias if the caller adds it."""
        return F.conv2d(x, self.weight_orig * self.scale, self.bias if add_bias else None, padding=1)


class JoinedConv2d(nn.Conv2d):
    """1x1 convolution of feature maps side by side, as a sum over them: they are not copied into one tensor.

    Args:
        part_ch: Channels of each map.
        out_ch: Channels out.
        num_parts: Number of maps.
    """

    def __init__(self, part_ch: int, out_ch: int, *, num_parts: int) -> None:
        super().__init__(num_parts * part_ch, out_ch, 1)
        self.part_ch = part_ch

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Map ``num_parts`` maps ``(N, part_ch, H, W)`` to ``(N, out_ch, H, W)``."""
        result = self.convolve_part(0, parts[0])
        for index, part in enumerate(parts[1:], 1):
            result += self.convolve_part(index, part)
        return result

    def convolve_part(self, index: int, part: Tensor) -> Tensor:
        """Return what one map adds to the result; the first one brings the bias."""
        weight = self.weight.narrow(1, index * self.part_ch, self.part_ch)
        return F.conv2d(part, weight, self.bias if index == 0 else None)


def conv_leaky_relu(conv: ScaledConv2d | EqualConv2d, x: Tensor, negative_slope: float = 0.2) -> Tensor:
    """Convolve and apply LeakyReLU, in one pass over the result where a compiled operator is there."""
    if choose_backend(x) != "torch":
        return fused_leaky_relu(conv(x, add_bias=False), conv.bias, negative_slope)
    return F.leaky_relu(conv(x), negative_slope)


class ConvLayer(nn.Module):
    """Convolution, norm, activation; the convolution has a bias where the norm has no shift.

    Args:
        in_ch: Channels in.
        out_ch: Channels out.
        style: Norm, activation and spectral norm.
        scale: ``none``, ``up`` or ``down``.
        pad: False leaves out the padding.
    """

    def __init__(self, in_ch: int, out_ch: int, style: LayerStyle, *, scale: str = "none", pad: bool = True) -> None:
        super().__init__()
        conv = SpectralConv2d if style.spectral_norm else ScaledConv2d
        self.conv = conv(in_ch, out_ch, scale=scale, bias=style.norm in _WITH_CONV_BIAS, pad=pad)
        self.act = ACTIVATIONS[style.act](out_ch)
        self.norm = NORMS[style.norm](out_ch)
        self.bias_meets_act = style.norm == "none" and style.act == "leakyrelu"

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H', W')``."""
        if self.bias_meets_act:
            return conv_leaky_relu(self.conv, x, self.act.negative_slope)
        return self.act(self.norm(self.conv(x)))


def refine_spectral_norm(network: nn.Module) -> None:
    """Refine the vectors of every SpectralConv2d once, as a forward in train mode does."""
    for module in network.modules():
        if isinstance(module, SpectralConv2d):
            module.refine()


class _Recomputing:
    """Context in which the spectral norms of a block keep their vectors; it can be entered again."""

    def __init__(self, block: nn.Module) -> None:
        self._layers = [module for module in block.modules() if isinstance(module, SpectralConv2d)]

    def __enter__(self) -> None:
        self._set(True)

    def __exit__(self, *_exception: object) -> None:
        self._set(False)

    def _set(self, recomputing: bool) -> None:
        for layer in self._layers:
            layer.recomputing = recomputing


def run_checkpointed(block: nn.Module, *inputs: Tensor) -> Tensor:
    """Run a block without keeping its features; the backward computes them again, with the same result.

    The block must have no BatchNorm (the second forward would move its statistics again), and no other forward of it
    in train mode may come before the backward.
    """
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _Recomputing(block)))


@torch.no_grad()
def init_weights(network: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02) and BatchNorm scales from N(1, 0.02); set their biases to 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight_orig if isinstance(module, SpectralConv2d) else module.weight
            nn.init.normal_(weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
