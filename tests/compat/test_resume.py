"""``resume-without-gpu``: the defect as released, then where and how states are found and read."""

from __future__ import annotations

import errno
import logging
import os
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


def write_checkpoint(experiment: Path, iteration: int, **more: Any) -> Path:
    """Write a network and a state; return the state's path."""
    (experiment / "models").mkdir(exist_ok=True)
    torch.save({"params": {"weight": torch.zeros(2)}}, experiment / "models" / f"net_g_{iteration}.pth")
    path = experiment / "training_states" / f"{iteration}.state"
    torch.save({"epoch": 1, "iter": iteration, "optimizers": [], "schedulers": [], **more}, path)
    return path


@pytest.fixture
def opt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of a run in ``tmp_path/experiments/tiny``, which is current; states 8 and 16 are there."""
    folder = tmp_path / "experiments" / "tiny" / "training_states"
    folder.mkdir(parents=True)
    for iteration in (8, 16):
        write_checkpoint(folder.parent, iteration, schedulers=[{"milestones": Counter([4, 4])}])
    monkeypatch.chdir(tmp_path)
    path = {"training_states": str(folder), "models": str(folder.parent / "models"), "resume_state": None}
    datasets = {"train": {"manual_seed": 5}, "val": {"manual_seed": 3}}
    return {
        "name": "tiny", "auto_resume": True, "manual_seed": 5, "rank": 0, "network_g": {"type": "Tiny"}, "path": path,
        "datasets": datasets,
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


@pytest.mark.parametrize("name", [".24.state.99-x.tmp", "latest.state", "24.state.bak", "24.pth", "²⁴.state"])
def test_repaired_resume_ignores_other_files(opt: dict, name: str) -> None:
    (Path(opt["path"]["training_states"]) / name).write_bytes(b"half")
    assert resume.load_resume_state(opt)["iter"] == 16


def test_repaired_resume_without_a_state_starts_anew(opt: dict, tmp_path: Path) -> None:
    opt["path"]["training_states"] = str(tmp_path / "none")
    assert resume.load_resume_state(opt) is None
    opt["auto_resume"] = False
    assert resume.load_resume_state(opt) is None


@pytest.mark.parametrize("iteration", [8, 16])
def test_named_state_begins_a_new_course(opt: dict, iteration: int, caplog: pytest.LogCaptureFixture) -> None:
    states, models = Path(opt["path"]["training_states"]), Path(opt["path"]["models"])
    torch.save({"params": {}, "facesr": {"best": {"iter": 12}}}, models / "net_g_best.pth")
    opt["auto_resume"] = False
    opt["path"]["resume_state"] = str(states / f"{iteration}.state")
    assert resume.load_resume_state(opt)["iter"] == iteration
    assert resume.newest_state(states).name == f"{iteration}.state"
    assert (models / "net_g_best.pth").is_file() == (iteration == 16)
    assert len([*states.iterdir()]) == 2  # nothing is lost
    assert ("16.state, net_g_best.pth" in caplog.text) == (iteration == 8)
    opt["auto_resume"] = True
    assert resume.load_resume_state(opt)["iter"] == iteration


def test_other_ranks_rename_nothing(opt: dict) -> None:
    opt |= {"auto_resume": False, "rank": 1}
    opt["path"]["resume_state"] = f"{opt['path']['training_states']}/8.state"
    resume.load_resume_state(opt)
    assert resume.newest_state(Path(opt["path"]["training_states"])).name == "16.state"


def test_repaired_resume_names_a_missing_state(opt: dict, tmp_path: Path) -> None:
    opt |= {"auto_resume": False}
    opt["path"]["resume_state"] = str(tmp_path / "9.state")
    with pytest.raises(FileNotFoundError, match=r"path\.resume_state must be a training state, .*9\.state"):
        resume.load_resume_state(opt)


def test_repaired_resume_takes_over_a_drawn_seed(opt: dict) -> None:
    write_checkpoint(Path(opt["path"]["models"]).parent, 24, facesr={"manual_seed": 99})
    resume.load_resume_state(opt)
    assert opt["manual_seed"] == opt["datasets"]["train"]["manual_seed"] == 99
    assert opt["datasets"]["val"]["manual_seed"] == 3  # was set by hand


class Surprise:
    """Runs a command when unpickled."""

    def __reduce__(self) -> tuple:
        return print, ("code was run",)


def test_repaired_resume_runs_no_code_of_the_file(opt: dict, capsys: pytest.CaptureFixture) -> None:
    path = write_checkpoint(Path(opt["path"]["models"]).parent, 24, x=Surprise())
    opt |= {"auto_resume": False}
    opt["path"]["resume_state"] = str(path)
    with pytest.raises(ValueError, match="print"):
        resume.load_resume_state(opt)
    assert "code was run" not in capsys.readouterr().out


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"data.pkl") + 100] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "truncated": ("training_states/16.state", _truncate),
    "empty": ("training_states/16.state", _empty),
    "one bit": ("training_states/16.state", _flip),
    "of another kind": ("training_states/16.state", lambda path: torch.save({"params": {}}, path)),
    "a list": ("training_states/16.state", lambda path: torch.save([1], path)),
    "truncated network": ("models/net_g_16.pth", _truncate),
    "missing network": ("models/net_g_16.pth", Path.unlink),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_repaired_resume_passes_over_a_damaged_state(
    opt: dict, damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("basicsr"), "handlers", [caplog.handler])
    monkeypatch.setattr(logging.getLogger("basicsr"), "propagate", False)
    name, apply = DAMAGES[damage]
    experiment = Path(opt["path"]["models"]).parent
    apply(experiment / name)
    assert resume.load_resume_state(opt)["iter"] == 8
    assert opt["path"]["resume_state"].endswith("8.state")
    assert opt["path"]["pretrain_network_g"].endswith("net_g_8.pth")
    (record,) = caplog.records
    assert record.getMessage().startswith("Passed over a training state that cannot be used, going on from 8.state. ")
    assert str(experiment / "training_states/16.state") in record.getMessage()


@pytest.mark.parametrize("damage", DAMAGES)
def test_repaired_resume_refuses_a_damaged_state_that_is_named(opt: dict, damage: str) -> None:
    name, apply = DAMAGES[damage]
    experiment = Path(opt["path"]["models"]).parent
    apply(experiment / name)
    opt["auto_resume"] = False
    opt["path"]["resume_state"] = str(experiment / "training_states/16.state")
    with pytest.raises(ValueError, match=r"got .*16\.state: .* Name another one, or take --auto_resume"):
        resume.load_resume_state(opt)


def test_repaired_resume_does_not_start_anew_when_every_state_is_damaged(opt: dict) -> None:
    states = Path(opt["path"]["training_states"])
    for path in states.iterdir():
        _truncate(path)
    with pytest.raises(ValueError, match="must find a training state that can be used, got none") as caught:
        resume.load_resume_state(opt)
    assert [line.split(": ")[0].strip() for line in str(caught.value).splitlines()[1:]] == [
        str(states / "16.state"), str(states / "8.state"),
    ]  # fmt: skip


def test_repaired_resume_needs_no_network_that_is_left_out(opt: dict) -> None:
    (Path(opt["path"]["models"]) / "net_g_16.pth").unlink()
    opt["path"]["ignore_resume_networks"] = ["network_g"]
    assert resume.load_resume_state(opt)["iter"] == 16


@pytest.mark.parametrize("folder", ["models", "training_states"])
def test_repaired_resume_refuses_folders_that_cannot_be_written(
    opt: dict, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        if path == opt["path"][folder]:
            raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(resume, "check_writable", refuse)
    with pytest.raises(OSError, match=f"Read-only file system: .*{folder}"):
        resume.load_resume_state(opt)
    opt["rank"] = 1
    assert resume.load_resume_state(opt)["iter"] == 16
