"""Batches of faces as metrics take them: ``(N, H, W, 3)`` BGR uint8, checked once, and put on a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def check_faces(img: np.ndarray, img2: np.ndarray | None = None, *, smallest: int = 1) -> None:
    """Refuse what is no batch of faces, or no two of the same sizes.

    Args:
        img: Restored, ``(N, H, W, 3)`` BGR uint8.
        img2: Ground truth, same shape.
        smallest: Least side in pixels.

    Raises:
        TypeError: If an array is not uint8.
        ValueError: If shapes are wrong or differ, or a side is too small.
    """
    if img2 is not None and img.shape != img2.shape:
        raise ValueError(
            f"images must have the same shape, got {img.shape[1:]} and {img2.shape[1:]} in batches of {len(img)} and "
            f"{len(img2)}. Compare with the ground truth of the same face at the same size."
        )
    if img.ndim != 4 or img.shape[3] != 3 or not len(img):
        raise ValueError(f"images must have shape (N, H, W, 3), BGR, N >= 1, got {img.shape}")
    for name, images in {"img": img, "img2": img2}.items():
        if images is not None and images.dtype != np.uint8:
            raise TypeError(f"{name} must be uint8, got {images.dtype}")
    if min(img.shape[1:3]) < smallest:
        raise ValueError(f"images must have sides of {smallest} or more, got {img.shape[2]} x {img.shape[1]}")


def to_signed(images: np.ndarray, device: torch.device, *, bgr: bool = False) -> Tensor:
    """Return a batch as ``(N, 3, H, W)`` float32 in [-1, 1] on a device, RGB unless ``bgr``."""
    planes = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
    return (planes if bgr else planes.flip(1)).float() / 127.5 - 1
