"""The shipped option files of JASRNet: published settings, and every section is accepted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import facesr_plugin.archs  # noqa: F401  registers them
from facesr_plugin.checkpoints.detect import _NoFilling
from facesr_plugin.data.face_crop_dataset import FaceCropOptions
from facesr_plugin.registry import ARCH_REGISTRY
from facesr_plugin.utils.option_file import find_shipped, load_option_file
from facesr_plugin.utils.options import parse_section

PARAMETERS = {  # trainable, by counting in the released network
    "jasrnet": 19_885_778,
    "jasrnet_wide": 59_817_170,
    "jasrnet_lr64": 19_885_778,
    "jasrnet_aflw": 19_603_391,
    "jasrnet_helen": 20_611_916,
    "test_jasrnet": 19_885_778,
}
TRAINING = [name for name in PARAMETERS if not name.startswith("test_")]
_FACES = {"jasrnet_aflw": 20_000, "jasrnet_helen": 2000 * 15}


def read(name: str) -> dict[str, Any]:
    return load_option_file(find_shipped(name))


@pytest.mark.parametrize("name", TRAINING)
def test_optimisation_is_the_published_one(name: str) -> None:
    options = read(name)
    train = options["train"]
    adam = {"type": "Adam", "lr": 5e-5, "weight_decay": 5e-4, "betas": [0.9, 0.999]}
    assert (train["optim_g"], train["sigma"], train["heatmap"], train["clip_grad_value"]) == (adam, 4, "gaussian", 0)
    assert (train["pixel_opt"]["loss_weight"], train["landmark_opt"]["loss_weight"]) == (1, 1)
    assert (options["datasets"]["train"]["batch_size_per_gpu"], options["manual_seed"]) == (8, 1)
    passes = -(-_FACES.get(name, 47_220) // 8)
    assert train["total_iter"] == 40 * passes
    assert train["scheduler"] == {"type": "MultiStepLR", "milestones": [20 * passes, 30 * passes], "gamma": 0.5}


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_networks_are_the_published_ones(name: str) -> None:
    args = dict(read(name)["network_g"])
    with torch.device("meta"), _NoFilling():
        net = ARCH_REGISTRY.get(args.pop("type"))(**args)
    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS[name]
    assert args["upscale"] == 8


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_data_sections_are_accepted(name: str) -> None:
    options = read(name)
    for where, section in options["datasets"].items():
        data = parse_section(FaceCropOptions, {**section, "scale": options["scale"]}, where)
        gt_size = data.gt_size or 128
        assert (gt_size // data.scale, gt_size) == ((64, 256) if name == "jasrnet_lr64" else (16, 128))


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_landmarks_are_normalised_as_published(name: str) -> None:
    options = read(name)
    landmark_metrics = [options["val"]["metrics"][key] for key in ("nme", "auc", "failure_rate")]
    expected = "inter_ocular" if options["network_g"]["num_landmarks"] == 68 else "box"
    assert {metric["normaliser"] for metric in landmark_metrics} == {expected}
    delivers = [section.get("deliver_box", False) for section in options["datasets"].values()]
    assert delivers == ([False, True] if name == "jasrnet_aflw" else [False, False])
