"""SPARNet and SPARNetHD: face super-resolution with spatial attention in every residual block.

Source: *Learning Spatial Attention for Face Super-Resolution* (Chen et al., IEEE TIP vol. 30, 2021), as released
(LeakyReLU, BatchNorm, 10.52 M parameters). What differs from the released code: blocks without norm keep their input
unactivated (the released ones activate it in place), and attention maps are not kept: read them with a forward hook on
the modules named ``attention``.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.archs.arch_util import (
    ACTIVATIONS,
    NORMS,
    ConvLayer,
    LayerStyle,
    check_int,
    choose,
    init_weights,
    run_checkpointed,
)
from facesr_plugin.registry import ARCH_REGISTRY

ATTENTIONS = ("spar", "spar3d")
_ATTENTION_CH = 64
_NOMINAL_SIZE = 64  # the depth of the attention follows this constant, not in_size: checkpoints depend on it


class AttentionHourglass(nn.Module):
    """Predict an attention map with an hourglass of ``depth`` levels (Sec. III-B).

    Args:
        in_ch: Channels of the features.
        out_ch: Channels of the map: 1, or ``in_ch`` for one map per channel.
        style: Norm, activation and spectral norm of its layers.
        depth: Number of halvings, at least 1.
    """

    def __init__(self, in_ch: int, out_ch: int, style: LayerStyle, *, depth: int) -> None:
        super().__init__()
        mid = _ATTENTION_CH
        inputs = [mid] * (depth - 1) + [in_ch]  # level 1 (innermost) to level ``depth``
        self.lateral = nn.ModuleList(ConvLayer(num_ch, mid, style, pad=False) for num_ch in inputs)
        self.down = nn.ModuleList(ConvLayer(num_ch, mid, style, scale="down", pad=False) for num_ch in inputs)
        self.bottleneck = ConvLayer(mid, mid, style)
        self.up = nn.ModuleList(ConvLayer(mid, mid, style, scale="up") for _ in inputs)
        self.out = ConvLayer(mid, out_ch, style.plain)

    def forward(self, feat: Tensor) -> Tensor:
        """Map features ``(N, in_ch, H, W)`` to the attention ``(N, out_ch, H, W)`` in (0, 1)."""
        sides = []
        for lateral, down in zip(reversed(self.lateral), reversed(self.down), strict=True):
            feat = F.pad(feat, (1, 1, 1, 1), mode="reflect")  # once for both layers, which keep it for the backward
            sides.append(lateral(feat))
            feat = down(feat)
        feat = self.bottleneck(feat)
        for up in self.up:
            side = sides.pop()
            # an odd side was halved upwards: nearest interpolation back to it drops the last row or column
            feat = side + up(feat)[..., : side.shape[-2], : side.shape[-1]]
        return torch.sigmoid(self.out(feat))


class FaceAttentionUnit(nn.Module):
    """Residual block whose features are multiplied by an attention map made from them (Sec. III-A, FAU).

    Args:
        in_ch: Channels in.
        out_ch: Channels out.
        style: Norm, activation and spectral norm of its layers.
        scale: ``none``, ``up`` or ``down``.
        depth: Levels of the attention hourglass; 0 for no attention.
        attention: ``spar`` for one map, ``spar3d`` for one per channel.
    """

    def __init__(
        self, in_ch: int, out_ch: int, *, style: LayerStyle, scale: str, depth: int, attention: str = "spar"
    ) -> None:
        super().__init__()
        resized = scale != "none" or in_ch != out_ch
        self.shortcut = ConvLayer(in_ch, out_ch, style.plain, scale=scale) if resized else nn.Identity()
        self.norm = NORMS[style.norm](in_ch)
        self.act = ACTIVATIONS[style.act](in_ch)
        self.conv1 = ConvLayer(in_ch, out_ch, style, scale="up" if scale == "up" else "none")
        self.conv2 = ConvLayer(out_ch, out_ch, style._replace(act="none"), scale="down" if scale == "down" else "none")
        map_ch = 1 if attention == "spar" else out_ch
        self.attention = AttentionHourglass(out_ch, map_ch, style, depth=depth) if depth else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_ch, H, W)`` to ``(N, out_ch, H', W')``."""
        feat = self.norm(x)
        feat = self.act(x.clone() if feat is x else feat)  # without norm the activation would overwrite x
        feat = self.conv2(self.conv1(feat))
        if self.attention is not None:
            feat = feat * self.attention(feat)
        return self.shortcut(x) + feat


class _Plan(NamedTuple):
    """Widths after the first convolution and each halving, of the body and after each doubling; blocks; depth."""

    down: list[int]
    up: list[int]
    num_body: int
    depth: int


def _plan(
    *, min_ch: int, max_ch: int, in_size: int, out_size: int, min_feat_size: int, res_depth: int, bottleneck_size: int
) -> _Plan:
    """Lay out SPARNet's blocks from checked sizes; depth is that of the first block's attention."""
    halvings, doublings = _log2(in_size // min_feat_size), _log2(out_size // min_feat_size)
    if res_depth + 3 < halvings:
        raise ValueError(f"res_depth must be at least {halvings - 3} for {halvings} halvings, got {res_depth}")
    largest = min(_NOMINAL_SIZE, 2 * _NOMINAL_SIZE >> halvings)
    if bottleneck_size > largest:
        raise ValueError(
            f"bottleneck_size must be at most {largest} for in_size {in_size} and min_feat_size {min_feat_size}, got "
            f"{bottleneck_size}: the attention would have a negative depth"
        )
    width = _limit(max_ch // (halvings + 1), min_ch, max_ch)
    widest = width << halvings
    return _Plan(
        [_limit(width << i, min_ch, max_ch) for i in range(halvings + 1)],
        [_limit(widest >> i, min_ch, max_ch) for i in range(doublings + 1)],
        res_depth + 3 - halvings,
        _log2(_NOMINAL_SIZE // bottleneck_size),
    )


def _check_sizes(sizes: dict[str, int]) -> None:
    for name, value in sizes.items():
        check_int(name, value, least=0 if name == "res_depth" else 1)
    for small, large in (("min_ch", "max_ch"), ("min_feat_size", "in_size"), ("min_feat_size", "out_size")):
        if sizes[small] > sizes[large]:
            raise ValueError(f"{small} must be at most {large} ({sizes[large]}), got {sizes[small]}")


def _check_checkpointing(checkpointing: bool, norm: str) -> None:
    if not isinstance(checkpointing, bool):
        raise TypeError(f"checkpointing must be true or false, got {checkpointing!r}")
    if checkpointing and norm == "bn":
        raise ValueError("checkpointing must be false for norm_type 'bn', whose statistics would move twice, got True")


def _limit(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


def _log2(value: int) -> int:
    """Return the integer part of log2."""
    return value.bit_length() - 1


@ARCH_REGISTRY.register()
class SPARNet(nn.Module):
    """Restore a face that was already enlarged to the output size. Input and output: RGB in [-1, 1], output unclamped.

    The defaults are SPARNet (16x16 to 128x128, enlarged by bicubic interpolation first). SPARNet-Light has
    ``res_depth`` 1 and ``att_name`` spar3d; SPARNetHD has ``max_ch``, ``in_size`` and ``out_size`` 512,
    ``min_feat_size`` 32, ``norm_type`` in and ``spectral_norm``. Images need not have the nominal size; sides that are
    not a multiple of 2^(halvings) give a larger output (100 gives 104).

    Args:
        min_ch: Smallest width.
        max_ch: Largest width.
        in_size: Nominal side of the input; with ``min_feat_size`` it sets the number of halvings.
        out_size: Nominal side of the output; with ``min_feat_size`` it sets the number of doublings.
        min_feat_size: Side of the features in the body at the nominal size.
        res_depth: Blocks in the body, were there three halvings; each further halving replaces one.
        relu_type: ``leakyrelu``, ``relu``, ``selu``, ``prelu`` or ``none``.
        norm_type: ``bn``, ``in``, ``gn``, ``pixel`` or ``none``.
        att_name: ``spar`` (one map per block) or ``spar3d`` (one per channel).
        bottleneck_size: Side of the smallest attention features for an ``in_size`` of 128.
        spectral_norm: Divide every convolution's weight by its spectral norm.
        checkpointing: In training, compute the features of each block again in the backward instead of keeping them:
            less memory, one more forward. Not with ``bn``.

    Raises:
        TypeError: If a size is not an int, or ``spectral_norm`` or ``checkpointing`` not a bool.
        ValueError: If a value is out of range or the values contradict each other.
    """

    def __init__(
        self,
        *,
        min_ch: int = 32,
        max_ch: int = 128,
        in_size: int = 128,
        out_size: int = 128,
        min_feat_size: int = 16,
        res_depth: int = 10,
        relu_type: str = "leakyrelu",
        norm_type: str = "bn",
        att_name: str = "spar",
        bottleneck_size: int = 4,
        spectral_norm: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"min_ch": min_ch, "max_ch": max_ch, "in_size": in_size, "out_size": out_size}
        sizes |= {"min_feat_size": min_feat_size, "res_depth": res_depth, "bottleneck_size": bottleneck_size}
        _check_sizes(sizes)
        plan = _plan(**sizes)
        style = LayerStyle.from_names(norm_type, relu_type, spectral_norm)
        _check_checkpointing(checkpointing, style.norm)
        unit = partial(FaceAttentionUnit, style=style, attention=choose("att_name", att_name, ATTENTIONS))
        self.out_size = out_size
        self.checkpointing = checkpointing
        self.min_size = 2 ** (plan.depth + 1) + 1  # reflection padding needs two pixels in the innermost features
        inner = plan.depth - len(plan.down) + 2  # all hourglasses end at the same size
        self.encoder = nn.Sequential(
            ConvLayer(3, plan.down[0], style.plain),
            *(unit(*pair, scale="down", depth=plan.depth - i) for i, pair in enumerate(pairwise(plan.down))),
        )
        width = plan.down[-1]
        self.body = nn.Sequential(*(unit(width, width, scale="none", depth=inner) for _ in range(plan.num_body)))
        self.decoder = nn.Sequential(
            *(unit(*pair, scale="up", depth=inner + 1 + i) for i, pair in enumerate(pairwise(plan.up)))
        )
        self.tail = ConvLayer(plan.up[-1], 3, style.plain)
        init_weights(self)

    def forward(self, lq: Tensor) -> Tensor:
        """Restore a batch.

        Args:
            lq: ``(N, 3, H, W)`` RGB in [-1, 1], enlarged to the output size.

        Returns:
            ``(N, 3, H', W')`` RGB in about [-1, 1].

        Raises:
            ValueError: If ``lq`` has another shape or is too small for the halvings.
        """
        if lq.dim() != 4 or lq.shape[1] != 3:
            raise ValueError(f"lq must have shape (N, 3, H, W), got {tuple(lq.shape)}")
        if min(lq.shape[2:]) < self.min_size:
            raise ValueError(
                f"lq must be at least {self.min_size}x{self.min_size}, got {lq.shape[2]}x{lq.shape[3]}. "
                f"Upsample a small face to the output size first (bicubic, {self.out_size}x{self.out_size})."
            )
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return self.tail(self.decoder(self.body(self.encoder(lq))))
        feat = lq
        for block in (*self.encoder, *self.body, *self.decoder):
            feat = run_checkpointed(block, feat)
        return self.tail(feat)
