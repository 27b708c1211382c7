"""What a system's card says about tensors: the network's input, its range, and the way back to 8 bits."""

from __future__ import annotations

import torch
from torch import Tensor

from facesr_plugin.cards import SystemCard
from facesr_plugin.ops.resize import resize_pil
from facesr_plugin.ops.resize_opencv import enlarge_opencv

UPSAMPLERS = {"pil": resize_pil, "opencv": enlarge_opencv}


def prepare_input(lq: Tensor, card: SystemCard, size: tuple[int, int] | None = None) -> Tensor:
    """Turn small images into the network's input: enlarged as the card says, then normalised.

    Args:
        lq: ``(N, 3, h, w)`` float RGB in [0, 1].
        card: Of the system.
        size: ``(height, width)`` to enlarge to; the card's square ``gt_size`` by default. Without effect on a
            system that takes the small image itself, which accepts the size of ``lq`` only.

    Returns:
        ``(N, 3, H, W)`` float32 in the network's range. Images that have the target size already are only normalised,
        not rounded to 8 bits.

    Raises:
        ValueError: If ``lq`` has another shape, or ``size`` asks for an enlargement that the system does not make.
    """
    if lq.ndim != 4 or lq.shape[1] != 3:
        raise ValueError(f"lq must have shape (N, 3, h, w), got {tuple(lq.shape)}")
    here = (lq.shape[-2], lq.shape[-1])
    if card.upsampling is None:
        if size is not None and tuple(size) != here:
            raise ValueError(f"size must be that of lq, {here}, for system {card.system}, got {tuple(size)}")
        return normalise(lq, card)
    target = (card.gt_size, card.gt_size) if size is None else tuple(size)
    if here != target:
        enlarged = UPSAMPLERS[card.upsampling.library](to_uint8(lq), target, card.upsampling.kernel)
        lq = to_float(enlarged)
    return normalise(lq, card)


def reduce_faces(faces: Tensor, card: SystemCard, scale: int) -> Tensor:
    """Reduce faces as the data sets make the system's small input: with Pillow's kernel, in 8 bits.

    Args:
        faces: ``(N, 3, H, W)`` RGB in [0, 1].
        card: Of the system.
        scale: H and W are multiples of it.

    Returns:
        ``(N, 3, H / scale, W / scale)`` float32 in [0, 1].

    Raises:
        ValueError: If the system cannot reduce by ``scale``.
    """
    images = to_uint8(faces)
    for factor in card.reduction.factors(scale):
        size = (images.shape[-2] // factor, images.shape[-1] // factor)
        images = resize_pil(images, size, card.reduction.kernel)
    return to_float(images)


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]."""
    return images.to(torch.float32).div(255)


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [0, 1] as the nearest uint8 (half to even); exact for what ``to_float`` made."""
    return images.to(torch.float32).mul(255).round().clamp(0, 255).to(torch.uint8)


def normalise(images: Tensor, card: SystemCard) -> Tensor:
    """Map ``(N, 3, H, W)`` RGB in [0, 1] to the network's range, in float32: minus mean, then divided by std."""
    mean, std = _statistics(images, card)
    return images.to(torch.float32).sub(mean).div(std)


def denormalise(output: Tensor, card: SystemCard) -> Tensor:
    """Map the network's range back to RGB in [0, 1], ``(N, 3, H, W)`` float32; values outside are kept."""
    mean, std = _statistics(output, card)
    return output.to(torch.float32).mul(std).add(mean)


def quantise(output: Tensor, card: SystemCard) -> Tensor:
    """Map the network's output to 8 bits with the card's clipping and rounding.

    Args:
        output: ``(N, 3, H, W)`` RGB in the network's range.
        card: Of the system; ``output_rounding`` is ``truncate`` or ``round`` (half to even).

    Returns:
        ``(N, 3, H, W)`` uint8.
    """
    levels = denormalise(output, card).mul(255).clamp(0, 255)
    return _ROUNDINGS[card.output_rounding](levels).to(torch.uint8)


_ROUNDINGS = {"truncate": torch.trunc, "round": torch.round}


def _statistics(images: Tensor, card: SystemCard) -> tuple[Tensor, Tensor]:
    shape = (3, 1, 1)
    mean, std = (torch.tensor(values, dtype=torch.float32).view(shape) for values in (card.mean, card.std))
    return mean.to(images.device, non_blocking=True), std.to(images.device, non_blocking=True)
