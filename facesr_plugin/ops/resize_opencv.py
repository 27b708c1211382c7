"""OpenCV's bicubic enlargement of 8-bit images, batched and on any device.

OpenCV's kernel (Keys, a = -0.75, no antialiasing) and its repeated border are those of PyTorch's bicubic interpolation.
A value that lies half-way between two levels within float32's rounding may get the other level: about 4 of a million
pixels of noise enlarged by 8. Source: OpenCV 4.8 and 5.0 on x86, whose vector code computes in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def enlarge_opencv(images: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """Enlarge as ``cv2.resize`` with ``INTER_CUBIC``.

    Args:
        images: ``(N, C, h, w)`` uint8.
        size: ``(height, width)`` of the result.
        kernel: ``bicubic``.

    Returns:
        ``(N, C, height, width)`` uint8.

    Raises:
        TypeError: If ``images`` is not uint8.
        ValueError: If ``kernel`` is another one.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}. Quantise them first.")
    if kernel != "bicubic":
        raise ValueError(f"kernel must be bicubic, got {kernel!r}")
    enlarged = F.interpolate(images.to(torch.float32), size=size, mode="bicubic", align_corners=False)
    return enlarged.round_().clamp_(0, 255).to(torch.uint8)
