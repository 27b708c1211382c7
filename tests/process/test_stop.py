"""A training that SIGINT or SIGTERM stops, and what happens to a second run of its name."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from facesr_plugin.utils.run_lock import release_run_locks, take_run_lock
from helpers.environments import ChildEnv, clean_env
from helpers.interrupted import listen_to_interrupts
from helpers.runs import differences, train_options, write_faces
from helpers.runs import write_options as write_shipped
from helpers.train_process import TrainProcess, start_ranks, train

pytestmark = pytest.mark.process

TOTAL = 24  # 7 iterations an epoch


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("stop")
    return write_faces(root / "train", 15), write_faces(root / "val", 2)


@pytest.fixture(scope="module")
def unbroken(faces: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experiment of a run that nobody stopped."""
    root = tmp_path_factory.mktemp("unbroken")
    train(write_options(root, faces), root)
    return root / "experiments" / "run"


def write_options(root: Path, faces: tuple[Path, Path], *more: str, total: int = TOTAL) -> Path:
    """Options of a run ``run`` that saves at its end alone."""
    changes = (f"logger.save_checkpoint_freq={total}", "train.ema_decay=0.9", *more)
    return train_options(root / "run.yml", "run", *faces, total, *changes)


def test_full_disk_stops_the_run_which_goes_on_when_there_is_room(
    faces: tuple[Path, Path], unbroken: Path, tmp_path: Path
) -> None:
    train(write_options(tmp_path, faces, "train.total_iter=6", "logger.save_checkpoint_freq=6"), tmp_path)
    options = write_options(tmp_path, faces, "logger.save_checkpoint_freq=8")
    folder = tmp_path / "experiments" / "run"
    names = {path.name for path in folder.rglob("*.*")}
    limit = (folder / "models" / "net_g_6.pth").stat().st_size - 1
    full = TrainProcess(options, tmp_path, "--auto_resume", largest=limit)
    assert full.end() == 1
    last = full.output.splitlines()[-1]
    assert last.startswith(
        f"OSError: the run stops, since it cannot write {folder}/models/net_g_8.pth: File too large. Make room"
    )
    assert last.endswith("intact: the same command with --auto_resume goes on from 6.state.")
    assert {path.name for path in folder.rglob("*.*") if path.suffix != ".log"} <= names
    assert "iter: 6." in train(options, tmp_path, "--auto_resume")
    assert differences(unbroken, folder, TOTAL) == []


def start_script(child: ChildEnv, checkout: Path, script: str, options: Path, *flags: str) -> subprocess.Popen:
    """Start BasicSR's own script as the leader of a process group."""
    return subprocess.Popen(
        [child.python, f"basicsr/{script}.py", "-opt", options, *flags], cwd=checkout, env=clean_env(PYTHONPATH="."),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=listen_to_interrupts,
    )  # fmt: skip


@pytest.mark.parametrize(("signum", "group", "workers"), [(signal.SIGTERM, True, 2), (signal.SIGINT, False, 0)])
def test_stopped_training_saves_and_goes_on_like_an_unbroken_one(
    faces: tuple[Path, Path], unbroken: Path, tmp_path: Path, signum: int, group: bool, workers: int
) -> None:
    prefetch = "cpu" if workers else "~"
    loader = (f"datasets.train.num_worker_per_gpu={workers}", f"datasets.train.prefetch_mode={prefetch}")
    options = write_options(tmp_path, faces, *loader)
    run = TrainProcess(options, tmp_path)
    run.wait_for("iter: 5/")
    run.send(signum, group=group)
    assert run.end() == 128 + signum
    last = run.last_iteration()
    assert 5 <= last < TOTAL
    folder = tmp_path / "experiments" / "run"
    assert f"after iteration {last}. The same command with --auto_resume goes on from {folder}" in run.output
    assert "Traceback" not in run.output
    assert [path.name for path in (folder / "training_states").iterdir()] == [f"{last}.state"]

    assert f"iter: {last}." in train(options, tmp_path, "--auto_resume")
    assert differences(unbroken, folder, TOTAL) == []


def test_ranks_stop_after_the_same_iteration_when_one_is_signalled(faces: tuple[Path, Path], tmp_path: Path) -> None:
    leader, other = start_ranks(2, write_options(tmp_path, faces), tmp_path)
    leader.wait_for("iter: 5/")
    other.send(signal.SIGTERM)
    assert [leader.end(), other.end()] == [128 + signal.SIGTERM] * 2
    last = leader.last_iteration()
    assert (tmp_path / "experiments" / "run" / "training_states" / f"{last}.state").is_file()


def test_stopped_script_gives_the_signals_status(lone_env: ChildEnv, checkout: Path, faces: tuple[Path, Path]) -> None:
    loader = ("name=stopped", "datasets.train.num_worker_per_gpu=2", "datasets.train.prefetch_mode=cpu")
    options = write_options(checkout / "options" / "stopped", faces, *loader)
    with start_script(lone_env, checkout, "train", options) as process:
        log = []
        for line in process.stderr:
            log.append(line)
            if "iter: 3/" in line:
                os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT, "".join(log[-30:])
    assert "Traceback" not in "".join(log)
    assert len(list((checkout / "experiments" / "stopped" / "training_states").iterdir())) == 1


@pytest.mark.parametrize(
    ("script", "kind", "flag"), [("train", "experiments", "--auto_resume"), ("test", "results", "")]
)
def test_script_refuses_a_folder_in_use(
    lone_env: ChildEnv, checkout: Path, faces: tuple[Path, Path], script: str, kind: str, flag: str
) -> None:
    path = checkout / "options" / f"taken_{script}.yml"
    if script == "train":
        options = train_options(path, "taken", *faces, TOTAL)
    else:
        data = (f"datasets.test_1.dataroot_gt={faces[1]}", "datasets.test_1.io_backend.type=disk")
        options = write_shipped(path, "test_sparnet", ["name=taken", "path.pretrain_network_g=~", *data])
    folder = checkout / kind / "taken"
    folder.mkdir(parents=True)
    take_run_lock(folder)
    with start_script(lone_env, checkout, script, options, *[flag] * bool(flag)) as process:
        errors = process.stderr.read()
    release_run_locks()
    last = errors.splitlines()[-1]
    assert last.startswith(f"OSError: {folder} must be free of other runs, got one in it: process {os.getpid()} on ")
    assert process.returncode == 1
    assert [path.name for path in folder.parent.glob("taken*")] == ["taken"]
    assert not list(folder.iterdir())
