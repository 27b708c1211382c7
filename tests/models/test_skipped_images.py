"""Broken images that a training skipped: counted over the run, named once, and ended by when they are too many."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.models import build_model
from torch.utils.data import DataLoader

from facesr_plugin.data.face_sr_dataset import FaceSRDataset
from facesr_plugin.models.skipped_images import SkippedImages
from helpers.faces import write_images
from helpers.options import model_options
from helpers.ranks import run_ranks

OPTIONS: dict[str, Any] = {"dist": False, "datasets": {"train": {"on_broken": "skip"}}}


def make_batch(*texts: str) -> dict[str, Any]:
    return {
        "skipped": torch.tensor([len(text.split()) for text in texts]),
        "broken": ["\n".join(t.split()) for t in texts],
    }


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What BasicSR's logger says, which is cut from the root's once a run has begun."""
    monkeypatch.setattr(logging.getLogger("basicsr"), "handlers", [caplog.handler])
    monkeypatch.setattr(logging.getLogger("basicsr"), "propagate", False)
    return caplog


@pytest.fixture
def skipped() -> SkippedImages:
    return SkippedImages(OPTIONS, torch.device("cpu"))


def test_skipped_images_are_added_up(skipped: SkippedImages) -> None:
    skipped.take(make_batch("", "a b"))
    skipped.take(make_batch("a", ""))
    skipped.take({"lq": torch.zeros(2, 3, 4, 4)})
    assert skipped.total == 0
    skipped.gather()
    assert (skipped.total, skipped.samples) == (3, 4)


def test_each_broken_image_is_named_once(skipped: SkippedImages, heard: pytest.LogCaptureFixture) -> None:
    with heard.at_level(logging.WARNING, "basicsr"):
        for _ in range(2):
            skipped.take(make_batch("", "a b", "a"))
    assert [record.getMessage()[-1] for record in heard.records] == ["a", "b"]


def test_many_broken_images_are_not_all_named(skipped: SkippedImages, heard: pytest.LogCaptureFixture) -> None:
    with heard.at_level(logging.WARNING, "basicsr"):
        for number in range(30):
            skipped.take(make_batch(f"image{number}"))
    assert len(heard.records) == 11
    assert heard.records[10].getMessage().startswith("Further ones are only counted: ")


@pytest.mark.parametrize(("broken", "fine"), [(60, 60), (98, 1)])
def test_up_to_half_may_be_broken(skipped: SkippedImages, broken: int, fine: int) -> None:
    skipped.take({"skipped": torch.tensor([broken] + [0] * (fine - 1)), "broken": []})
    skipped.gather()
    assert skipped.total == broken


def test_more_than_half_broken_ends_the_run(skipped: SkippedImages) -> None:
    skipped.take({"skipped": torch.tensor([51] + [0] * 48), "broken": []})
    with pytest.raises(ValueError, match=r"at most half of the images may be broken .*, got 51 of 100 .*Mend the data"):
        skipped.gather()


def train(folder: Path, iterations: range, resume: dict[str, Any] | None = None) -> Any:
    """Train on four faces of which one is broken, whole epochs of two batches."""
    root = folder / "faces"
    if not root.exists():
        write_images(root, 4)
        (root / "face_02.png").write_bytes(b"")
    section = {"type": "FaceSRDataset", "dataroot_gt": str(root), "gt_size": 32, "phase": "train", "on_broken": "skip"}
    model = build_model({**model_options(folder), "datasets": {"train": section}})
    if resume:
        model.resume_training(resume)
    for iteration in iterations:
        for batch in DataLoader(FaceSRDataset(section), batch_size=2):
            model.feed_data(batch)
            model.optimize_parameters(iteration)
    return model


def test_a_resumed_training_counts_on(tmp_path: Path) -> None:
    model = train(tmp_path, range(2))
    model.save(0, 2)
    assert model.skipped_images == 2
    state = torch.load(tmp_path / "states/2.state", weights_only=True)
    assert state["facesr"]["skipped_images"] == {"skipped": 2, "samples": 8}
    resumed = train(tmp_path, range(1), state)
    resumed.get_current_log()
    assert resumed.skipped_images == 3
    del state["facesr"]["skipped_images"]
    assert train(tmp_path, range(0), state).skipped_images == 0


def count_on_rank(rank: int, count: int) -> list[int]:
    skipped = SkippedImages({**OPTIONS, "dist": True}, torch.device("cpu"))
    skipped.load_state({"skipped": 10, "samples": 100})
    totals = []
    for _ in range(2):
        skipped.take({"skipped": torch.tensor([rank, 1]), "broken": []})
        skipped.gather()
        totals += [skipped.total, skipped.samples]
    return totals


@pytest.mark.process
def test_skipped_images_of_all_ranks_are_added_up(tmp_path: Path) -> None:
    assert run_ranks(2, tmp_path, count_on_rank) == [[13, 104, 16, 108]] * 2
