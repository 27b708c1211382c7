"""What is measured when a run continues that died between a checkpoint and its validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facesr_plugin.checkpoints import read_checkpoint
from facesr_plugin.models.due_validations import build_due_loaders, count_due
from helpers.options import model_options
from helpers.runs import SIZE, write_faces
from helpers.training import build_model

PSNR = {"type": "calculate_sparnet_psnr"}


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Options of a run with two data sets of validation, as ``parse_options`` gives them."""
    faces = {"type": "FaceSRDataset", "system": "sparnet", "io_backend": {"type": "disk"}, "gt_size": SIZE}
    faces |= {"dataroot_gt": str(write_faces(tmp_path / "faces", 2)), "phase": "val"}
    made = model_options(tmp_path)
    made["datasets"] = {name: {**faces, "name": name} for name in ("val", "val_2")}
    made["val"] = {"val_freq": 4, "save_img": False, "metrics": {"psnr": PSNR}}
    return made


@pytest.mark.parametrize(("iteration", "number"), [(4, 2), (8, 2), (6, 0), (-1, 0)])
def test_count_due_follows_the_loop(options: dict[str, Any], iteration: int, number: int) -> None:
    assert count_due(options, iteration) == number


def test_run_without_validation_has_none_due(options: dict[str, Any]) -> None:
    options["val"] = None
    assert count_due(options, 4) == 0
    assert list(build_due_loaders(options, 2)) == []


@pytest.mark.parametrize("finished", [0, 1])
def test_resumed_run_measures_what_the_run_before_did_not(
    options: dict[str, Any], finished: int, tmp_path: Path
) -> None:
    model = build_model(**options)
    model.save(0, 4)
    for loader in list(build_due_loaders(options, 2))[:finished]:
        model.validation(loader, 4, None)
    state = tmp_path / "states" / "4.state"
    assert read_checkpoint(state)["facesr"]["validations_due"] == 2 - finished

    options["path"]["pretrain_network_g"] = str(tmp_path / "models" / "net_g_4.pth")
    build_model(**options).resume_training(read_checkpoint(state))
    run = read_checkpoint(state)["facesr"]
    assert run["validations_due"] == 0
    assert [run["best_metrics"][name]["psnr"]["iter"] for name in ("val", "val_2")] == [4, 4]


@pytest.mark.parametrize("finished", [1, 2])
def test_checkpoint_after_a_validation_knows_of_it(options: dict[str, Any], finished: int, tmp_path: Path) -> None:
    """A run that a signal stops saves in or after the validation of its last iteration."""
    model = build_model(**options)
    for loader in list(build_due_loaders(options, 2))[:finished]:
        model.validation(loader, 4, None)
    model.save(0, 4)
    assert read_checkpoint(tmp_path / "states" / "4.state")["facesr"]["validations_due"] == 2 - finished
