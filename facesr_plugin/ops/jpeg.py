"""What a JPEG file does to images, in batch and on any device: libjpeg's steps without the entropy coding.

Colour conversion, chroma halving (4:2:0), 8x8 DCT, quantisation with the standard's example tables, and back, with
libjpeg's whole-number arithmetic and its triangle filter for enlarging chroma: the bytes are those of Pillow.
Source: ITU-T T.81 Annex K (tables), JFIF 1.02 (colour), libjpeg's documented defaults.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

_MCU = 16  # side of what 4:2:0 codes together
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *([(99,) * 8] * 4),
)
# libjpeg's fixed-point numbers: colours in 16 bits, the DCT's cosines (times 2**0.5, added up from 12 constants) in 13
_TO_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
_RED_CR, _GREEN_CB, _GREEN_CR, _BLUE_CB = 91881, -22554, -46802, 116130
_COLOUR_BITS, _COSINE_BITS, _EXTRA_BITS = 16, 13, 2


def compress_jpeg(images: Tensor, qualities: Sequence[int]) -> Tensor:
    """Return what a reader of JPEG files of these images would see.

    Args:
        images: ``(N, 3, h, w)`` float RGB, whole numbers 0 to 255.
        qualities: One per image, 1 to 100.

    Returns:
        ``(N, 3, h, w)`` float32 RGB, whole numbers 0 to 255.
    """
    height, width = images.shape[-2:]
    y, cb, cr = _to_ycc(_extend(images, height % 2, -width % _MCU)).unbind(1)
    luma = _code(y, _tables(_LUMA, qualities, images.device))[:, :height, :width]
    tables = _tables(_CHROMA, qualities, images.device)
    small = [_code(_halve(plane), tables)[:, : (height + 1) // 2, : (width + 1) // 2] for plane in (cb, cr)]
    return _to_rgb(luma, *(_double(plane)[:, :height, :width] - 128 for plane in small))


def _extend(planes: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column of ``(..., h, w)``."""
    planes = torch.cat([planes, planes[..., -1:, :].expand(*planes.shape[:-2], rows, -1)], dim=-2)
    return torch.cat([planes, planes[..., -1:].expand(*planes.shape[:-1], columns)], dim=-1)


def _to_ycc(images: Tensor) -> Tensor:
    red, green, blue = images.double().unbind(1)
    sums = [r * red + g * green + b * blue for r, g, b in _TO_YCC]
    grey = 128 * 2**_COLOUR_BITS - 1
    return torch.stack([_shift(plane, _COLOUR_BITS) for plane in (sums[0], sums[1] + grey, sums[2] + grey)], dim=1)


def _to_rgb(y: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    red = y + _shift(_RED_CR * cr, _COLOUR_BITS)
    green = y + _shift(_GREEN_CB * cb + _GREEN_CR * cr, _COLOUR_BITS)
    blue = y + _shift(_BLUE_CB * cb, _COLOUR_BITS)
    return torch.stack([red, green, blue], dim=1).clamp(0, 255).float()


def _shift(values: Tensor, bits: int) -> Tensor:
    """Divide whole numbers by ``2**bits``, rounded, halves upwards."""
    return ((values + 2 ** (bits - 1)) / 2**bits).floor()


def _halve(plane: Tensor) -> Tensor:
    """Average 2x2 samples of ``(N, h, w)``; the rounding alternates from column to column."""
    sums = plane[:, ::2, ::2] + plane[:, ::2, 1::2] + plane[:, 1::2, ::2] + plane[:, 1::2, 1::2]
    bias = torch.arange(sums.shape[-1], device=plane.device) % 2 + 1
    return ((sums + bias) / 4).floor()


def _double(plane: Tensor) -> Tensor:
    """Enlarge ``(N, h, w)`` twofold with the triangle filter: 3/4 of the nearer sample, 1/4 of the other."""
    above, below = _neighbours(plane, -2)
    rows = torch.stack([3 * plane + above, 3 * plane + below], dim=2).flatten(1, 2)  # (N, 2h, w)
    left, right = _neighbours(rows, -1)
    columns = torch.stack([((3 * rows + left + 8) / 16).floor(), ((3 * rows + right + 7) / 16).floor()], dim=3)
    return columns.flatten(2, 3)


def _neighbours(plane: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the previous and the next sample along ``dim``; the edge is its own neighbour."""
    size = plane.shape[dim]
    before = torch.cat([plane.narrow(dim, 0, 1), plane.narrow(dim, 0, size - 1)], dim)
    after = torch.cat([plane.narrow(dim, 1, size - 1), plane.narrow(dim, size - 1, 1)], dim)
    return before, after


def _code(plane: Tensor, tables: Tensor) -> Tensor:
    """Round the DCT coefficients of every 8x8 block of ``(N, h, w)`` to multiples of the table's."""
    plane = _extend(plane, -plane.shape[-2] % 8, -plane.shape[-1] % 8)
    count, height, width = plane.shape
    blocks = plane.view(count, height // 8, 8, width // 8, 8).transpose(2, 3) - 128  # (N, rows, columns, 8, 8)
    cosines = _cosines(plane.device)
    tables = tables.view(count, 1, 1, 8, 8)
    rows = _shift(blocks @ cosines.T, _COSINE_BITS - _EXTRA_BITS)
    coefficients = _shift(cosines @ rows, _COSINE_BITS + _EXTRA_BITS)  # 8 times those of the orthonormal DCT
    kept = coefficients.sign() * ((coefficients.abs() + 4 * tables) / (8 * tables)).floor() * tables
    columns = _shift(cosines.T @ kept, _COSINE_BITS - _EXTRA_BITS)
    restored = (_shift(columns @ cosines, _COSINE_BITS + _EXTRA_BITS + 3) + 128).clamp(0, 255)
    return restored.transpose(2, 3).reshape(count, height, width)


@functools.lru_cache(maxsize=4)
def _cosines(device: torch.device) -> Tensor:
    """Return libjpeg's ``(8, 8)`` DCT matrix, one row per frequency, as the sums of its "islow" flow graph.

    Differs from the rounded cosines by 1 in some places. The whole-number sums are exact in float64.
    """
    x = torch.eye(8, dtype=torch.float64)
    (s0, s1, s2, s3), (d4, d5, d6, d7) = x[:4] + x[4:].flip(0), (x[:4] - x[4:].flip(0)).flip(0)
    even = 4433 * (s1 - s2 + s0 - s3)
    z1, z2, z3, z4 = -7373 * (d4 + d7), -20995 * (d5 + d6), -16069 * (d4 + d6), -3196 * (d5 + d7)
    z5 = 9633 * (d4 + d5 + d6 + d7)
    rows = (
        8192 * (s0 + s1 + s2 + s3),
        12299 * d7 + z1 + z4 + z5,
        even + 6270 * (s0 - s3),
        25172 * d6 + z2 + z3 + z5,
        8192 * (s0 + s3 - s1 - s2),
        16819 * d5 + z2 + z4 + z5,
        even - 15137 * (s1 - s2),
        2446 * d4 + z1 + z3 + z5,
    )
    return torch.stack(rows).to(device)


def _tables(base: Sequence[Sequence[int]], qualities: Sequence[int], device: torch.device) -> Tensor:
    """Return libjpeg's table of each quality, ``(N, 8, 8)`` float64."""
    scales = [5000 // quality if quality < 50 else 200 - 2 * quality for quality in qualities]
    scaled = torch.tensor(base)[None] * torch.tensor(scales).view(-1, 1, 1)
    return ((scaled + 50) // 100).clamp(1, 255).to(device, torch.float64)
