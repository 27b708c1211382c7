"""Contact sheets of faces with their landmarks drawn on them, to check a landmark file by eye."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from facesr_plugin.data.annotations import Landmarks
from facesr_plugin.data.inputs import Item, list_items, read_item
from facesr_plugin.data.keys import key_of
from facesr_plugin.utils.imageio import decode_rgb, write_png
from facesr_plugin.utils.visualize import caption_font, draw_points

LOWEST = "lowest_scores.png"
_COLUMNS, _LINES = 5, 4
_MOST = 10 * _COLUMNS * _LINES
_CELL_PX, _GAP_PX, _CAPTION_PX = 256, 6, 18
_MARGIN = 0.2  # about the points, as part of their extent
_LETTERS = 34


class _Cell(NamedTuple):
    caption: str
    image: np.ndarray


def write_sheets(landmarks: Landmarks, source: str | os.PathLike, folder: str | os.PathLike) -> list[Path]:
    """Write ``sheet_000.png``, ... of 20 faces each, and one of the faces with the lowest scores.

    Args:
        landmarks: Of the pictures.
        source: Folder, zip file, or text file of paths.
        folder: Of the sheets. Of more than 200 faces, 200 from all over the file are shown.

    Returns:
        The files.

    Raises:
        OSError: If the input is missing or the disk is full.
        ValueError: If a picture cannot be read, or the input lacks it.
    """
    items = {item.key: item for item in list_items(source)}
    count = len(landmarks.names)
    rows = np.unique(np.linspace(0, count - 1, min(count, _MOST)).round().astype(int))
    per_sheet = _COLUMNS * _LINES
    sheets = {
        f"sheet_{k:03d}.png": rows[k * per_sheet : (k + 1) * per_sheet] for k in range(-(-len(rows) // per_sheet))
    }
    if landmarks.score is not None:
        sheets[LOWEST] = np.argsort(landmarks.score, kind="stable")[:per_sheet]
    for name, chosen in sheets.items():
        write_png(Path(folder) / name, _sheet([_cell(landmarks, row, items) for row in chosen]))
    return [Path(folder) / name for name in sheets]


def _cell(landmarks: Landmarks, row: int, items: dict[str, Item]) -> _Cell:
    name = landmarks.names[row]
    if key_of(name) not in items:
        raise ValueError(f"landmarks name the image {name}, which is not there. Give the images that they are of.")
    item = items[key_of(name)]
    picture, points = decode_rgb(read_item(item), item.name), landmarks.points[row].copy()
    if landmarks.visible is not None:
        points[~landmarks.visible[row]] = np.nan
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    side = int(np.ceil(max(float((high - low).max()) * (1 + 2 * _MARGIN), 1)))
    corner = np.floor((low + high - side) / 2)
    room = np.array(picture.shape[1::-1]) - side
    if (room >= 0).all() and (low >= 0).all() and (high < picture.shape[1::-1]).all():
        corner = corner.clip(0, room)  # no black bar where the picture has enough
    left, top = corner.astype(int).tolist()
    face = Image.fromarray(picture).crop((left, top, left + side, top + side))
    scale = _CELL_PX / face.width
    face = face.resize((_CELL_PX, _CELL_PX), Image.Resampling.BICUBIC)
    drawn = draw_points(np.asarray(face), (points - [left, top] + 0.5) * scale - 0.5)
    score = "" if landmarks.score is None else f" {landmarks.score[row]:.2f}"
    stem = PurePosixPath(name).stem
    return _Cell((stem if len(stem) < _LETTERS else f"{stem[: _LETTERS - 3]}...") + score, drawn)


def _sheet(cells: Sequence[_Cell]) -> np.ndarray:
    """Draw up to 20 cells, ``(H, W, 3)`` uint8 RGB on white."""
    width, height = _CELL_PX + _GAP_PX, _CELL_PX + _CAPTION_PX + _GAP_PX
    columns, lines = min(len(cells), _COLUMNS), -(-len(cells) // _COLUMNS)
    canvas = Image.new("RGB", (columns * width + _GAP_PX, lines * height + _GAP_PX), "#ffffff")
    draw, font = ImageDraw.Draw(canvas), caption_font(_CAPTION_PX - 5)
    for number, cell in enumerate(cells):
        left, top = (
            _GAP_PX + place * step
            for place, step in zip((number % _COLUMNS, number // _COLUMNS), (width, height), strict=True)
        )
        draw.text((left, top), cell.caption.encode("ascii", "replace").decode(), fill="#333333", font=font)
        canvas.paste(Image.fromarray(cell.image), (left, top + _CAPTION_PX))
    return np.array(canvas)
