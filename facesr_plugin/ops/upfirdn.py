"""Halving by bicubic interpolation, which is a small filter at every second pixel (upfirdn: up, filter, down)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from facesr_plugin.ops.backends import choose_backend

_TAPS = (-3 / 32, 19 / 32, 19 / 32, -3 / 32)  # of the cubic with a = -0.75, midway between two pixels


def halve(image: Tensor) -> Tensor:
    """Shrink ``(N, C, H, W)`` to floor(H / 2) x floor(W / 2) by bicubic interpolation without antialiasing.

    Same as ``F.interpolate(image, scale_factor=0.5, mode="bicubic")``: the step is exactly two pixels, also for odd
    sizes, and values may leave the range of the image. Differentiable twice.
    """
    return IMPLEMENTATIONS[choose_backend(image)](image)


def _basicsr(image: Tensor) -> Tensor:
    from basicsr.ops.upfirdn2d import upfirdn2d

    return upfirdn2d(_pad(image), _kernel(image.device, image.dtype), 1, 2, (0, 0))


def _mmcv(image: Tensor) -> Tensor:
    from mmcv.ops import upfirdn2d

    return upfirdn2d(_pad(image), _kernel(image.device, torch.float32), 1, 2, (0, 0))


def _torch(image: Tensor) -> Tensor:
    return F.interpolate(image, scale_factor=0.5, mode="bicubic", align_corners=False)


def _pad(image: Tensor) -> Tensor:
    """Repeat the rim once, as interpolation does; the last repeated row or column of an odd size is not reached."""
    return F.pad(image, (1, 1, 1, 1), mode="replicate")


def _kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    taps = torch.tensor(_TAPS, dtype=dtype).to(device, non_blocking=True)
    return torch.outer(taps, taps)


IMPLEMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {"basicsr": _basicsr, "mmcv": _mmcv, "torch": _torch}
