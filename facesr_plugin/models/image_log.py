"""Write pictures of faces to TensorBoard during validation: the option ``val.tb_images`` of a training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from facesr_plugin.archs.arch_util import check_int
from facesr_plugin.data.transforms import resize_landmarks
from facesr_plugin.metrics.error_maps import draw_colour_bar, draw_error_map
from facesr_plugin.ops.protocol import denormalise, quantise, to_uint8
from facesr_plugin.utils.visualize import Cell, heatmap_figure, row_figure

_LARGEST_CELL_PX = 256
_MAP = "psnr"


class _Face(NamedTuple):
    """``(H, W, 3)`` uint8 RGB; ``heatmaps`` ``(K, h, w)`` with ``points`` ``(K, 2)`` in pixels of ``sr``."""

    stem: str
    sr: np.ndarray
    lq: np.ndarray | None
    gt: np.ndarray | None
    heatmaps: np.ndarray | None
    points: np.ndarray | None


class ImageLog:
    """Draw the first faces of each validation.

    Args:
        count: ``val.tb_images``, how many.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is less than 1.
    """

    def __init__(self, count: Any) -> None:
        check_int("val.tb_images", count, least=1)
        self._count = count

    def write(self, model: Any, dataloader: Any, current_iter: int, tb_logger: Any) -> None:
        """Restore the first faces once more and add their figures.

        ``faces/<data set>/<name of the file>`` has input, result, ground truth and error map of a face that is
        restored, ``landmarks/<data set>/<name of the file>`` heatmaps and points where the model finds them.

        Args:
            model: A FaceSRModel; it is left without a batch.
            dataloader: Of the validation.
            current_iter: Iteration that the figures belong to.
            tb_logger: TensorBoard's writer.
        """
        dataset = dataloader.dataset.opt["name"]
        for face in islice(_restore(model, dataloader), self._count):
            for kind, figure in _draw(face).items():
                tb_logger.add_image(f"{kind}/{dataset}/{face.stem}", figure, current_iter, dataformats="HWC")


def _restore(model: Any, dataloader: Any) -> Iterator[_Face]:
    for data in dataloader:
        model.feed_data(data)
        model.test()
        faces = _read_batch(model, data["lq_path"])
        model.forget_batch()
        yield from faces


def _read_batch(model: Any, paths: list[str]) -> list[_Face]:
    card, result = model.card, model.current_results()[""]
    lq = _pixels(to_uint8(denormalise(model.lq, card))) if result.restored else None
    gt = _pixels(to_uint8(denormalise(model.gt, card))) if result.restored and hasattr(model, "gt") else None
    finds = result.landmarks is not None and result.heatmaps is not None
    found = [_numbers(result.heatmaps), _numbers(result.landmarks)] if finds else [None, None]
    columns = [_pixels(quantise(result.images, card)), lq, gt, *found]
    rows = zip(*(column if column is not None else [None] * len(paths) for column in columns), strict=True)
    return [_Face(Path(path).stem, *row) for path, row in zip(paths, rows, strict=True)]


def _pixels(images: Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def _draw(face: _Face) -> dict[str, np.ndarray]:
    size, shown = face.sr.shape[:2], _shown_size(face.sr)
    sr = _fit(face.sr, shown)
    before = [] if face.lq is None else [Cell("input", _fit(face.lq, shown))]
    after = [] if face.gt is None else [Cell("ground truth", _fit(face.gt, shown))]
    figures = {}
    if before:
        figures["faces"] = row_figure([*before, Cell("result", sr), *after, *_error_cells(face, shown)])
    if face.points is not None:
        points = resize_landmarks(face.points, size, shown)
        figures["landmarks"] = heatmap_figure(sr, face.heatmaps, points, before=before, after=after)
    return figures


def _error_cells(face: _Face, shown: tuple[int, int]) -> list[Cell]:
    """The map, and the bar of its colours."""
    if face.gt is None:
        return []
    colours = _fit(draw_error_map(face.sr, face.gt, _MAP), shown)
    return [Cell("error", colours), Cell("PSNR", draw_colour_bar(_MAP, shown[0]))]


def _shown_size(image: np.ndarray) -> tuple[int, int]:
    """Height and width in a figure: those of 512x512 cells would be some 5 MB in every validation."""
    factor = min(1, _LARGEST_CELL_PX / max(image.shape))
    return round(image.shape[0] * factor), round(image.shape[1] * factor)


def _fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Give an image a height and width; where it gets larger its pixels stay visible."""
    larger = size[0] > image.shape[0]
    resampling = Image.Resampling.NEAREST if larger else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize(size[::-1], resampling))
