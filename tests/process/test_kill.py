"""Training through BasicSR's own train.py, killed at random and resumed, ends in the bits of an unbroken run."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from helpers.environments import ChildEnv, clean_env
from helpers.runs import differences, train_options, write_faces

pytestmark = pytest.mark.process

TOTAL, SAVE_EVERY = 60, 4  # 7 iterations an epoch: saves fall on every place in it
LAST = TOTAL // SAVE_EVERY * SAVE_EVERY
ITERATION = re.compile(r"epoch:\s*\d+, iter:\s*([\d,]+)")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("kill")
    return write_faces(root / "train", 15), write_faces(root / "val", 2)


def start(child: ChildEnv, checkout: Path, options: Path) -> subprocess.Popen[str]:
    """Start train.py in a process group of its own; the log comes through ``stderr``."""
    command = [child.python, "basicsr/train.py", "-opt", options.relative_to(checkout), "--auto_resume"]
    return subprocess.Popen(
        [str(word) for word in command], cwd=checkout, env=clean_env(PYTHONPATH=".", CUDA_VISIBLE_DEVICES=""),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def train(child: ChildEnv, checkout: Path, options: Path, kill_after: int | None, wait_s: float) -> list[str]:
    """Run to the end, or kill the whole group ``wait_s`` after iteration ``kill_after`` is logged; return the log."""
    process, log = start(child, checkout, options), []
    for line in process.stderr:
        log.append(line)
        found = ITERATION.search(line)
        if kill_after is not None and found and int(found[1].replace(",", "")) >= kill_after:
            time.sleep(wait_s)
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stderr.close()
    code = process.wait(timeout=60)
    assert code == (0 if kill_after is None else -signal.SIGKILL), "".join(log[-30:])
    return log


@pytest.mark.parametrize(("workers", "prefetch"), [(0, "null"), (2, "cpu")])
def test_killed_training_ends_like_an_unbroken_one(
    lone_env: ChildEnv, checkout: Path, faces: tuple[Path, Path], workers: int, prefetch: str
) -> None:
    run_options = {}
    for name in (f"unbroken{workers}", f"killed{workers}"):
        changes = [
            f"logger.save_checkpoint_freq={SAVE_EVERY}",
            "val.val_freq=10",
            f"datasets.train.num_worker_per_gpu={workers}",
            f"datasets.train.prefetch_mode={prefetch}",
            "train.ema_decay=0.9",
            "train.scheduler={type: MultiStepLR, milestones: [20, 40], gamma: 0.5}",
        ]
        path = checkout / "options" / f"{name}.yml"
        run_options[name] = train_options(path, name, *faces, TOTAL, *changes)
    unbroken, killed = run_options.values()
    train(lone_env, checkout, unbroken, None, 0)

    rng = random.Random(workers)
    moments = sorted(rng.sample(range(SAVE_EVERY + 1, TOTAL - 1), 3))
    logs = [train(lone_env, checkout, killed, moment, rng.uniform(0, 0.05)) for moment in moments]
    logs.append(train(lone_env, checkout, killed, None, 0))

    assert ["Resuming training from epoch" in "".join(log) for log in logs] == [False, True, True, True]
    experiments = checkout / "experiments"
    assert differences(experiments / unbroken.stem, experiments / killed.stem, LAST) == []
    assert not list((experiments / killed.stem).rglob("*.tmp"))
