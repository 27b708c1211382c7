"""DIC by BasicSR's own scripts in an unmodified checkout: pretraining, DIC, DICGAN; test."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from facesr_plugin.checkpoints import load_weights
from facesr_plugin.utils.imageio import read_image
from facesr_plugin.utils.option_file import find_shipped, load_option_file, override
from helpers.environments import ChildEnv, run
from helpers.runs import train_checkout
from helpers.tiny_dic import TINY_DIC

pytestmark = pytest.mark.process

TOTAL = 4
FREEZE = 2
SIZE = 64
RUN = (
    "num_gpu=0",
    "datasets.train.num_worker_per_gpu=0",
    "datasets.train.batch_size_per_gpu=2",
    "train.ema_decay=0.9",
    f"train.total_iter={TOTAL}",
    "train.scheduler.milestones=[3]",
    "val.val_freq=2",
    "val.steps=true",
    "logger.save_checkpoint_freq=1",
    "logger.print_freq=1",
    "logger.use_tb_logger=false",
)
NETWORK = tuple(f"network_g.{name}={value}" for name, value in TINY_DIC.items())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, wheel_env: ChildEnv) -> Path:
    """A folder with ``faces_train.lmdb`` and ``faces_val.lmdb``."""
    root = tmp_path_factory.mktemp("dic")
    draw = ["prepare", "synthetic", "--out", root / "faces.lmdb", "--num", "8", "--val", "2", "--size", str(SIZE)]
    run([wheel_env.root / "bin" / "facesr", *draw, "--workers", "1"], cwd=root)
    return root


def shrink(path: Path, shipped: str, data: Path, *assignments: str) -> Path:
    """Write a shipped file for small faces and narrow networks."""
    options = load_option_file(find_shipped(shipped))
    override(options, [f"name={path.stem}", *assignments])
    for phase, section in options["datasets"].items():
        root = data / f"faces_{'train' if phase == 'train' else 'val'}.lmdb"
        section |= {"dataroot_gt": str(root), "gt_size": SIZE, "landmarks": str(root / "landmarks.npz")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def hourglass(checkout: Path, lone_env: ChildEnv, data: Path) -> Path:
    """Weights of the pretrained landmark branch."""
    width = TINY_DIC["hourglass_feat"]
    path = checkout / "options" / "dic_hg.yml"
    options = shrink(path, "dic_hourglass", data, *RUN, f"network_g.num_feat={width}", "train.num_steps=2")
    log = train_checkout(lone_env, checkout, options)
    assert log.count("l_g_heatmap: ") == TOTAL
    assert log.count("# nme_step2: ") == 3  # twice, and at the end
    return checkout / "experiments" / "dic_hg" / "models" / "net_g_latest.pth"


def dic_options(checkout: Path, name: str, data: Path, hourglass: Path, *more: str) -> Path:
    """Options of a run that starts from the hourglass and releases it in the middle."""
    own = [f"path.pretrain_network_hourglass={hourglass}", f"train.hourglass_freeze_iter={FREEZE}"]
    return shrink(checkout / "options" / f"{name}.yml", "dic", data, *RUN, *NETWORK, *own, *more)


@pytest.fixture(scope="module")
def trained(checkout: Path, lone_env: ChildEnv, data: Path, hourglass: Path) -> Path:
    """An unbroken run of DIC."""
    log = train_checkout(lone_env, checkout, dic_options(checkout, "dic_whole", data, hourglass))
    assert log.count("l_g_align: ") == TOTAL
    for name in ("psnr", "ssim", "nme", "psnr_step1", "nme_step3"):
        assert log.count(f"# {name}: ") == 3
    return checkout / "experiments" / "dic_whole"


def test_hourglass_keeps_its_weights_until_it_is_released(trained: Path, hourglass: Path) -> None:
    start = load_weights(hourglass).state_dict
    for iteration in range(1, TOTAL + 1):
        found = load_weights(trained / "models" / f"net_g_{iteration}.pth", prefer="params").state_dict
        same = all(found[f"hourglass.{key}"].equal(value) for key, value in start.items())
        assert same == (iteration <= FREEZE)


def test_checkout_trains_dicgan(trained: Path, checkout: Path, lone_env: ChildEnv, data: Path) -> None:
    """From the weights of DIC, without feature loss (its network is not tiny)."""
    own = [
        f"path.pretrain_network_g={trained}/models/net_g_latest.pth",
        f"network_d.image_size={SIZE}",
        "train.feature_opt=null",
    ]
    options = shrink(checkout / "options" / "dicgan.yml", "dicgan", data, *RUN, *NETWORK, *own)
    log = train_checkout(lone_env, checkout, options)
    assert log.count("l_g_gan: ") == log.count("l_d_fake: ") == TOTAL


def test_checkout_tests_a_network_of_its_own(trained: Path, checkout: Path, lone_env: ChildEnv, data: Path) -> None:
    weights = trained / "models" / "net_g_latest.pth"
    options = shrink(checkout / "options" / "dic_test.yml", "test_dic", data, *NETWORK, "num_gpu=0",
                     f"path.pretrain_network_g={weights}")  # fmt: skip
    test = [lone_env.python, "basicsr/test.py", "-opt", options.relative_to(checkout)]
    printed = run(test, cwd=checkout, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="").stderr
    for name in ("psnr", "psnr_step1", "ssim_step3", "nme", "nme_step2"):
        assert f"# {name}: " in printed
    pictures = checkout / "results" / "dic_test" / "visualization" / "CelebA_test"
    (face, *_) = sorted(pictures.glob("*.png"))
    assert read_image(face).shape == (SIZE, SIZE, 3)
    assert (pictures / "landmarks" / face.name).is_file()
