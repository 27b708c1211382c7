"""Progressive FSR by BasicSR's own scripts in an unmodified checkout: three stages, test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from facesr_plugin.utils.imageio import read_image
from facesr_plugin.utils.option_file import find_shipped, load_option_file, override
from helpers.environments import ChildEnv, run
from helpers.runs import train_checkout, write_faces
from helpers.tiny_fan import save_tiny_fan

pytestmark = pytest.mark.process

STAGE = 3  # iterations of each
SIZE = 64


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("progressive") / "faces", 8, SIZE)


def shrink(path: Path, shipped: str, faces: Path, *assignments: str) -> Path:
    """Write a shipped file for small faces in a folder and narrow networks."""
    options = load_option_file(find_shipped(shipped))
    override(options, [f"name={path.stem}", "num_gpu=0", "network_g.num_feat=8", *assignments])
    for section in options["datasets"].values():
        section |= {"dataroot_gt": str(faces), "io_backend": {"type": "disk"}, "gt_size": SIZE}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def train_options(checkout: Path, name: str, faces: Path) -> Path:
    """Options of a run of three stages without perceptual loss, which saves every iteration."""
    fan = save_tiny_fan(faces.parent / "fan.pth")
    stages = [{"iters": STAGE, "fade_iters": STAGE - 1, "weights": {"pixel": 10, "gan": 1}} for _ in range(3)]
    for stage, scale in zip(stages, (2, 4, 8), strict=True):
        stage["scale"] = scale
    stages[1]["weights"] |= {"attention": 500, "heatmap": 50}
    assignments = [
        "datasets.train.num_worker_per_gpu=0",
        "datasets.train.batch_size_per_gpu=2",
        "network_d.num_feat=8",
        "train.ema_decay=0.9",
        f"train.total_iter={3 * STAGE}",
        f"train.stages={stages}",
        "train.perceptual_opt=null",
        f"train.attention_opt.weights={fan}",
        f"train.heatmap_opt.weights={fan}",
        f"val.val_freq={STAGE}",
        "logger.save_checkpoint_freq=1",
        "logger.keep_checkpoints=null",
        "logger.print_freq=1",
        "logger.use_tb_logger=false",
    ]
    return shrink(checkout / "options" / f"{name}.yml", "progressive", faces, *assignments)


@pytest.fixture(scope="module")
def trained(checkout: Path, lone_env: ChildEnv, faces: Path) -> Path:
    """An unbroken run."""
    log = train_checkout(lone_env, checkout, train_options(checkout, "progressive_whole", faces))
    for step in (1, 2, 3):
        assert len(re.findall(rf"step: {step}\b", log)) == STAGE
    assert log.count("l_g_heatmap") == STAGE
    assert log.count("# ms_ssim: ") == 4  # once a stage, and at the end
    return checkout / "experiments" / "progressive_whole"


@pytest.mark.parametrize(("iteration", "side"), [(STAGE, 16), (3 * STAGE, 64)])
def test_checkout_tests_a_network_in_the_size_of_its_stage(
    trained: Path, checkout: Path, lone_env: ChildEnv, faces: Path, iteration: int, side: int
) -> None:
    weights = trained / "models" / f"net_g_{iteration}.pth"
    name = f"progressive_test_{iteration}"
    path = checkout / "options" / f"{name}.yml"
    options = shrink(path, "test_progressive", faces, f"path.pretrain_network_g={weights}")
    test = [lone_env.python, "basicsr/test.py", "-opt", options.relative_to(checkout)]
    assert "# psnr: " in run(test, cwd=checkout, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="").stderr
    picture = checkout / "results" / name / "visualization" / "CelebA_test" / f"000_{name}.png"
    assert read_image(picture).shape == (side, side, 3)
