"""SPARNetHD by ``python basicsr/train.py -opt options/sparnethd.yml`` in an unmodified checkout, shrunk for a CPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from helpers.docs import code_blocks
from helpers.environments import ChildEnv, run
from helpers.runs import SIZE, write_faces, write_options

pytestmark = pytest.mark.process

DISCRIMINATOR = ["network_d.base_ch=4", "network_d.n_layers=1", "network_d.num_d=2"]


def write_vgg(path: Path) -> Path:
    """Write random weights of the two first layers of VGG19."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"features.0": (64, 3, 3, 3), "features.2": (64, 64, 3, 3)}
    state = {f"{key}.weight": torch.randn(shape, generator=generator) / 20 for key, shape in shapes.items()}
    torch.save({**state, **{f"{key}.bias": torch.zeros(64) for key in shapes}}, path)
    return path


def shrink(path: Path, shipped: str, faces: Path, assignments: list[str], train: dict[str, Any] | None = None) -> Path:
    """Write a shipped file of SPARNetHD for faces of ``SIZE`` in a folder; ``train`` goes into the training data."""
    path = write_options(path, shipped, assignments)
    options: dict[str, Any] = yaml.safe_load(path.read_text())
    for section in options["datasets"].values():
        section |= {"dataroot_gt": str(faces), "io_backend": {"type": "disk"}, "gt_size": SIZE}
        section["degradations"][1]["low_size"] = [8, 16]
    options["datasets"].get("train", {}).update(train or {})
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def train(name: str, checkout: Path, python: Path, faces: Path, total: int, data: dict[str, Any] | None = None) -> str:
    """Train to iteration ``total``, saving and validating every 2; continues if there is a state."""
    vgg = write_vgg(faces.parent / "vgg.pth")
    perceptual = f"{{type: FacePerceptualLoss, weights: {vgg}, layer_weights: {{relu1_2: 1}}, min_width: 0}}"
    assignments = [
        f"name={name}",
        "datasets.train.num_worker_per_gpu=0",
        f"train.total_iter={total}",
        f"train.perceptual_opt={perceptual}",
        "val.val_freq=2",
        "logger.save_checkpoint_freq=2",
        "logger.print_freq=1",
        "logger.use_tb_logger=false",
        *DISCRIMINATOR,
    ]
    options = shrink(checkout / "options" / "sparnethd.yml", "sparnethd", faces, assignments, data)
    command = [python, "basicsr/train.py", "-opt", options.relative_to(checkout), "--auto_resume"]
    return run(command, cwd=checkout, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="").stderr


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("hd") / "faces", 6)


@pytest.fixture(scope="module")
def trained(checkout: Path, lone_env: ChildEnv, faces: Path) -> Path:
    """An experiment of 4 iterations at a stretch."""
    printed = train("hd_whole", checkout, lone_env.python, faces, 4)
    for term in ("l_g_pixel", "l_g_perceptual", "l_g_gan", "l_g_feature_matching", "l_d_real", "l_d_fake"):
        assert printed.count(f"{term}: ") == 4
    assert "Validation FFHQ_val" in printed
    return checkout / "experiments" / "hd_whole"


def test_checkout_trains_both_networks_and_saves(trained: Path) -> None:
    names = {f"net_{side}_{n}.pth" for side in "gd" for n in (2, 4, "latest")}
    assert {path.name for path in (trained / "models").iterdir()} == names
    assert {path.name for path in (trained / "training_states").iterdir()} == {"2.state", "4.state"}


def test_checkout_tests_the_average(trained: Path, checkout: Path, lone_env: ChildEnv, faces: Path) -> None:
    weights = trained / "models" / "net_g_latest.pth"
    assignments = ["name=hd_test", f"path.pretrain_network_g={weights}"]
    options = shrink(checkout / "options" / "test_sparnethd.yml", "test_sparnethd", faces, assignments)
    test = [lone_env.python, "basicsr/test.py", "-opt", options.relative_to(checkout)]
    printed = run(test, cwd=checkout, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="").stderr
    assert "(params_ema)" in printed
    assert "# psnr_official: " in printed
    pictures = checkout / "results" / "hd_test" / "visualization" / "FFHQ_val"
    assert len(list(pictures.iterdir())) == 6


def test_checkout_trains_with_the_documented_degradation(
    checkout: Path, lone_env: ChildEnv, faces: Path, tmp_path: Path
) -> None:
    example = code_blocks("docs/sparnethd.md", "Your own degradation")
    own = shutil.copytree(checkout, tmp_path / "basicsr", ignore=shutil.ignore_patterns("experiments", "results"))
    (own / "basicsr" / "data" / "fade_dataset.py").write_text(example["python"])
    printed = train("hd_own", own, lone_env.python, faces, 2, yaml.safe_load(example["yaml"]))
    assert "'fade'" in printed  # BasicSR logs the options
    assert printed.count("l_g_pixel: ") == 2
