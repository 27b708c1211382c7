"""Attention figures in TensorBoard: the option ``val.attention``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from helpers.options import model_options


class Faces(Dataset):
    """Five smooth pictures; ``seen`` counts what was read."""

    opt = {"name": "faces"}

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.seen.append(index)
        ramp = torch.linspace(0, 1, 32)
        gt = torch.stack([ramp.expand(32, 32), ramp.expand(32, 32).T, torch.full((32, 32), index / 5)])
        return {"lq": gt[:, 4::8, 4::8], "gt": gt, "lq_path": f"lq/{index:03d}.png"}


def build(folder: Path, attention: Any, **options: Any) -> Any:
    settings = {**model_options(folder), "val": {"attention": attention, "metrics": None}, **options}
    torch.manual_seed(0)
    return build_model(settings)


def validate(model: Any, folder: Path, iteration: int = 7) -> Faces:
    faces = Faces()
    writer = SummaryWriter(str(folder))
    model.validation(DataLoader(faces), iteration, writer)
    writer.close()
    return faces


def read_images(folder: Path) -> dict[str, tuple[int, np.ndarray]]:
    """Tag to (iteration, picture) of an event file's images."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    pictures = {tag: events.Images(tag) for tag in events.Tags()["images"]}
    return {
        tag: (event.step, np.asarray(Image.open(io.BytesIO(event.encoded_image_string))))
        for tag, (event,) in pictures.items()
    }


def test_validation_writes_figures_of_the_first_images(tmp_path: Path) -> None:
    model = build(tmp_path, {"num": 2})
    faces = validate(model, tmp_path / "tb")
    assert faces.seen == [*range(5), 0, 1]
    pictures = read_images(tmp_path / "tb")
    assert list(pictures) == ["attention/faces/000", "attention/faces/001"]
    step, figure = pictures["attention/faces/001"]
    assert step == 7
    gt = (faces[1]["gt"].permute(1, 2, 0).numpy() * 255).round()
    windows = np.lib.stride_tricks.sliding_window_view(figure, (32, 32, 3))[:, :, 0]
    assert (np.abs(windows - gt).max((-1, -2, -3)) <= 1).sum() == 1


def test_figures_show_the_average_and_leave_no_batch(tmp_path: Path) -> None:
    model = build(tmp_path, {"num": 1, "blocks": ["encoder.1"]})
    model.net_g_ema = torch.nn.Sequential(model.net_g)  # has no block of that name at its top: it must be asked
    with pytest.raises(KeyError, match=r"encoder\.1"):
        validate(model, tmp_path / "tb")
    del model.net_g_ema
    validate(model, tmp_path / "tb2")
    assert not {"lq", "gt", "output"} & set(vars(model))


def test_chosen_blocks_alone_are_drawn(tmp_path: Path) -> None:
    widths = []
    for name, blocks in (("one", ["encoder.1"]), ("all", None)):
        validate(build(tmp_path, {"num": 1, "blocks": blocks}), tmp_path / name)
        (figure,) = read_images(tmp_path / name).values()
        widths.append(figure[1].shape[1])
    assert widths[0] < widths[1]


def test_large_images_are_drawn_small(tmp_path: Path) -> None:
    from facesr_plugin.models.attention_log import _to_cell

    assert _to_cell(torch.zeros(1, 3, 512, 384)).shape == (256, 192, 3)
    assert _to_cell(torch.zeros(1, 3, 32, 32)).shape == (32, 32, 3)


@pytest.mark.parametrize(("attention", "options"), [(None, {}), ({"num": 1}, {"rank": 1})])
def test_nothing_is_written_without_the_option_or_on_another_rank(
    tmp_path: Path, attention: Any, options: dict
) -> None:
    faces = validate(build(tmp_path, attention, **options), tmp_path / "tb")
    assert faces.seen == [*range(5)]
    assert read_images(tmp_path / "tb") == {}


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ({"blocks": ["body.99"]}, r"val\.attention: blocks must be some of encoder\.1, .*, got body\.99"),
        ({"num": 0}, r"val\.attention\.num must be at least 1, got 0"),
        ({"number": 2}, r"val\.attention: unknown key 'number', did you mean 'num'"),
        (True, r"val\.attention must be a section of keys such as \{num: 4\}, got True"),
    ],
)
def test_wrong_option_is_refused_before_the_training(tmp_path: Path, attention: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(tmp_path, attention)


def test_network_without_attention_is_refused(tmp_path: Path) -> None:
    from facesr_plugin.models.attention_log import AttentionLog

    with pytest.raises(ValueError, match=r"val\.attention: network must have attention branches, got none"):
        AttentionLog({}, torch.nn.Identity())
