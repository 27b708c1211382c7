"""Comparison pictures: one row per face, ``input | bicubic | result | ground truth``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from facesr_plugin.utils.visualize import caption_font

_GAP_PX = 8
_BACKGROUND = "#ffffff"
_TEXT = "#333333"


class Comparison(NamedTuple):
    """One row: ``(H, W, 3)`` uint8 RGB images; ``gt``, if there is one, has the size of ``sr``."""

    lq: np.ndarray
    sr: np.ndarray
    gt: np.ndarray | None = None


def resize_bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``(H, W, 3)`` uint8 RGB to ``(height, width)`` with Pillow's bicubic, the baseline of the tables."""
    return _resize(image, size, Image.Resampling.BICUBIC)


def comparison_grid(rows: Sequence[Comparison]) -> np.ndarray:
    """Draw the rows under captions, every cell of one size and pixel for pixel (only the input is enlarged).

    The input is enlarged with nearest, to show its pixels; one that is larger than the result is reduced with bicubic.

    Args:
        rows: At least one ``Comparison`` (or plain tuple). Results of different sizes are centred in their cells.

    Returns:
        ``(H, W, 3)`` uint8 RGB on white.

    Raises:
        ValueError: If there are no rows, or a ground truth differs from its result in size.
    """
    if not rows:
        raise ValueError("rows must hold at least one comparison, got none")
    rows = [Comparison(*row) for row in rows]
    table = [_cells(row) for row in rows]
    titles = _titles(rows)
    height, width = (max(row.sr.shape[axis] for row in rows) for axis in (0, 1))
    font = caption_font(max(13, width // 20))
    boxes = [font.getbbox(title) for title in titles]
    width = max(width, *(int(box[2]) for box in boxes))
    header = max(int(box[3]) for box in boxes) + _GAP_PX
    columns, lines = len(titles), len(rows)
    size = (_GAP_PX + columns * (width + _GAP_PX), _GAP_PX + header + lines * (height + _GAP_PX))
    canvas = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        left = _GAP_PX + column * (width + _GAP_PX)
        draw.text((left + (width - boxes[column][2]) // 2, _GAP_PX), title, fill=_TEXT, font=font)
        for line, cells in enumerate(table):
            if column < len(cells):
                top = _GAP_PX + header + line * (height + _GAP_PX)
                _paste(canvas, cells[column], (left, top), (width, height))
    return np.array(canvas)


def _cells(row: Comparison) -> list[np.ndarray]:
    size = row.sr.shape[:2]
    smaller = row.lq.shape[0] <= size[0] and row.lq.shape[1] <= size[1]
    kernel = Image.Resampling.NEAREST if smaller else Image.Resampling.BICUBIC
    cells = [_resize(row.lq, size, kernel), resize_bicubic(row.lq, size), row.sr]
    if row.gt is not None:
        if row.gt.shape != row.sr.shape:
            raise ValueError(f"gt must have the size of its result {row.sr.shape[:2]}, got {row.gt.shape[:2]}")
        cells.append(row.gt)
    return cells


def _titles(rows: Sequence[Comparison]) -> list[str]:
    """Captions of the columns; the input's size is told where all rows share it."""
    sizes = {row.lq.shape[:2] for row in rows}
    height, width = next(iter(sizes))
    titles = [f"input {width} x {height}" if len(sizes) == 1 else "input", "bicubic", "result"]
    return [*titles, "ground truth"] if any(row.gt is not None for row in rows) else titles


def _resize(image: np.ndarray, size: tuple[int, int], kernel: Image.Resampling) -> np.ndarray:
    return np.array(Image.fromarray(image).resize(size[::-1], kernel))


def _paste(canvas: Image.Image, cell: np.ndarray, corner: tuple[int, int], space: tuple[int, int]) -> None:
    """Put a picture into the middle of its place."""
    picture = Image.fromarray(cell)
    left, top = (at + (room - side) // 2 for at, room, side in zip(corner, space, picture.size, strict=True))
    canvas.paste(picture, (left, top))
