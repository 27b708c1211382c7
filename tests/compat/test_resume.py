"""``resume-without-gpu``: the defect as released, then where and how states are found and read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from facesr_plugin.compat import resume
from helpers.pristine import pristine


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> int:
        raise RuntimeError("Found no NVIDIA driver on your system")

    monkeypatch.setattr(torch.cuda, "current_device", no_driver)


@pytest.fixture
def opt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of a run in ``tmp_path/experiments/tiny``, which is current; states 8 and 16 are there."""
    folder = tmp_path / "experiments" / "tiny" / "training_states"
    folder.mkdir(parents=True)
    for iteration in (8, 16):
        state = {"epoch": 1, "iter": iteration, "optimizers": [], "schedulers": [{"milestones": Counter([4, 4])}]}
        torch.save(state, folder / f"{iteration}.state")
    monkeypatch.chdir(tmp_path)
    path = {"training_states": str(folder), "models": str(folder.parent / "models"), "resume_state": None}
    datasets = {"train": {"manual_seed": 5}, "val": {"manual_seed": 3}}
    return {
        "name": "tiny", "auto_resume": True, "manual_seed": 5, "network_g": {}, "path": path, "datasets": datasets,
    }  # fmt: skip


def test_released_resume_needs_a_gpu(opt: dict, without_gpu: None) -> None:
    with pytest.raises(RuntimeError, match="no NVIDIA driver"):
        pristine("basicsr.train").load_resume_state(opt)


def test_repair_is_named_and_finds_the_defect() -> None:
    assert resume.RESUME_WITHOUT_GPU.name == "resume-without-gpu"
    assert resume._loads_onto_gpu(pristine("basicsr.train").load_resume_state)
    assert not resume._loads_onto_gpu(resume.load_resume_state)
    assert not resume._loads_onto_gpu(None)


def test_repaired_resume_takes_the_newest_state(opt: dict, without_gpu: None) -> None:
    state = resume.load_resume_state(opt)
    assert state["iter"] == 16
    assert opt["path"]["pretrain_network_g"].endswith("net_g_16.pth")


def test_repaired_resume_reads_basicsrs_own_states(opt: dict) -> None:
    assert dict(resume.load_resume_state(opt)["schedulers"][0]["milestones"]) == {4: 2}


def test_repaired_resume_does_not_depend_on_the_current_folder(
    opt: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    assert resume.load_resume_state(opt)["iter"] == 16


@pytest.mark.parametrize("name", [".24.state.99-x.tmp", "latest.state", "24.state.bak", "24.pth"])
def test_repaired_resume_ignores_other_files(opt: dict, name: str) -> None:
    (Path(opt["path"]["training_states"]) / name).write_bytes(b"half")
    assert resume.load_resume_state(opt)["iter"] == 16


def test_repaired_resume_without_a_state_starts_anew(opt: dict, tmp_path: Path) -> None:
    opt["path"]["training_states"] = str(tmp_path / "none")
    assert resume.load_resume_state(opt) is None
    opt["auto_resume"] = False
    assert resume.load_resume_state(opt) is None


def test_repaired_resume_names_a_missing_state(opt: dict, tmp_path: Path) -> None:
    opt |= {"auto_resume": False}
    opt["path"]["resume_state"] = str(tmp_path / "9.state")
    with pytest.raises(FileNotFoundError, match=r"path\.resume_state must be a training state, .*9\.state"):
        resume.load_resume_state(opt)


def test_repaired_resume_takes_over_a_drawn_seed(opt: dict) -> None:
    state = {"iter": 24, "facesr": {"manual_seed": 99}}
    torch.save(state, Path(opt["path"]["training_states"]) / "24.state")
    resume.load_resume_state(opt)
    assert opt["manual_seed"] == opt["datasets"]["train"]["manual_seed"] == 99
    assert opt["datasets"]["val"]["manual_seed"] == 3  # was set by hand


class Surprise:
    """Runs a command when unpickled."""

    def __reduce__(self) -> tuple:
        return print, ("code was run",)


def test_repaired_resume_runs_no_code_of_the_file(opt: dict, capsys: pytest.CaptureFixture) -> None:
    torch.save({"iter": 24, "x": Surprise()}, Path(opt["path"]["training_states"]) / "24.state")
    with pytest.raises(Exception, match="print"):
        resume.load_resume_state(opt)
    assert "code was run" not in capsys.readouterr().out
