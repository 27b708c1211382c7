"""Bias and LeakyReLU in one pass, for layers without a norm between convolution and activation."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from facesr_plugin.ops.backends import choose_backend

_SCALE = 1.0  # theirs is sqrt(2) by default, as StyleGAN2 wants it


def fused_leaky_relu(x: Tensor, bias: Tensor, negative_slope: float = 0.2) -> Tensor:
    """Add a bias per channel and apply LeakyReLU; differentiable twice.

    Args:
        x: ``(N, C, H, W)``.
        bias: ``(C,)``; is cast to the type of ``x``.
        negative_slope: Of LeakyReLU.

    Returns:
        The shape and type of ``x``.
    """
    return IMPLEMENTATIONS[choose_backend(x)](x, bias.to(x.dtype), negative_slope)


def _basicsr(x: Tensor, bias: Tensor, negative_slope: float) -> Tensor:
    from basicsr.ops.fused_act import fused_leaky_relu as compiled

    return compiled(x, bias, negative_slope, _SCALE)


def _mmcv(x: Tensor, bias: Tensor, negative_slope: float) -> Tensor:
    from mmcv.ops import fused_bias_leakyrelu

    return fused_bias_leakyrelu(x, bias, negative_slope, _SCALE)


def _torch(x: Tensor, bias: Tensor, negative_slope: float) -> Tensor:
    return F.leaky_relu(x + bias.view(-1, 1, 1), negative_slope)


IMPLEMENTATIONS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "basicsr": _basicsr,
    "mmcv": _mmcv,
    "torch": _torch,
}
