"""The samples of a training: the same however they are loaded and wherever it is resumed, and enough of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from facesr_plugin import cli
from facesr_plugin.checkpoints import read_checkpoint
from helpers.faces import write_images
from helpers.runs import same, train_options, write_faces

TOTAL, SAVE_EVERY = 24, 4  # 3 iterations in each of BasicSR's 7 epochs, so the last one begins with iteration 19

pytestmark = pytest.mark.usefixtures("run_folder")


def with_broken_images(root: Path) -> dict[str, Any]:
    """Seven faces of which two cannot be read."""
    write_faces(root / "train", 7)
    for number in (2, 3):
        (root / f"train/{number:03d}.png").write_bytes(b"")
    return {"on_broken": "skip"}


def of_basicsr(root: Path) -> dict[str, Any]:
    """Seven pairs that BasicSR's own data set cuts and mirrors at random."""
    write_images(root / "train", 7, 40)
    write_images(root / "small", 7, 5)
    return {"type": "PairedImageDataset", "dataroot_lq": str(root / "small"), "use_hflip": True, "use_rot": True}


def train(name: str, root: Path, section: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Train, or go on; return what the last state and network hold."""
    path = train_options(
        root / f"{name}.yml", name, root / "train", write_faces(root / "val", 2), TOTAL,
        f"logger.save_checkpoint_freq={SAVE_EVERY}", "val.val_freq=10",
    )  # fmt: skip
    options = yaml.safe_load(path.read_text())
    options["datasets"]["train"].update(section, **changes)
    path.write_text(yaml.safe_dump(options))
    assert cli.main(["train", "-opt", str(path), "--auto_resume"]) == 0
    folder = root / "experiments" / name
    files = (f"training_states/{TOTAL}.state", f"models/net_g_{TOTAL}.pth")
    return {file: read_checkpoint(folder / file) for file in files}


@pytest.mark.parametrize("make", [with_broken_images, of_basicsr])
def test_a_training_has_all_iterations_and_goes_on_with_the_samples_of_the_unbroken_one(
    tmp_path: Path, make: Callable[[Path], dict[str, Any]]
) -> None:
    section = make(tmp_path)
    whole = train("whole", tmp_path, section)
    loading = ({"num_worker_per_gpu": 2}, {"num_worker_per_gpu": 1, "prefetch_mode": "cpu"})
    for stop, changes in zip((8, 20), loading, strict=True):
        for file in (f"models/net_g_{stop}.pth", f"training_states/{stop}.state"):
            target = tmp_path / f"experiments/from{stop}" / file
            target.parent.mkdir(parents=True)
            shutil.copy(tmp_path / "experiments/whole" / file, target)
        assert same(train(f"from{stop}", tmp_path, section, **changes), whole)
    counts = whole[f"training_states/{TOTAL}.state"]["facesr"]["skipped_images"]
    assert (counts["skipped"] > 0) == ("on_broken" in section)
    assert counts["samples"] == (2 * TOTAL if "on_broken" in section else 0)
