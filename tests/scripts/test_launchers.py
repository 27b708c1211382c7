"""The shell scripts that start distributed runs, with a stand-in for the launcher that prints its arguments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.environments import REPO, run

pytestmark = pytest.mark.process


def start(folder: Path, script: str, *words: str, **settings: str) -> list[str]:
    """Arguments of the launcher."""
    for name in ("srun", "torchrun"):
        program = folder / name
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return run(["bash", REPO / "scripts" / script, *words], cwd=folder, PATH=path, **settings).stdout.splitlines()


@pytest.mark.parametrize(("settings", "expected"), [({}, ["--gres=gpu:8"]), ({"GRES": ""}, [])])
def test_slurm_script_asks_for_gpus_unless_told_not_to(
    tmp_path: Path, settings: dict[str, str], expected: list[str]
) -> None:
    words = start(tmp_path, "slurm_train.sh", "long", "my job", "options/a b.yml", "--auto_resume", **settings)
    assert [word for word in words if word.startswith("--gres")] == expected
    assert {"--ntasks=8", "--job-name=my job", "--kill-on-bad-exit=1", "options/a b.yml"} <= set(words)
    assert words[-3:] == ["--launcher", "slurm", "--auto_resume"]


def test_torchrun_script_takes_a_free_port_and_restarts(tmp_path: Path) -> None:
    words = start(tmp_path, "dist_train.sh", "3", "options/sparnet.yml", "--auto_resume", RESTARTS="2")
    assert {"--nproc_per_node=3", "--rdzv-endpoint=localhost:0", "--max-restarts=2"} <= set(words)
    assert words[-3:] == ["--launcher", "pytorch", "--auto_resume"]
