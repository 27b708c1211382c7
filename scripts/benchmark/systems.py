"""Models of the shipped option files for benchmarks: published networks and losses, random weights and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import facesr_plugin
from facesr_plugin.archs.fan_arch import CompressedFAN
from facesr_plugin.archs.lightcnn_arch import LightCNNFeature
from facesr_plugin.checkpoints import make_record
from facesr_plugin.losses.perceptual_loss import SPARNETHD_LAYERS, VGGFeatures
from facesr_plugin.utils.option_file import find_shipped, load_option_file, override


class System(NamedTuple):
    """What a benchmark has to know of a system.

    Args:
        shipped: Name of its option file.
        size: Default side of its faces in pixels.
        batch: Default number of faces.
        first: Number of the first iteration, such that every loss takes part.
        assignments: Options without which it would not start from random weights.
        networks: Options that name weight files, with what stands for them.
    """

    shipped: str
    size: int = 128
    batch: int = 1
    first: int = 1
    assignments: tuple[str, ...] = ()
    networks: tuple[tuple[str, str], ...] = ()


SYSTEMS = {
    "SPARNet": System("sparnet", batch=2),  # batch norm
    "SPARNetHD": System("sparnethd", size=144, networks=(("perceptual", "vgg19"),)),  # of 132 and more
    "DIC": System("dic", assignments=("path.pretrain_network_hourglass=~", "train.hourglass_freeze_iter=0")),
    "DICGAN": System(
        "dicgan",
        first=2,
        assignments=("path.pretrain_network_g=~", "train.hourglass_freeze_iter=0", "train.gan_start_iter=1"),
        networks=(("feature", "lightcnn"),),
    ),
    "JASRNet": System("jasrnet"),
    "Progressive": System(  # a batch of 2 for its comparison of images; the last stage, faded in
        "progressive",
        batch=2,
        first=190_000,
        networks=(("perceptual", "vgg16"), ("attention", "fan"), ("heatmap", "fan")),
    ),
}
_NETWORKS = {
    "vgg16": lambda: VGGFeatures("vgg16", ["relu4_3"]).state_dict(),
    "vgg19": lambda: VGGFeatures("vgg19", SPARNETHD_LAYERS).state_dict(),
    "fan": lambda: {"params": CompressedFAN().state_dict(), "facesr": make_record("progressive", "CompressedFAN", {})},
    "lightcnn": lambda: {"params": LightCNNFeature().state_dict(), "facesr": make_record("dic", "LightCNNFeature", {})},
}


def make_options(name: str, folder: Path, device: str, changes: Mapping[str, Any], more: Sequence[str] = ()) -> dict:
    """Return the shipped options of a training for one process, with files of random values for other networks.

    Args:
        name: Key of ``SYSTEMS``.
        folder: For the files, which must live as long as the model.
        device: ``cpu`` or ``cuda``.
        changes: Entries by section, which may be new; nested like the option file.
        more: ``key=value`` of the option file, last.
    """
    system = SYSTEMS[name]
    options = load_option_file(find_shipped(system.shipped))
    options["num_gpu"] = int(device == "cuda")
    override(options, system.assignments)
    for loss, network in system.networks:
        path = folder / f"{network}.pth"
        if not path.exists():
            torch.save(_NETWORKS[network](), path)
        options["train"][f"{loss}_opt"]["weights"] = str(path)
    _merge(options, changes)
    override(options, more)
    return {**options, "is_train": True, "dist": False, "rank": 0, "world_size": 1}


def _merge(options: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(options.get(key), dict):
            _merge(options[key], value)
        else:
            options[key] = value


def build(options: dict[str, Any]) -> Any:
    """Return the model of the options."""
    facesr_plugin.register()
    from basicsr.models import build_model

    torch.manual_seed(0)
    return build_model(options)


def make_batch(options: dict[str, Any], size: int, number: int) -> dict[str, Any]:
    """Return random faces with their small inputs, and 68 landmarks each."""
    generator = torch.Generator().manual_seed(0)
    small = size // (options.get("scale") or 1)
    return {
        "gt": torch.rand(number, 3, size, size, generator=generator),
        "lq": torch.rand(number, 3, small, small, generator=generator),
        "landmarks": torch.rand(number, 68, 2, generator=generator) * (size - 1),
        "lq_path": [f"{face}.png" for face in range(number)],
    }
