"""Similarity from five points to the FFHQ template, and the warp that goes with it.

Source: SPARNet's whole-photo program (Face-SPARNet, ``test_enhance_single_unalign``), which aligns with scikit-image:
Umeyama's least-squares similarity (IEEE TPAMI 13(4), 1991) and cubic convolution with a = -0.5 (Catmull-Rom). The
kernel is written out here because no library that the package needs has it: OpenCV's and torch's cubic use a = -0.75,
scipy's is a B-spline.

Matrices are 2x3 float64 and map (x, y) of the source to the target; pixel centres are integers in both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FFHQ_SIZE = 512
# Left eye, right eye (as seen in the picture), nose tip, left and right mouth corner: facexlib's points.
FFHQ_TEMPLATE = (
    (192.98138, 239.94708),
    (318.90277, 240.19360),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)
_CHUNK = 1 << 16  # target pixels at a time: 16 taps each, with index and weight, are 12 MB


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the rotation, uniform scale and shift that bring points closest to others, by least squares.

    Args:
        source: ``(K, 2)`` points (x, y), at least two different ones.
        target: ``(K, 2)`` points to reach. A mirrored face is not mirrored back.

    Raises:
        ValueError: If the shapes do not fit, a value is not finite, or all source points coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(f"points must be two arrays (K, 2), K >= 2, got {source.shape} and {target.shape}")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("points must be finite, got NaN or infinity")
    mean_source, mean_target = source.mean(0), target.mean(0)
    x, y = (source - mean_source).T
    u, v = (target - mean_target).T
    spread = (x * x + y * y).sum()
    if spread == 0:
        raise ValueError(f"points must not coincide, got {len(source)} times {source[0].tolist()}")
    cosine, sine = (x * u + y * v).sum() / spread, (x * v - y * u).sum() / spread  # both times the scale
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, mean_target - linear @ mean_source])


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the 2x3 matrix of the way back.

    Raises:
        ValueError: If there is none.
    """
    linear, shift = np.asarray(matrix, np.float64)[:, :2], np.asarray(matrix, np.float64)[:, 2]
    if not np.isfinite(matrix).all() or np.linalg.det(linear) == 0:
        raise ValueError(f"matrix must be finite and invertible, got {np.asarray(matrix).tolist()}")
    back = np.linalg.inv(linear)
    return np.column_stack([back, -back @ shift])


def scale_of(matrix: np.ndarray) -> float:
    """Return how many target pixels a source pixel is long."""
    return float(np.sqrt(abs(np.linalg.det(np.asarray(matrix)[:, :2]))))


def rescale_target(matrix: np.ndarray, factor: float) -> np.ndarray:
    """Return the matrix to the same target resized by ``factor``, whose corners (not centres) stay in place."""
    scaled = np.asarray(matrix, np.float64) * factor
    scaled[:, 2] += (factor - 1) / 2
    return scaled


def rescale_source(matrix: np.ndarray, factor: float) -> np.ndarray:
    """Return the matrix from the same source resized by ``factor``."""
    return invert(rescale_target(invert(matrix), factor))


def transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move ``(..., 2)`` points (x, y)."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def warp_cubic(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample an image with Catmull-Rom cubic convolution, as scikit-image's ``warp`` of order 3 (mode constant).

    Args:
        image: ``(H, W)`` or ``(H, W, C)``, any real type. Taps outside it count as 0.
        matrix: From ``image`` to the result. A strong reduction aliases: reduce the image first.
        size: ``(height, width)`` of the result.

    Returns:
        ``(height, width)`` or ``(height, width, C)`` float32 in the range of ``image``: clipped to
        [min(image, 0), max(image)].

    Raises:
        ValueError: If ``image`` has another shape or is empty, or ``matrix`` cannot be inverted.
    """
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"image must have shape (H, W) or (H, W, C), got {image.shape}")
    height, width = image.shape[:2]
    values = np.ascontiguousarray(image, dtype=np.float32).reshape(height * width, -1)
    pixels = torch.from_numpy(values)
    back = invert(matrix)
    count = size[0] * size[1]
    result = torch.empty(count, pixels.shape[1])
    for start in range(0, count, _CHUNK):
        index = torch.arange(start, min(start + _CHUNK, count))
        columns, rows = (index % size[1]).double(), (index // size[1]).double()
        x_taps, x_weights = _taps(columns * back[0, 0] + rows * back[0, 1] + back[0, 2], width)
        y_taps, y_weights = _taps(columns * back[1, 0] + rows * back[1, 1] + back[1, 2], height)
        taps = (y_taps[:, :, None] * width + x_taps[:, None, :]).flatten(1)  # (P, 16)
        weights = (y_weights[:, :, None] * x_weights[:, None, :]).flatten(1)
        result[start : start + _CHUNK] = F.embedding_bag(taps, pixels, per_sample_weights=weights, mode="sum")
    result.clamp_(min(float(values.min()), 0.0), float(values.max()))
    return result.numpy().reshape(*size, *image.shape[2:])


def _taps(position: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the four taps about each of P positions on an axis, ``(P, 4)``: indices, and weights (0 outside)."""
    first = position.floor()
    t = (position - first).unsqueeze(1)
    taps = first.unsqueeze(1) + torch.arange(-1, 3)
    near, far = (lambda d: (1.5 * d - 2.5) * d * d + 1), (lambda d: ((-0.5 * d + 2.5) * d - 4) * d + 2)
    weights = torch.cat([far(1 + t), near(t), near(1 - t), far(2 - t)], dim=1)
    inside = (taps >= 0) & (taps < length)
    return taps.clamp(0, length - 1).to(torch.int64), (weights * inside).to(torch.float32)
