"""Distillation by BasicSR's own scripts in an unmodified checkout, on drawn faces: from a teacher, test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from facesr_plugin.archs.fan_arch import TeacherFAN
from facesr_plugin.checkpoints import Weights, load_weights, save_weights
from facesr_plugin.utils.option_file import find_shipped, load_option_file, override
from helpers.environments import ChildEnv, run
from helpers.runs import train_checkout

pytestmark = pytest.mark.process

TOTAL = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, wheel_env: ChildEnv) -> Path:
    """A folder with ``faces_train.lmdb`` and ``faces_val.lmdb`` and the weights of a small teacher."""
    root = tmp_path_factory.mktemp("fan")
    draw = ["prepare", "synthetic", "--out", root / "faces.lmdb", "--num", "6", "--val", "2", "--size", "32"]
    run([wheel_env.root / "bin" / "facesr", *draw, "--workers", "1"], cwd=root)
    torch.manual_seed(0)
    state = TeacherFAN(num_stacks=1).state_dict()
    args = {"num_stacks": 1, "num_landmarks": 68}
    save_weights(root / "teacher.pth", Weights("progressive", "TeacherFAN", args, state, "params", root))
    return root


def shrink(path: Path, shipped: str, assignments: list[str]) -> Path:
    """Write a shipped file for a narrow network."""
    options = load_option_file(find_shipped(shipped))
    override(options, [f"name={path.stem}", "num_gpu=0", "network_g.num_feat=4", *assignments])
    for section in options["datasets"].values():
        section["gt_size"] = 32
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def train_options(path: Path, data: Path) -> Path:
    """Options of a run from the teacher, which saves every iteration."""
    assignments = [
        *(f"datasets.{phase}.dataroot_gt={data}/faces_{phase}.lmdb" for phase in ("train", "val")),
        "datasets.train.num_worker_per_gpu=0",
        "datasets.train.batch_size_per_gpu=2",
        "datasets.train.use_hflip=true",
        "network_teacher.num_stacks=1",
        f"path.pretrain_network_teacher={data}/teacher.pth",
        f"train.total_iter={TOTAL}",
        "val.val_freq=2",
        "logger.save_checkpoint_freq=1",
        "logger.print_freq=1",
        "logger.use_tb_logger=false",
    ]
    return shrink(path, "fan_distill", assignments)


@pytest.fixture(scope="module")
def trained(checkout: Path, lone_env: ChildEnv, data: Path) -> Path:
    """An unbroken run."""
    log = train_checkout(lone_env, checkout, train_options(checkout / "options" / "fan_whole.yml", data))
    assert log.count("l_g_heatmap: ") == TOTAL
    assert log.count("# nme: ") == 3  # twice, and at the end
    return checkout / "experiments" / "fan_whole"


def test_trained_file_is_tested_and_read_back(trained: Path, checkout: Path, lone_env: ChildEnv, data: Path) -> None:
    weights = trained / "models" / "net_g_latest.pth"
    assert load_weights(weights).args == {"num_landmarks": 68, "num_feat": 4}
    assignments = [f"datasets.test_1.dataroot_gt={data}/faces_val.lmdb", f"path.pretrain_network_g={weights}"]
    options = shrink(checkout / "options" / "fan_test.yml", "test_fan_distill", assignments)
    test = [lone_env.python, "basicsr/test.py", "-opt", options.relative_to(checkout)]
    printed = run(test, cwd=checkout, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="").stderr
    assert "# nme: " in printed
    assert "# failure_rate: " in printed
    assert len(list((checkout / "results" / "fan_test").rglob("*.png"))) == 2
