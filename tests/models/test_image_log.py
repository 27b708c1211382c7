"""Pictures of validation faces in TensorBoard: the option ``val.tb_images``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from torch.utils.data import DataLoader, Dataset

from facesr_plugin.metrics.error_maps import draw_error_map
from facesr_plugin.models.validation import Result
from helpers.faces import make_image
from helpers.options import model_options


class Faces(Dataset):
    """Three faces of 32 pixels."""

    opt = {"name": "faces"}

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        gt = torch.from_numpy(make_image(index).copy()).permute(2, 0, 1) / 255
        return {"lq": gt[:, 4::8, 4::8], "gt": gt, "lq_path": f"lq/{index:03d}.png"}


class Writer:
    """Keeps pictures by tag, as TensorBoard would."""

    def __init__(self) -> None:
        self.pictures: dict[str, np.ndarray] = {}
        self.steps: set[int] = set()

    def add_image(self, tag: str, picture: np.ndarray, step: int, dataformats: str) -> None:
        assert (picture.dtype, picture.ndim, dataformats) == (np.uint8, 3, "HWC")
        self.pictures[tag] = picture
        self.steps.add(step)


def build(folder: Path, count: Any = 2, **options: Any) -> Any:
    torch.manual_seed(0)
    return build_model({**model_options(folder), "val": {"tb_images": count}, **options})


def pictures(model: Any, batch: int = 1) -> dict[str, np.ndarray]:
    writer = Writer()
    model.validation(DataLoader(Faces(), batch), 7, writer)
    assert writer.steps <= {7}
    return writer.pictures


def holds(figure: np.ndarray, picture: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(figure, picture.shape)[:, :, 0]
    return bool((windows == picture).all((-1, -2, -3)).any())


@pytest.mark.parametrize("batch", [1, 2])
def test_first_faces_are_drawn_with_their_errors(tmp_path: Path, batch: int) -> None:
    model = build(tmp_path)
    found = pictures(model, batch)
    assert list(found) == ["faces/faces/000", "faces/faces/001"]
    model.feed_data(next(iter(DataLoader(Faces(), 2))))
    model.test()
    levels = (model.get_current_visuals()["result"][1] * 255).round().byte()
    sr, gt = levels.permute(1, 2, 0).numpy(), make_image(1)
    assert all(holds(found["faces/faces/001"], picture) for picture in (sr, gt, draw_error_map(sr, gt, "psnr")))
    assert not holds(found["faces/faces/000"], gt)


def test_heatmaps_and_points_are_drawn_where_there_are_some(tmp_path: Path) -> None:
    model = build(tmp_path, 1)
    points, heatmaps = torch.full((1, 7, 2), 9.0), torch.zeros(1, 7, 8, 8)
    heatmaps[..., 2, 2] = 1
    model.current_results = lambda: {"": Result(model.output, points, heatmaps=heatmaps)}
    assert list(pictures(model)) == ["faces/faces/000", "landmarks/faces/000"]
    model.current_results = lambda: {"": Result(model.lq, points, restored=False, heatmaps=heatmaps)}
    assert list(pictures(model)) == ["landmarks/faces/000"]


def test_faces_without_ground_truth_have_no_error(tmp_path: Path) -> None:
    model, whole = build(tmp_path, 1), build(tmp_path, 1)
    take = model.feed_data
    model.feed_data = lambda data: (take(data), delattr(model, "gt"))
    (bare,), (full,) = pictures(model).values(), pictures(whole).values()
    assert bare.shape[0] == full.shape[0]
    assert bare.shape[1] < full.shape[1]


def test_large_faces_are_drawn_small(tmp_path: Path) -> None:
    from facesr_plugin.models.image_log import _draw, _Face

    face = np.zeros((512, 512, 3), np.uint8)
    figures = _draw(_Face("000", face, face[::8, ::8], face, np.ones((7, 8, 8)), np.full((7, 2), 100.0)))
    assert figures["faces"].shape[0] < 2 * 200
    assert figures["landmarks"].shape[0] < 2 * 300


@pytest.mark.parametrize("options", [{"rank": 1}, {"val": {}}])
def test_nothing_is_drawn_without_the_option_or_on_another_rank(tmp_path: Path, options: dict) -> None:
    assert pictures(build(tmp_path, **options)) == {}


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [(0, ValueError, "val.tb_images must be at least 1, got 0"), (True, TypeError, "val.tb_images must be an integer")],
)
def test_wrong_number_is_refused_before_the_training(
    tmp_path: Path, count: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(tmp_path, count)
