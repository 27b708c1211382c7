"""The summary of a run."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from facesr_plugin.utils.option_file import load_option_file, shipped_options
from facesr_plugin.utils.run_summary import Ending, how_to_continue, how_to_test, summarise

BEST = {"psnr": {"better": "higher", "val": 27.314, "iter": 10}, "lpips": {"better": "lower", "val": 1e9, "iter": -1}}
MODEL = SimpleNamespace(best_metric_results={"CelebA_val": BEST}, card=SimpleNamespace(arch="SPARNet"))


@pytest.fixture
def opt(tmp_path: Path) -> dict[str, Any]:
    """Options of a run of SPARNet as BasicSR parses them; nothing has been written."""
    root = tmp_path / "experiments" / "run"
    path = {"experiments_root": str(root), "models": str(root / "models"), "training_states": str(root / "states")}
    return load_option_file(shipped_options()["sparnet"]) | {"dist": False, "path": path}


def touch(folder: str | Path, *names: str) -> Path:
    for name in names:
        file = Path(folder) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return file


@pytest.mark.parametrize(
    ("iteration", "reason", "text"),
    [
        (2000, "", "Training finished: 2,000 of 2,000 iterations, 1:00:00 in this process"),
        (7, "", "Training stopped: 7 of 2,000 iterations, 1:00:00 in this process"),
        (7, "SIGTERM", "Training stopped by SIGTERM: 7 of 2,000 iterations, 1:00:00 in this process"),
        (7, "ValueError: no.", "Training stopped by ValueError: no: 7 of 2,000 iterations, 1:00:00 in this process"),
        (
            2000,
            "OSError: disk",
            "Training stopped by OSError: disk: 2,000 of 2,000 iterations, 1:00:00 in this process",
        ),
    ],
)
def test_ending_says_why(iteration: int, reason: str, text: str) -> None:
    assert Ending(iteration, 2000, 3600, reason).text() == text


def test_summary_of_a_run_that_wrote_nothing_has_only_what_is_there(opt: dict[str, Any]) -> None:
    model = SimpleNamespace(best_metric_results={}, card=MODEL.card)
    lines = summarise(opt, model, Ending(0, 10, 1, "OSError"), None).splitlines()
    assert lines[1:] == ["  continue     no state was saved: the same command starts anew"]


def test_summary_says_where_everything_is(opt: dict[str, Any], tmp_path: Path) -> None:
    touch(opt["path"]["models"], "net_g_5.pth", "net_g_latest.pth")
    touch(opt["path"]["training_states"], "10.state")
    touch(Path(opt["path"]["experiments_root"]) / "faults", "7.pt")
    logger, handler = logging.getLogger("basicsr"), logging.FileHandler(tmp_path / "train.log")
    logger.addHandler(handler)
    try:
        model = SimpleNamespace(**vars(MODEL), skipped_images=3, skipped_steps=0)
        rows = summarise(opt, model, Ending(10, 10, 1), "tb run").splitlines()[1:]
    finally:
        logger.removeHandler(handler)
        handler.close()
    said = {row[2:15].strip(): row[15:] for row in rows}
    assert said.pop("networks").endswith("models (newest: net_g_latest.pth)")
    assert said.pop("states").endswith("states (newest: 10.state)")
    assert said.pop("best") == "CelebA_val: psnr 27.31 at 10"
    assert said.pop("log") == str(tmp_path / "train.log")
    assert said.pop("TensorBoard") == "tensorboard --logdir 'tb run'"
    assert said.pop("faults").endswith("faults (newest: 7.pt)")
    assert said.pop("skipped") == "3 images"
    assert set(said) == {"test", "continue"}


def test_test_command_measures_the_best_weights_on_the_runs_data(opt: dict[str, Any]) -> None:
    best = touch(opt["path"]["models"], "net_g_best.pth")
    touch(opt["path"]["models"], "net_g_latest.pth")
    command = how_to_test(opt, "SPARNet")
    assert command.startswith("facesr test -opt ")
    assert "test_sparnet.yml --set " in command
    assert f" --set path.pretrain_network_g={best} " in command
    assert command.endswith(" --set datasets.test_1.dataroot_gt=datasets/celeba_val.lmdb")


@pytest.mark.parametrize("name", ["dic", "dicgan", "progressive", "jasrnet", "sparnethd", "fan_distill"])
def test_every_system_has_a_test_command(name: str, opt: dict[str, Any]) -> None:
    touch(opt["path"]["models"], "net_g_latest.pth")
    shipped = load_option_file(shipped_options()[name]) | {"path": opt["path"]}
    assert f"test_{name.replace('gan', '')}.yml" in how_to_test(shipped, "any")


def test_network_of_no_test_file_is_shown_by_infer(opt: dict[str, Any]) -> None:
    weights = touch(opt["path"]["models"], "net_g_latest.pth")
    opt["network_g"]["max_ch"] = 8
    assert how_to_test(opt, "SPARNet") == f"facesr infer --weights {weights} --out restored FACES"
    assert how_to_test(opt, "DICNet") == ""


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["python", "basicsr/train.py", "-opt", "a b.yml"], "python basicsr/train.py -opt 'a b.yml' --auto_resume"),
        (["/v/python", "/v/facesr", "train", "-opt", "x.yml"], "facesr train -opt x.yml --auto_resume"),
        (["python", "t.py", "--auto_resume"], "python t.py --auto_resume"),
        (["/v/python", "/v/facesr", "train", "--auto-resume"], "facesr train --auto-resume"),
    ],
)
def test_continue_command_is_the_runs_own_and_resumes(command: list[str], text: str) -> None:
    assert how_to_continue(False, command, distributed=False) == text
    assert how_to_continue(True, command, distributed=False) == f"raise train.total_iter, then {text}"


def test_run_of_a_launcher_is_continued_by_it() -> None:
    words = "the same command of the launcher, with --auto_resume"
    assert how_to_continue(False, ["python", "-u", "train.py"], distributed=True) == words
