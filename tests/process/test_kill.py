"""Training through BasicSR's own train.py, killed at random and resumed, ends in the bits of an unbroken run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from helpers.environments import ChildEnv
from helpers.runs import differences, train_checkout, train_options, write_faces

pytestmark = pytest.mark.process

TOTAL, SAVE_EVERY = 60, 4  # 7 iterations an epoch: saves fall on every place in it
LAST = TOTAL // SAVE_EVERY * SAVE_EVERY


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("kill")
    return write_faces(root / "train", 15), write_faces(root / "val", 2)


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
    train_checkout(lone_env, checkout, unbroken)

    rng = random.Random(workers)
    moments = sorted(rng.sample(range(SAVE_EVERY + 1, TOTAL - 1), 3))
    logs = [train_checkout(lone_env, checkout, killed, moment, rng.uniform(0, 0.05)) for moment in moments]
    logs.append(train_checkout(lone_env, checkout, killed))

    assert ["Resuming training from epoch" in log for log in logs] == [False, True, True, True]
    experiments = checkout / "experiments"
    assert differences(experiments / unbroken.stem, experiments / killed.stem, LAST) == []
    assert not list((experiments / killed.stem).rglob("*.tmp"))
