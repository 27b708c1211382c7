"""Runs by torchrun of which a rank dies or fails, on the CPU: how they end, who is named, how they go on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.environments import REPO, TORCHRUN, run
from helpers.runs import differences, train_options, write_faces
from helpers.train_process import start_ranks

pytestmark = pytest.mark.process

TOTAL = 6
LIMIT_S = 60  # from the end of a rank to that of the run


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("faces")
    return write_faces(root / "train", 16), write_faces(root / "val", 2)


def write_options(root: Path, faces: tuple[Path, Path]) -> Path:
    saves = ("logger.save_checkpoint_freq=2", "val.val_freq=3", "train.ema_decay=0.9")
    return train_options(root / "run.yml", "run", *faces, TOTAL, *saves)


def start(root: Path, faces: tuple[Path, Path], program: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    """Train on two ranks; ``words`` are torchrun's."""
    command = [sys.executable, *TORCHRUN, *words, "-m", *program, "-opt", write_options(root, faces)]
    flags = ["--launcher", "pytorch", "--auto_resume"]
    found = {"PYTHONPATH": f"{REPO}:{REPO / 'tests'}", "CUDA_VISIBLE_DEVICES": ""}
    return run([*command, *flags], cwd=root, check=False, **found)


def test_run_that_torchrun_starts_again_ends_like_an_unbroken_one(faces: tuple[Path, Path], tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "broken")]
    for folder in folders:
        folder.mkdir()
    whole = start_ranks(2, write_options(folders[0], faces), folders[0])
    broken = start(folders[1], faces, ["helpers.rank_faults", "1", "4"], "--max-restarts=1")
    assert ([rank.end() for rank in whole], broken.returncode) == ([0, 0], 0), broken.stderr[-5000:]
    assert "Resuming training from epoch: 0, iter: 2." in broken.stderr
    assert "failed (exitcode: -9) local_rank: 1" in broken.stderr
    assert differences(*(folder / "experiments" / "run" for folder in folders), TOTAL) == []


def last_words(ended: subprocess.CompletedProcess[str]) -> str:
    """What torchrun says of the first failure."""
    assert ended.returncode == 1
    return ended.stderr[ended.stderr.index("Root Cause (first observed failure)") :]


def test_dead_rank_ends_the_run_and_is_named(faces: tuple[Path, Path], tmp_path: Path) -> None:
    said = last_words(start(tmp_path, faces, ["helpers.rank_faults", "1", "3"]))
    last_save = tmp_path / "experiments" / "run" / "training_states" / "2.state"  # just before it died
    assert time.time() - last_save.stat().st_mtime < LIMIT_S
    assert "rank      : 1 (local_rank: 1)" in said
    assert "Signal 9 (SIGKILL) received by PID" in said
    assert not (tmp_path / "experiments" / "run" / "faults").exists()  # the other did not go on with half a sum


def test_rank_with_a_broken_image_ends_the_run_and_is_named(faces: tuple[Path, Path], tmp_path: Path) -> None:
    train = shutil.copytree(faces[0], tmp_path / "train")
    damaged = train / "005.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    said = last_words(start(tmp_path, (train, faces[1]), ["facesr_plugin.train"]))
    assert re.search(r"rank      : [01] \(local_rank: [01]\)", said)
    assert f"{damaged} is damaged" in said
