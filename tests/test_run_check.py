"""What a run needs on this machine, checked before it starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from facesr_plugin import run_check
from facesr_plugin.run_check import Start, check_run
from helpers.runs import train_options, write_faces
from helpers.tiny import save_tiny_sparnet

TRAINING = Start(is_train=True)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a training that works."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name))
    faces = write_faces(tmp_path / "faces", 2)
    return yaml.safe_load(train_options(tmp_path / "run.yml", "run", faces, faces, 2).read_text())


def problems(options: dict[str, Any], start: Start = TRAINING) -> list[str]:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        check_run(options, start)
    return [line.strip() for line in str(caught.value).splitlines()]


def test_run_that_works_passes(options: dict[str, Any]) -> None:
    check_run(options, TRAINING)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda o: o.update(num_gpu=1), "num_gpu must be at most the number of GPUs here, 0, got 1. Set num_gpu: auto"),
        (lambda o: o.update(num_gpu="all"), "num_gpu must be auto or a whole number, got 'all'"),
        (lambda o: o["path"].update(pretrain_network_g="no.pth"), "path.pretrain_network_g: no such file no.pth"),
        (lambda o: o["path"].update(resume_state="no.state"), "path.resume_state: no such file no.state"),
        (lambda o: o["path"].update(resume_state="~nobody-here/a"), "path.resume_state: no such file ~nobody-here/a"),
        (
            lambda o: o["datasets"]["val"].update(dataroot_gt="~nobody-here"),
            "datasets.val.dataroot_gt: no such file or folder ~nobody-here",
        ),
        (
            lambda o: o["datasets"]["val"].update(dataroot_gt="no"),
            "datasets.val.dataroot_gt: no such file or folder no",
        ),
        (
            lambda o: o["datasets"]["train"].update(meta_info_file="no.txt"),
            "datasets.train.meta_info_file: no such file or folder no.txt",
        ),
        (
            lambda o: o["datasets"]["train"].update(landmarks="no.npz"),
            "datasets.train.landmarks: no such file or folder no.npz",
        ),
        (
            lambda o: o["logger"].update(use_tb_logger=True, wandb={"project": "faces"}),
            "logger.wandb needs the library wandb: pip install wandb",
        ),
        (
            lambda o: o["datasets"]["train"].update(batch_size_per_gpu=3),
            "datasets.train must have enough images for one batch on every process, got 2 (times dataset_enlarge_ratio "
            "1) for 1 x 3. Set dataset_enlarge_ratio: 2, or a smaller batch_size_per_gpu.",
        ),
        (
            lambda o: o["datasets"]["train"].update(dataset_enlarge_ratio=0),
            "datasets.train.dataset_enlarge_ratio must be 1 or more, got 0",
        ),
        (
            lambda o: o["datasets"]["train"].update(dataset_enlarge_ratio=-3),
            "datasets.train.dataset_enlarge_ratio must be 1 or more, got -3",
        ),
        (
            lambda o: o["datasets"]["train"].update(persistent_workers=True),
            "datasets.train.persistent_workers must be false without workers, got True",
        ),
        (
            lambda o: o["datasets"]["val"].update(persistent_workers=True, num_worker_per_gpu=2),
            "datasets.val.persistent_workers must be false without workers, got True",
        ),
        (
            lambda o: o["datasets"]["train"].update(num_prefetch_queue=0),
            "datasets.train.num_prefetch_queue must be a whole number from 1 on, got 0",
        ),
        (
            lambda o: o.update(manual_seed="abc"),
            "manual_seed must be a whole number from 0 to 4294967295, or ~ to draw one, got 'abc'",
        ),
        (
            lambda o: o.update(manual_seed=-1),
            "manual_seed must be a whole number from 0 to 4294967295, or ~ to draw one",
        ),
        (
            lambda o: o.update(manual_seed=2**32),
            "manual_seed must be a whole number from 0 to 4294967295, or ~ to draw",
        ),
        (lambda o: o["datasets"]["val"].update(manual_seed=-1), "datasets.val.manual_seed must be 0 or more, got -1"),
        (lambda o: o["datasets"]["train"].pop("name"), "datasets.train must have 'name'"),
        (
            lambda o: o["datasets"].update(test=o["datasets"]["val"]),
            "datasets.test must be called train, val or val_2 (and so on) in a training",
        ),
        (
            lambda o: o["datasets"]["train"].update(num_worker_per_gpu=-1),
            "datasets.train.num_worker_per_gpu must be a whole number from 0 on, got -1",
        ),
        (lambda o: o["datasets"]["train"].update(use_hflip=3), "datasets.train.use_hflip must be bool, got 3"),
        (
            lambda o: o["datasets"]["train"].update(io_backend={"type": "lmdb"}),
            "datasets.train: io_backend.type lmdb needs a path that ends with .lmdb",
        ),
    ],
)
def test_what_is_missing_is_named(options: dict[str, Any], change: Callable[[dict], Any], text: str) -> None:
    change(options)
    (problem,) = problems(options)
    assert problem.startswith(text)


def test_training_needs_no_validation(options: dict[str, Any]) -> None:
    del options["val"], options["datasets"]["val"]
    check_run(options, TRAINING)


@pytest.mark.parametrize("section", ["logger", "val"])
def test_empty_section_lacks_its_keys(options: dict[str, Any], section: str) -> None:
    options[section] = {}
    assert all(problem.startswith(f"{section} must have ") for problem in problems(options)[1:])


def test_wandb_needs_tensorboard(options: dict[str, Any]) -> None:
    options["logger"]["wandb"] = {"project": "faces"}
    assert "logger.wandb needs logger.use_tb_logger: true, whose log it sends" in problems(options)


def test_test_needs_to_know_whether_to_save(options: dict[str, Any]) -> None:
    test = {key: options[key] for key in ("name", "model_type", "scale", "num_gpu", "network_g", "path")}
    check_run(test | {"datasets": {"test_1": options["datasets"]["val"]}, "val": {"save_img": False}}, Start(False))
    assert problems(test | {"datasets": {}, "val": {}}, Start(False)) == ["val must have 'save_img'"]


def test_everything_is_in_one_list(options: dict[str, Any]) -> None:
    options["datasets"]["train"] |= {"dataroot_gt": "no", "landmarks": "no.npz"}
    options["path"]["pretrain_network_g"] = "no.pth"
    options["val"]["val_frq"] = 1
    first, *rest = problems(options)
    assert first == "4 problems in the options:"
    assert [line.split()[0] for line in rest] == [
        "val", "path.pretrain_network_g:", "datasets.train.dataroot_gt:", "datasets.train.landmarks:",
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["pretrain_network_g", "resume_state"])
def test_file_that_holds_no_weights_is_named(options: dict[str, Any], tmp_path: Path, key: str) -> None:
    options["path"][key] = str(tmp_path / "run.yml")
    (problem,) = problems(options)
    assert problem.startswith(f"path.{key}: cannot read {options['path'][key]!r}: it is none of: .pth/.pt of torch.sav")


def test_weights_and_states_are_not_confused(options: dict[str, Any], tmp_path: Path) -> None:
    state = {"epoch": 0, "iter": 1, "optimizers": [], "schedulers": []}
    torch.save(state, tmp_path / "1.state")
    weights = save_tiny_sparnet(tmp_path / "net.pth")
    options["path"]["resume_state"] = str(tmp_path / "1.state")
    check_run(options, TRAINING)
    options["path"]["resume_state"] = str(weights)
    assert problems(options)[0].startswith("path.resume_state: it must hold epoch, iter, optimizers, schedulers")
    options["path"] |= {"resume_state": None, "pretrain_network_g": str(weights)}
    check_run(options, TRAINING)
    options["path"]["pretrain_network_g"] = str(tmp_path / "1.state")
    assert "it holds no state dict" in problems(options)[0]


def test_weights_of_another_network_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    options["path"]["pretrain_network_g"] = str(save_tiny_sparnet(tmp_path / "net.pth"))
    options["network_g"] = {"type": "JASRNet"}
    assert "these are weights of sparnet (SPARNet), not of JASRNet" in problems(options)[-1]


@pytest.mark.parametrize(("launcher", "text"), [("pytorch", "2 x 2"), ("slurm", "2 x 2"), ("none", "1 x 4")])
def test_batches_of_all_processes_or_gpus_must_be_filled(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, launcher: str, text: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "SLURM_PROCID": 0, "SLURM_NTASKS": 2}.items():
        monkeypatch.setenv(name, str(value))
    start = Start(is_train=True, launcher=launcher)
    options["num_gpu"] = "auto"
    options["datasets"]["train"]["batch_size_per_gpu"] = 1
    check_run(options, start)
    options["datasets"]["train"]["batch_size_per_gpu"] = 2
    (problem,) = problems(options, start)
    assert f"for {text}. Set dataset_enlarge_ratio: 2, " in problem


def test_rank_is_added_to_the_seed(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    options["manual_seed"] = 2**32 - 1
    options["datasets"]["train"]["dataset_enlarge_ratio"] = 2
    check_run(options, TRAINING)
    (problem,) = problems(options, Start(is_train=True, launcher="pytorch"))
    assert problem.startswith("manual_seed must be a whole number from 0 to 4294967294, ")


def test_fid_needs_two_faces(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_check, "find_option_problems", lambda *_: [])  # inception's weights are not here
    options["datasets"]["val"]["dataroot_gt"] = str(write_faces(tmp_path / "one", 1))
    options["val"]["metrics"]["fid"] = {"type": "calculate_fid"}
    assert problems(options) == ["datasets.val must have at least 2 faces for val.metrics.fid, got 1"]


def test_run_that_goes_on_needs_no_weights_of_its_start(options: dict[str, Any]) -> None:
    options["path"] |= {"pretrain_network_g": "no.pth", "resume_state": "no.state"}
    check_run(options, Start(is_train=True, resumes=True))


def test_launcher_may_have_gpus_elsewhere(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    options["num_gpu"] = 8
    options["datasets"]["train"]["dataset_enlarge_ratio"] = 8
    check_run(options, Start(is_train=True, launcher="slurm"))
    assert problems(options) == ["num_gpu must be at most the number of GPUs here, 2, got 8. Set num_gpu: auto"]


def test_other_ranks_end_without_words(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(run_check.time, "sleep", waited.append)
    monkeypatch.setenv("RANK", "1")
    options["path"]["pretrain_network_g"] = "no.pth"
    with pytest.raises(SystemExit) as caught:
        check_run(options, Start(is_train=True, launcher="pytorch"))
    assert caught.value.code == 2
    assert waited == [run_check._WAIT_S]


@pytest.mark.parametrize(("launcher", "rank"), [("none", 0), ("pytorch", 3), ("slurm", 5)])
def test_rank_is_what_the_launcher_says(launcher: str, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("SLURM_PROCID", "5")
    assert Start(is_train=True, launcher=launcher).rank == rank


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o.update(model_type=["SPARNetModel"]),
        lambda o: o["network_g"].update(type={}),
        lambda o: o["train"].update(scheduler=2.5),
        lambda o: o["train"].update(optim_g="Adam"),
        lambda o: o["train"]["optim_g"].update(betas=[]),
        lambda o: o["val"]["metrics"]["ssim_y"].update(crop_border={}),
        lambda o: o["datasets"]["train"].update(io_backend=2.5),
        lambda o: o["datasets"]["train"].update(type=[]),
    ],
)
def test_values_of_other_kinds_are_problems_too(options: dict[str, Any], change: Callable[[dict], Any]) -> None:
    change(options)
    assert problems(options)
