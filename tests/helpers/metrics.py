"""Batches of faces for tests of metrics: BGR uint8."""

from __future__ import annotations

import numpy as np

from helpers.faces import make_image


def faces(count: int, height: int, width: int | None = None) -> np.ndarray:
    """Smooth colour images ``(N, H, W, 3)``."""
    return np.stack([make_image(seed, height, width) for seed in range(count)])


def degraded(images: np.ndarray, noise: float) -> np.ndarray:
    """The images with noise of that standard deviation, the same for each strength."""
    field = np.random.default_rng(7).normal(size=images.shape)
    return np.clip(images + noise * field, 0, 255).round().astype(np.uint8)
