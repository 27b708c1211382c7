"""Figures of what networks see: attention maps, landmark heatmaps and points over faces.

Source: the figures of the papers (SPARNet, IEEE TIP 2021; Progressive FSR, BMVC 2019); no code was released, so cells,
scale and colours are this project's. Attention maps are captured with forward hooks on the modules named ``attention``,
for one forward only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from facesr_plugin.utils.options import OptionTypeError, parse_section

_GAP_PX = 8
_BAR_PX = 14
_TEXT, _BACKGROUND = "#333333", "#ffffff"
_FIGURE_PX = 256  # smallest side of a face with points drawn on it
_COLOURS = {
    "jaw": "#00e5ff",
    "brows": "#ffd400",
    "nose": "#ff7bff",
    "eyes": "#3dff3d",
    "mouth": "#ff4040",
    "pupils": "#ffffff",
    "all": "#3dff3d",
}
_PARTS = {  # by the number of points: the first of each part
    68: {"jaw": 0, "brows": 17, "nose": 27, "eyes": 36, "mouth": 48},
    98: {"jaw": 0, "brows": 33, "nose": 51, "eyes": 60, "mouth": 76, "pupils": 96},
}
_RESAMPLING = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}


class Cell(NamedTuple):
    """One picture of a figure under its caption: ``(H, W, 3)`` uint8 RGB."""

    caption: str
    image: np.ndarray


@dataclass(frozen=True)
class AttentionOptions:
    """What a training draws in each validation (the section ``val.attention``).

    Args:
        num: Of the first images; at least 1.
        blocks: Names of blocks of the generator; None for those of ``choose_blocks``.

    Raises:
        ValueError: If ``num`` is less than 1.
    """

    num: int = 4
    blocks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ValueError(f"val.attention.num must be at least 1, got {self.num}. Leave val.attention out for none.")

    @classmethod
    def parse(cls, section: Any) -> AttentionOptions:
        """Read the section.

        Raises:
            OptionTypeError: If it is no mapping or a value has the wrong type.
            ValueError: If an option is unknown or out of range.
        """
        if not isinstance(section, Mapping):
            raise OptionTypeError(f"val.attention must be a section of keys such as {{num: 4}}, got {section!r}")
        return parse_section(cls, section, "val.attention")


@contextmanager
def capture_attention(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the attention maps of the forwards inside the block; of several, the last one's.

    Yields:
        A dict that fills in network order: name of the block to ``(N, 1 or C, h, w)`` in (0, 1), detached, on the CPU.
    """
    maps: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            maps[name] = output.detach().float().cpu()

        return hook

    handles = [
        network.get_submodule(f"{name}.attention").register_forward_hook(keep(name))
        for name in attention_blocks(network)
    ]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def attention_blocks(network: nn.Module) -> list[str]:
    """Return the names of the blocks that have an attention branch, in network order."""
    return [name.removesuffix(".attention") for name, _ in network.named_modules() if name.endswith(".attention")]


def choose_blocks(network: nn.Module, wanted: Sequence[str] | None = None) -> list[str]:
    """Return the blocks whose maps a figure shows, in network order.

    Args:
        network: With attention.
        wanted: Names of blocks; by default all but the body's, and of that the first, the middle and the last.

    Raises:
        ValueError: If the network has no attention, or not in one of the blocks wanted.
    """
    names = attention_blocks(network)
    if not names:
        raise ValueError("network must have attention branches, got none. Its attention cannot be drawn.")
    if wanted is not None:
        unknown = [name for name in wanted if name not in names]
        if unknown or not wanted:
            raise ValueError(f"blocks must be some of {', '.join(names)}, got {', '.join(unknown) or 'none'}")
        return [name for name in names if name in wanted]
    body = [name for name in names if name.startswith("body.")]
    chosen = {body[index] for index in (0, (len(body) - 1) // 2, -1)} if body else set()
    return [name for name in names if name not in body or name in chosen]


def attention_figure(
    sr: np.ndarray,
    maps: dict[str, np.ndarray],
    *,
    before: Sequence[Cell] = (),
    after: Sequence[Cell] = (),
    resample: str = "nearest",
    fixed_scale: bool = False,
) -> np.ndarray:
    """Draw one face: maps alone above, maps over the grey result below.

    Args:
        sr: The restored face, ``(H, W, 3)`` uint8 RGB.
        maps: Caption to ``(C, h, w)`` in [0, 1]; the mean over C is shown, and its smallest and largest value told.
        before: Pictures to the left of the maps, such as the input.
        after: Pictures to the right of them, after the result.
        resample: ``nearest`` shows the map's own grid, ``bilinear`` smooths it.
        fixed_scale: Colours from 0 to 1 instead of from each map's smallest to its largest value.

    Returns:
        ``(H', W', 3)`` uint8 RGB on white, with a colour bar at the right.

    Raises:
        ValueError: If there are no maps or ``resample`` is unknown.
    """
    if not maps:
        raise ValueError("maps must hold at least one attention map, got none: the network has no attention")
    if resample not in _RESAMPLING:
        raise ValueError(f"resample must be one of {', '.join(_RESAMPLING)}, got {resample!r}")
    size = (sr.shape[1], sr.shape[0])
    alone, over = [], []
    for caption, values in maps.items():
        values = values.mean(0)
        low, high = float(values.min()), float(values.max())
        span = (0.0, 1.0) if fixed_scale else (low, high)
        colour = _enlarge((values - span[0]) / max(span[1] - span[0], 1e-12), size, resample)
        alone.append(Cell(caption, colour))
        span_text = (f"{round(end, 2) + 0.0:.2f}" for end in (low, high))  # no -0.00
        over.append(Cell(" to ".join(span_text), _blend(sr, colour)))
    empty = Cell("", np.full_like(sr, 255))
    ends = ("1", "0") if fixed_scale else ("max", "min")
    return _draw([[*before, *alone, Cell("result", sr), *after], [empty] * len(before) + over], size, ends)


def draw_points(face: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Draw landmarks on a face, the parts of 68 and 98 in colours; a small face is enlarged by a whole number.

    Args:
        face: ``(H, W, 3)`` uint8 RGB.
        points: ``(K, 2)`` (x, y) in its pixels, pixel centres at integers; unknown ones (NaN) are left out.

    Returns:
        ``(s * H, s * W, 3)`` uint8 RGB with the smallest s that makes both sides 256 pixels or more.
    """
    scale = _figure_scale(face)
    canvas = Image.fromarray(_enlarge_face(face, scale))
    draw, radius = ImageDraw.Draw(canvas), max(2, min(canvas.size) // 128)
    for first, end, colour in _parts(len(points)).values():
        for x, y in (points[first:end] + 0.5) * scale - 0.5:
            if np.isfinite([x, y]).all():
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="#000000")
    return np.asarray(canvas)


def heatmap_figure(
    face: np.ndarray,
    heatmaps: np.ndarray,
    points: np.ndarray,
    *,
    before: Sequence[Cell] = (),
    after: Sequence[Cell] = (),
) -> np.ndarray:
    """Draw landmark heatmaps as ``attention_figure`` draws attention, and the points over the face.

    Args:
        face: ``(H, W, 3)`` uint8 RGB.
        heatmaps: ``(K, h, w)``; of each part of the face the largest value at each pixel is shown.
        points: ``(K, 2)`` (x, y) in pixels of ``face``, pixel centres at integers.
        before: Pictures of the size of ``face``, to the left of all, such as the input.
        after: Pictures of the size of ``face``, to the right of all.

    Returns:
        ``(H', W', 3)`` uint8 RGB on white, with a colour bar at the right.

    Raises:
        ValueError: If ``heatmaps`` and ``points`` differ in K.
    """
    if len(heatmaps) != len(points):
        raise ValueError(f"heatmaps and points must be of as many landmarks, got {len(heatmaps)} and {len(points)}")
    scale = _figure_scale(face)
    maps = {name: heatmaps[first:end].max(0, keepdims=True) for name, (first, end, _) in _parts(len(points)).items()}
    left, right = (
        [Cell(cell.caption, _enlarge_face(cell.image, scale)) for cell in cells] for cells in (before, after)
    )
    left.append(Cell("landmarks", draw_points(face, points)))
    return attention_figure(_enlarge_face(face, scale), maps, before=left, after=right, resample="bilinear")


def steps_figure(
    images: Sequence[Cell],
    heatmaps: Sequence[np.ndarray],
    points: Sequence[np.ndarray],
    *,
    before: Sequence[Cell] = (),
    after: Sequence[Cell] = (),
) -> np.ndarray:
    """Draw what each step made of a face: its image, below it the heatmaps and the points over the same image.

    Args:
        images: Of the steps, all of one size.
        heatmaps: ``(K, h, w)`` of each step; the largest value at each pixel is shown, in colours that are the same for
            all steps, and the mean height of the peaks told.
        points: ``(K, 2)`` of each step, (x, y) in pixels of its image, pixel centres at integers.
        before: Pictures of the same size, to the left of the steps, such as the input.
        after: Pictures of the same size, to the right of them.

    Returns:
        ``(H', W', 3)`` uint8 RGB on white, with a colour bar at the right.

    Raises:
        ValueError: If there is no step, or not as many of all.
    """
    if not images or not len(images) == len(heatmaps) == len(points):
        counts = f"{len(images)}, {len(heatmaps)} and {len(points)}"
        raise ValueError(f"images, heatmaps and points must be of as many steps, at least one, got {counts}")
    scale = _figure_scale(images[0].image)
    top = max(float(maps.max()) for maps in heatmaps)
    alone, over, dotted = [], [], []
    for cell, maps, found in zip(images, heatmaps, points, strict=True):
        large = _enlarge_face(cell.image, scale)
        colour = _enlarge(maps.max(0) / max(top, 1e-12), (large.shape[1], large.shape[0]), "bilinear")
        peaks = float(maps.max((1, 2)).mean())
        alone.append(Cell(cell.caption, large))
        over.append(Cell(f"heatmaps: peaks {peaks:.2f}", _blend(large, colour)))
        dotted.append(Cell("landmarks", draw_points(cell.image, found)))
    left, right = (
        [Cell(cell.caption, _enlarge_face(cell.image, scale)) for cell in cells] for cells in (before, after)
    )
    size = (alone[0].image.shape[1], alone[0].image.shape[0])
    empty = [Cell("", np.full_like(alone[0].image, 255))]
    rows = [[*left, *alone, *right], *(empty * len(left) + cells + empty * len(right) for cells in (over, dotted))]
    return _draw(rows, size, (f"{top:.2f}", "0"))


def row_figure(cells: Sequence[Cell]) -> np.ndarray:
    """Draw pictures beside each other, each below its caption.

    Args:
        cells: At least one.

    Returns:
        ``(H', W', 3)`` uint8 RGB on white.
    """
    height, width = np.max([cell.image.shape[:2] for cell in cells], axis=0)
    return np.array(_lay_out([list(cells)], (int(width), int(height)), 0)[0])


def _blend(face: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Lay half of a coloured map over half of the grey face."""
    grey = np.asarray(Image.fromarray(face).convert("L").convert("RGB"), np.float32)
    return (0.5 * grey + 0.5 * colour).astype(np.uint8)


def _parts(num_points: int) -> dict[str, tuple[int, int, str]]:
    """Return first, end and colour of each part that is known of a layout."""
    firsts = _PARTS.get(num_points, {"all": 0})
    ends = [*list(firsts.values())[1:], num_points]
    return {name: (first, end, _COLOURS[name]) for (name, first), end in zip(firsts.items(), ends, strict=True)}


def _figure_scale(face: np.ndarray) -> int:
    return max(1, -(-_FIGURE_PX // min(face.shape[:2])))


def _enlarge_face(face: np.ndarray, scale: int) -> np.ndarray:
    size = (face.shape[1] * scale, face.shape[0] * scale)
    return np.asarray(Image.fromarray(face).resize(size, Image.Resampling.BICUBIC))


def jet(values: np.ndarray) -> np.ndarray:
    """Colour ``(H, W)`` values in [0, 1] with OpenCV's jet, blue to red: ``(H, W, 3)`` uint8 RGB."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return _jet_table()[levels]


@lru_cache(maxsize=1)
def _jet_table() -> np.ndarray:
    levels = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_JET)[:, 0, ::-1])


def _enlarge(values: np.ndarray, size: tuple[int, int], resample: str) -> np.ndarray:
    grid = Image.fromarray(values.astype(np.float32))
    return jet(np.asarray(grid.resize(size, _RESAMPLING[resample])))


def _draw(rows: list[list[Cell]], size: tuple[int, int], ends: tuple[str, str]) -> np.ndarray:
    """Lay rows of cells out, with a colour bar beside them."""
    font = _font_of(size)
    bar_text = int(max(font.getbbox(end)[2] for end in ends)) + _GAP_PX
    canvas, line = _lay_out(rows, size, _BAR_PX + bar_text)
    left, top = canvas.width - _GAP_PX - bar_text - _BAR_PX, _GAP_PX + line
    length = canvas.height - top - _GAP_PX
    bar = np.repeat(np.linspace(1, 0, length)[:, None], _BAR_PX, axis=1)
    canvas.paste(Image.fromarray(jet(bar)), (left, top))
    draw = ImageDraw.Draw(canvas)
    draw.text((left + _BAR_PX + 4, top), ends[0], fill=_TEXT, font=font)
    draw.text((left + _BAR_PX + 4, top + length - line), ends[1], fill=_TEXT, font=font)
    return np.array(canvas)


def _lay_out(rows: list[list[Cell]], size: tuple[int, int], right_px: int) -> tuple[Image.Image, int]:
    """Paste rows of cells below their captions; return the picture, with room at the right, and a caption's height."""
    font = _font_of(size)
    widest = max(font.getbbox(cell.caption)[2] for row in rows for cell in row)
    line = int(font.getbbox("Ag")[3]) + 4
    width, height = max(size[0], int(widest)) + _GAP_PX, size[1] + line + _GAP_PX
    canvas_size = (_GAP_PX + width * len(rows[0]) + right_px + _GAP_PX, _GAP_PX + height * len(rows))
    canvas = Image.new("RGB", canvas_size, _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            left, top = _GAP_PX + column * width, _GAP_PX + row * height
            shift = (width - _GAP_PX - int(font.getbbox(cell.caption)[2])) // 2
            draw.text((left + shift, top), cell.caption, fill=_TEXT, font=font)
            picture = Image.fromarray(cell.image)
            canvas.paste(picture, (left + (width - _GAP_PX - picture.width) // 2, top + line))
    return canvas, line


def _font_of(size: tuple[int, int]) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return caption_font(max(11, size[0] // 12))


def caption_font(size_px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font; before Pillow 10.1, or without FreeType, it has one small size."""
    try:
        return ImageFont.load_default(size_px)
    except (TypeError, ImportError):
        return ImageFont.load_default()
