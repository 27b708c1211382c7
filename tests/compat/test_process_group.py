"""Repairs of BasicSR's process groups: each defect as released, then the repaired behaviour."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import basicsr.utils.dist_util
import pytest
import torch

from facesr_plugin.compat import process_group
from facesr_plugin.compat.process_group import told_to_launcher
from helpers.pristine import pristine

HALF_AN_HOUR = {"timeout": timedelta(minutes=30)}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Record process groups instead of starting them; rank 1, local rank 3."""
    calls: list[tuple] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **kw: calls.append((backend, kw)))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(("device", device)))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "3")
    return calls


def _gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)


def test_released_process_group_divides_by_zero_gpus(started: list, monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 0)
    with pytest.raises(ZeroDivisionError):
        pristine("basicsr.utils.dist_util")._init_dist_pytorch("nccl")


def test_repaired_process_group_uses_gloo_without_gpu(started: list, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_group.DIST_WITHOUT_GPU.name == "dist-without-gpu"
    _gpus(monkeypatch, 0)
    basicsr.utils.dist_util._init_dist_pytorch("nccl")
    assert started == [("gloo", HALF_AN_HOUR)]


def test_repaired_process_group_takes_the_local_rank(started: list, monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 4)
    basicsr.utils.dist_util._init_dist_pytorch("nccl")
    assert started == [("device", 3), ("nccl", HALF_AN_HOUR)]


def test_more_processes_than_gpus_are_refused(started: list, monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 2)
    with pytest.raises(ValueError, match="^a machine must have a GPU for each of its processes, got process 4 and 2 "):
        basicsr.utils.dist_util._init_dist_pytorch("nccl")
    assert started == []


@pytest.mark.parametrize("text", ["{backend: nccl, port: 1, timeout_s: 5}", "{timeout_s: 5}"])
def test_torchrun_waits_as_the_option_file_says(
    text: str, started: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gpus(monkeypatch, 0)
    (tmp_path / "tiny.yml").write_text(f"dist_params: {text}")
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(tmp_path / "tiny.yml"), "--launcher", "pytorch"])
    basicsr.utils.dist_util.init_dist("pytorch")
    assert started == [("gloo", {"timeout": timedelta(seconds=5)})]


@pytest.mark.parametrize("text", ["no: [mapping", "- 1", "dist_params: 3"])
def test_unreadable_options_are_left_to_basicsr(
    text: str, started: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gpus(monkeypatch, 0)
    (tmp_path / "tiny.yml").write_text(text)
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(tmp_path / "tiny.yml")])
    basicsr.utils.dist_util._init_dist_pytorch("nccl")
    assert started == [("gloo", HALF_AN_HOUR)]


@pytest.mark.parametrize("seconds", [0, -1, True, "30m", float("inf")])
def test_wrong_timeout_is_refused(seconds: Any) -> None:
    with pytest.raises(ValueError, match="^dist_params.timeout_s must be a number of seconds above 0, got "):
        process_group.start_group(0, timeout_s=seconds)


@pytest.fixture(autouse=True)
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Task 5 of a job step on two machines, the third one of its own; its folder of programs."""
    for name, value in {"PROCID": "5", "NTASKS": "6", "LOCALID": "2", "NODELIST": "gpu[3-4]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "RANK"):
        monkeypatch.setenv(name, "")  # put back what the repair sets
        monkeypatch.delenv(name)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return programs


def write_scontrol(programs: Path, text: str) -> None:
    path = programs / "scontrol"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_released_slurm_start_divides_by_zero_gpus(started: list, monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 0)
    with pytest.raises(ZeroDivisionError):
        pristine("basicsr.utils.dist_util")._init_dist_slurm("nccl")


@pytest.mark.parametrize(
    ("gpus", "local", "expected"),
    [
        (0, "0", [("gloo", HALF_AN_HOUR)]),
        (4, "2", [("device", 2), ("nccl", HALF_AN_HOUR)]),
        (1, "0", [("device", 0), ("nccl", HALF_AN_HOUR)]),  # --gpus-per-task=1 shows each task its own
    ],
)
def test_repaired_slurm_start_takes_the_place_on_the_machine(
    gpus: int, local: str, expected: list, slurm: Path, started: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert process_group.SLURM_WITHOUT_GPU.name == "slurm-without-gpu"
    _gpus(monkeypatch, gpus)
    write_scontrol(slurm, 'test "$*" = "show hostnames gpu[3-4]" && printf "gpu3\\ngpu4\\n"')
    basicsr.utils.dist_util.init_dist("slurm", backend="nccl", port=29501)
    assert started == expected
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    assert [os.environ[name] for name in names] == ["5", "6", local, "gpu3", "29501"]


def test_slurm_start_takes_a_given_address(started: list, monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 0)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.7")
    basicsr.utils.dist_util._init_dist_slurm("gloo")
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("10.0.0.7", "29500")


@pytest.mark.parametrize("script", [None, "exit 1", "exit 0"])
def test_slurm_start_without_hosts_says_what_to_do(script: str | None, slurm: Path, started: list) -> None:
    if script is not None:
        write_scontrol(slurm, script)
    with pytest.raises(ValueError, match=r"Set MASTER_ADDR to the name of the first one\.$"):
        basicsr.utils.dist_util._init_dist_slurm("gloo")


def fail(error: Exception) -> None:
    with told_to_launcher():
        raise error


def test_error_of_a_rank_is_written_for_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_group.RANK_ERRORS.name == "rank-errors"
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(ValueError, match="a broken image"):
        fail(ValueError("a broken image"))
    text = (tmp_path / "error.json").read_text()
    assert "ValueError: a broken image" in text
    assert "Traceback" in text


def test_error_that_ends_basicsrs_script_is_written_too(
    started: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: shown.append(error))
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    _gpus(monkeypatch, 0)
    basicsr.utils.dist_util.init_dist("pytorch")
    stopped = SystemExit(143)
    sys.excepthook(SystemExit, stopped, None)
    assert not (tmp_path / "error.json").exists()
    error = ValueError("a broken image")
    sys.excepthook(ValueError, error, None)
    assert shown == [stopped, error]
    assert "ValueError: a broken image" in (tmp_path / "error.json").read_text()


def test_rank_that_lost_another_one_gives_it_time_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(process_group.time, "sleep", waited.append)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(RuntimeError):
        fail(RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    assert waited == [5]
    assert not (tmp_path / "error.json").exists()
    assert "rank 0 has lost another rank" in capsys.readouterr().err


def test_error_of_a_single_process_is_its_own_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(ValueError, match="a broken image"):
        fail(ValueError("a broken image"))
    assert not (tmp_path / "error.json").exists()
