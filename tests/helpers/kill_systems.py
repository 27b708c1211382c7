"""Every system's shipped option file, shrunk to a run of a second that goes through all of its phases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from facesr_plugin.archs.fan_arch import TeacherFAN
from facesr_plugin.checkpoints import Weights, save_weights
from facesr_plugin.utils.option_file import find_shipped, load_option_file, override
from helpers.dic_runs import save_hourglass
from helpers.options import TINY_SPARNET
from helpers.tiny_dic import TINY_DIC
from helpers.tiny_fan import save_tiny_fan

TOTAL = 12  # iterations; an epoch has three, and a sample left over
SAVE_EVERY, VALIDATE_EVERY = 2, 3
KEPT = 2
PHASE = 4  # iterations of a stage; others change in the middle of one
SIZE = 64  # of the drawn faces


@dataclass(frozen=True)
class Variant:
    """Options that change the numbers of a run, or what it leaves.

    Args:
        accumulate: Parts of a batch, where the system divides batches.
        amp: Precision of the forward passes, ``""`` for that of the weights.
        keep: Whether old checkpoints are deleted.
        batch: Samples of an iteration.
    """

    accumulate: int = 1
    amp: str = ""
    keep: bool = True
    batch: int = 2


VARIANTS = (Variant(), Variant(accumulate=2, amp="bf16"))


def prepare(folder: Path) -> Path:
    """Draw faces with landmarks, and weights that the systems start from."""
    from facesr_plugin.cli import main

    faces = ["--out", str(folder / "faces.lmdb"), "--num", "7", "--val", "2", "--size", str(SIZE), "--workers", "1"]
    assert main(["prepare", "synthetic", *faces]) == 0
    save_hourglass(folder / "hourglass.pth")
    save_tiny_fan(folder / "fan.pth")
    torch.manual_seed(0)
    args = {"num_stacks": 1, "num_landmarks": 68}
    teacher = TeacherFAN(**args).state_dict()
    save_weights(folder / "teacher.pth", Weights("progressive", "TeacherFAN", args, teacher, "params", folder))
    return folder


def _sparnet(_data: Path) -> list[str]:
    return [f"network_g.{key}={value}" for key, value in TINY_SPARNET.items()]


def _sparnethd(_data: Path) -> list[str]:
    discriminator = ["network_d.base_ch=4", "network_d.n_layers=1", "network_d.num_d=2"]
    return [*_sparnet(_data), *discriminator, "train.perceptual_opt=~"]


def _dic(data: Path) -> list[str]:
    network = [f"network_g.{name}={value}" for name, value in TINY_DIC.items()]
    start = [f"path.pretrain_network_hourglass={data}/hourglass.pth", f"train.hourglass_freeze_iter={PHASE + 1}"]
    return [*network, *start, "val.steps=true", "train.scheduler.milestones=[3, 9]"]


def _dicgan(data: Path) -> list[str]:
    late = [f"network_d.image_size={SIZE}", f"train.gan_start_iter={PHASE + 2}", "train.feature_opt=~"]
    return [*_dic(data), "path.pretrain_network_g=~", *late]


def _jasrnet(_data: Path) -> list[str]:
    narrow = ["network_g.num_feat=4", "network_g.num_block=1", "network_g.init_type=torch"]
    return [*narrow, "datasets.train.dataset_enlarge_ratio=1", "train.scheduler.milestones=[3, 9]"]


def _progressive(data: Path) -> list[str]:
    weights = {"pixel": 10, "gan": 1}
    stages = [{"scale": scale, "iters": PHASE, "fade_iters": PHASE - 1, "weights": weights} for scale in (2, 4, 8)]
    stages[1]["weights"] = {**weights, "attention": 500, "heatmap": 50}
    teachers = [f"train.{name}_opt.weights={data}/fan.pth" for name in ("attention", "heatmap")]
    narrow = ["network_g.num_feat=8", "network_d.num_feat=8"]
    return [*narrow, f"train.stages={stages}", "train.perceptual_opt=~", *teachers]


def _fan_distill(data: Path) -> list[str]:
    teacher = ["network_teacher.num_stacks=1", f"path.pretrain_network_teacher={data}/teacher.pth"]
    return ["network_g.num_feat=4", *teacher, "datasets.train.use_hflip=true"]


def _dic_hourglass(_data: Path) -> list[str]:
    narrow = f"network_g.num_feat={TINY_DIC['hourglass_feat']}"
    return [narrow, "train.num_steps=2", "train.scheduler.milestones=[3, 9]"]


SYSTEMS = {
    "sparnet": _sparnet,
    "sparnethd": _sparnethd,
    "dic": _dic,
    "dicgan": _dicgan,
    "jasrnet": _jasrnet,
    "progressive": _progressive,
    "fan_distill": _fan_distill,
    "dic_hourglass": _dic_hourglass,
}
GANS = ("sparnethd", "dicgan", "progressive")
# What the data sections of these have beside the others'.
_SECTIONS: dict[str, dict[str, Any]] = {
    "sparnet": {"gt_size": TINY_SPARNET["out_size"], "any_size": True},
    "sparnethd": {"gt_size": TINY_SPARNET["out_size"]},
    "jasrnet": {"gt_size": SIZE // 2, "landmarks": True},
    "fan_distill": {"gt_size": SIZE // 2},
}


def write_options(path: Path, system: str, data: Path, variant: Variant, workers: int = 0, prefetch: str = "~") -> Path:
    """Write a system's tiny option file; the run is named ``run``.

    Args:
        path: File to write.
        system: Of ``SYSTEMS``: a shipped file of that name.
        data: Folder of ``prepare``.
        variant: See there.
        workers: Of the loader of the training.
        prefetch: Its ``prefetch_mode``.
    """
    options = load_option_file(find_shipped(system))
    common = [
        "name=run", "num_gpu=0", f"train.total_iter={TOTAL}", f"datasets.train.batch_size_per_gpu={variant.batch}",
        f"datasets.train.num_worker_per_gpu={workers}", f"datasets.train.prefetch_mode={prefetch}",
        f"val.val_freq={VALIDATE_EVERY}", "logger.print_freq=1", f"logger.save_checkpoint_freq={SAVE_EVERY}",
        "logger.use_tb_logger=false",
    ]  # fmt: skip
    override(options, [*common, *SYSTEMS[system](data)])
    parts = 1 if system == "progressive" else variant.accumulate
    options["train"] |= {"ema_decay": 0.9, "accumulate": parts}
    options["train"] |= {"amp": variant.amp} if variant.amp else {}
    options["logger"] |= {"keep_checkpoints": KEPT} if variant.keep else {}
    options["val"]["best"] = next(iter(options["val"]["metrics"]))
    for phase, section in options["datasets"].items():
        _fill_section(section, data / f"faces_{'train' if phase == 'train' else 'val'}.lmdb", system)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def _fill_section(section: dict[str, Any], root: Path, system: str) -> None:
    section |= {"dataroot_gt": str(root), "io_backend": {"type": "lmdb"}}
    section |= _SECTIONS.get(system, {"gt_size": SIZE})
    if isinstance(section.get("landmarks"), str):
        section["landmarks"] = str(root / "landmarks.npz")
    if "degradations" in section:
        section["degradations"][1]["low_size"] = [8, 16]
