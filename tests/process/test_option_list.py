"""A run that cannot work ends before it makes or renames anything, through BasicSR's own scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.environments import TORCHRUN, ChildEnv, run
from helpers.runs import train_options, write_faces

pytestmark = pytest.mark.process


def test_train_script_lists_all_problems_and_touches_nothing(
    checkout: Path, lone_env: ChildEnv, tmp_path: Path
) -> None:
    faces, none = write_faces(tmp_path / "faces", 2), tmp_path / "no"
    path = train_options(tmp_path / "x.yml", "listed", faces, none, 2, "logger.print_freq=0")
    kept = checkout / "experiments" / "listed" / "kept.txt"
    kept.parent.mkdir(parents=True)
    kept.touch()
    before = set(checkout.glob("*/*"))
    forced = ["--force_yml", "path:pretrain_network_g=no.pth", "train:accumulate=3"]
    command = [lone_env.python, "basicsr/train.py", "-opt", path, *forced]
    done = run(command, cwd=checkout, check=False, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    error = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert error == [
        "error: 4 problems in the options:",
        "  logger.print_freq must be 1 or more, got 0",
        "  datasets.train.batch_size_per_gpu must be a multiple of train.accumulate (3), got 2",
        "  path.pretrain_network_g: no such file no.pth",
        f"  datasets.val.dataroot_gt: no such file or folder {none}",
    ]
    assert set(checkout.glob("*/*")) == before
    assert kept.is_file()


def test_train_script_of_several_ranks_wants_a_launcher(checkout: Path, lone_env: ChildEnv, tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", 2)
    path = train_options(tmp_path / "x.yml", "alone", faces, faces, 2)
    command = [lone_env.python, *TORCHRUN, "basicsr/train.py", "-opt", path]
    done = run(command, cwd=checkout, check=False, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1  # torchrun's
    assert done.stderr.count("got no launcher. Add --launcher pytorch\n") == 1
    assert "exitcode  : 2 " in done.stderr
    assert not (checkout / "experiments" / "alone").exists()


def test_test_script_lists_them_too(checkout: Path, lone_env: ChildEnv) -> None:
    options = Path(__file__).parents[2] / "options" / "test_sparnet.yml"
    command = [lone_env.python, "basicsr/test.py", "-opt", options]
    done = run(command, cwd=checkout, check=False, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "error: 2 problems in the options:\n  path.pretrain_network_g: no such file " in done.stderr
    assert "\n  datasets.test_1.dataroot_gt: no such file or folder datasets/celeba_val.lmdb\n" in done.stderr
    assert not (checkout / "results" / "test_sparnet_x8").exists()
