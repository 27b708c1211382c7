"""JASRNet by BasicSR's own scripts in an unmodified checkout, on drawn faces: training, test."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from facesr_plugin.checkpoints import load_weights
from facesr_plugin.utils.imageio import read_image
from facesr_plugin.utils.option_file import find_shipped, load_option_file, override
from helpers.environments import ChildEnv, run
from helpers.runs import train_checkout

pytestmark = pytest.mark.process

TOTAL = 4
SIZE = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, wheel_env: ChildEnv) -> Path:
    """A folder with ``faces_train.lmdb`` and ``faces_val.lmdb``: faces with 68 landmarks, larger than the crops."""
    root = tmp_path_factory.mktemp("jasrnet")
    draw = ["prepare", "synthetic", "--out", root / "faces.lmdb", "--num", "6", "--val", "2", "--size", "96"]
    run([wheel_env.root / "bin" / "facesr", *draw, "--workers", "1"], cwd=root)
    return root


def shrink(path: Path, shipped: str, data: Path, *assignments: str) -> Path:
    """Write a shipped file for small faces and a narrow network."""
    options = load_option_file(find_shipped(shipped))
    options["datasets"].pop("test_2", None)
    narrow = ["network_g.num_feat=4", "network_g.num_block=1"]
    override(options, [f"name={path.stem}", "num_gpu=0", *narrow, *assignments])
    for phase, section in options["datasets"].items():
        root = data / f"faces_{'train' if phase == 'train' else 'val'}.lmdb"
        section |= {"dataroot_gt": str(root), "io_backend": {"type": "lmdb"}, "landmarks": True, "gt_size": SIZE}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def train_options(path: Path, data: Path, *more: str) -> Path:
    """Options of a run that saves every iteration."""
    assignments = [
        "network_g.init_type=torch",
        "datasets.train.num_worker_per_gpu=0",
        "datasets.train.batch_size_per_gpu=2",
        f"train.total_iter={TOTAL}",
        "val.val_freq=2",
        "logger.save_checkpoint_freq=1",
        "logger.print_freq=1",
        "logger.use_tb_logger=false",
    ]
    return shrink(path, "jasrnet", data, *assignments, *more)


@pytest.fixture(scope="module")
def trained(checkout: Path, lone_env: ChildEnv, data: Path) -> Path:
    """An unbroken run."""
    log = train_checkout(lone_env, checkout, train_options(checkout / "options" / "jasrnet_whole.yml", data))
    assert log.count("l_g_pixel: ") == log.count("l_g_landmark: ") == TOTAL
    for metric in ("psnr", "ssim", "psnr_box", "ssim_box", "nme", "auc", "failure_rate"):
        assert log.count(f"# {metric}: ") == 3  # twice, and at the end
    return checkout / "experiments" / "jasrnet_whole"


def test_trained_file_is_tested_and_states_its_faces(
    trained: Path, checkout: Path, lone_env: ChildEnv, data: Path
) -> None:
    weights = trained / "models" / "net_g_latest.pth"
    assert load_weights(weights).faces == {"gt_size": SIZE, "scale": 8, "framing": "box"}
    path = checkout / "options" / "jasrnet_test.yml"
    options = shrink(path, "test_jasrnet", data, f"path.pretrain_network_g={weights}")
    test = [lone_env.python, "basicsr/test.py", "-opt", options.relative_to(checkout)]
    printed = run(test, cwd=checkout, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="").stderr
    assert "# psnr_box: " in printed
    assert "# nme: " in printed
    pictures = checkout / "results" / "jasrnet_test" / "visualization" / "300W_common"
    assert [read_image(path).shape for path in pictures.glob("*.png")] == [(SIZE, SIZE, 3)] * 2
    assert len(list((pictures / "landmarks").glob("*.png"))) == 2
