"""A loader worker that is killed or hangs ends a training of BasicSR's own train.py, which then goes on exactly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from helpers.environments import ChildEnv, clean_env
from helpers.runs import differences, train_checkout, train_options, write_faces

pytestmark = pytest.mark.process

TOTAL, SAVE_EVERY = 24, 3  # 5 iterations an epoch
ENOUGH_S = 150  # a minute, on a machine that does other things as well
KILLED = r"(is killed by signal: Killed|is gone)\. Likely causes: the system ran out of memory"


def make_options(
    checkout: Path, name: str, faces: tuple[Path, Path], workers: int, prefetch: str, timeout_s: int = 0
) -> Path:
    changes = [
        f"logger.save_checkpoint_freq={SAVE_EVERY}",
        "val.val_freq=10",
        f"datasets.train.num_worker_per_gpu={workers}",
        f"datasets.train.prefetch_mode={prefetch}",
    ]
    path = train_options(checkout / "options" / f"{name}.yml", name, *faces, TOTAL, *changes)
    options = yaml.safe_load(path.read_text())
    options["datasets"]["train"]["worker_timeout"] = timeout_s
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def workers_of(process: subprocess.Popen) -> list[int]:
    """Child processes of a training: its loader's workers."""
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def train_until_a_worker_gets(
    number: signal.Signals, after: int, child: ChildEnv, checkout: Path, options: Path
) -> tuple[int, str]:
    """Send a signal to all workers after an iteration; return exit code and log of a training that ends in time."""
    command = [child.python, "basicsr/train.py", "-opt", options.relative_to(checkout), "--auto_resume"]
    process = subprocess.Popen(
        [str(word) for word in command], cwd=checkout, env=clean_env(PYTHONPATH=".", CUDA_VISIBLE_DEVICES=""),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    log, hit = [], []
    for line in process.stderr:
        log.append(line)
        if re.search(rf"epoch:.*iter:\s*{after}\b", line):
            break
    deadline = time.monotonic() + ENOUGH_S
    while not hit and time.monotonic() < deadline:  # between two epochs there is none
        hit = workers_of(process)
    for pid in hit:
        os.kill(pid, number)
    try:
        log.append(process.communicate(timeout=ENOUGH_S)[1])
    finally:
        process.kill()
    return process.returncode, "".join(log)


def test_a_training_whose_worker_is_gone_ends_and_goes_on_exactly(
    lone_env: ChildEnv, checkout: Path, tmp_path: Path
) -> None:
    faces = write_faces(tmp_path / "train", 11), write_faces(tmp_path / "val", 2)
    unbroken = make_options(checkout, "unbroken_worker", faces, 0, "null")
    train_checkout(lone_env, checkout, unbroken)

    faults = [
        (8, "null", 0, signal.SIGKILL, KILLED),
        (14, "cpu", 0, signal.SIGKILL, KILLED),
        (20, "cpu", 15, signal.SIGSTOP, r"timed out after 15\S* seconds\. Likely causes: a disk"),
    ]
    for after, prefetch, timeout_s, number, reason in faults:
        broken = make_options(checkout, "dead_worker", faces, 1, prefetch, timeout_s)
        code, log = train_until_a_worker_gets(number, after, lone_env, checkout, broken)
        said = re.search(rf"The training has ended: .*{reason}.*The last save is \S*?(?P<save>\d+)\.state", log)
        assert code == 1, log[-3000:]
        assert said, log[-3000:]
        assert int(said["save"]) >= after - SAVE_EVERY

    broken = make_options(checkout, "dead_worker", faces, 1, "cpu")
    assert "Resuming training from epoch" in train_checkout(lone_env, checkout, broken)
    experiments = checkout / "experiments"
    assert differences(experiments / unbroken.stem, experiments / broken.stem, TOTAL) == []
