"""The shipped option files of DIC and DICGAN: published settings, and every section is accepted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import facesr_plugin.archs  # noqa: F401  registers them
from facesr_plugin.checkpoints.detect import _NoFilling
from facesr_plugin.data.face_sr_dataset import FaceSROptions
from facesr_plugin.data.landmark_dataset import LandmarkOptions
from facesr_plugin.registry import ARCH_REGISTRY
from facesr_plugin.utils.option_file import find_shipped, load_option_file
from facesr_plugin.utils.options import parse_section

TRAINING = ("dic", "dic_helen", "dicgan", "dicgan_helen")
PARAMETERS = {"DICNet": 21_803_849, "FeedbackHourglass": 11_999_172, "LightCNNDiscriminator": 5_485_921}


def read(name: str) -> dict[str, Any]:
    return load_option_file(find_shipped(name))


def differences(one: Any, other: Any, where: str = "") -> set[str]:
    """Names of the options in which two files differ."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return set() if one == other else {where}
    keys = one.keys() | other.keys()
    return {name for key in keys for name in differences(one.get(key), other.get(key), f"{where}.{key}".lstrip("."))}


@pytest.mark.parametrize(
    ("name", "iterations", "milestones", "freeze"),
    [
        ("dic", 150_000, [10_000, 20_000, 40_000, 80_000], 2_000),
        ("dic_helen", 150_000, [10_000, 20_000, 40_000, 80_000], 20_000),
        ("dicgan", 80_000, [10_000, 20_000, 40_000], -1),
        ("dicgan_helen", 100_000, [10_000, 20_000, 40_000], -1),
    ],
)
def test_schedule_is_the_published_one(name: str, iterations: int, milestones: list[int], freeze: int) -> None:
    train = read(name)["train"]
    assert (train["total_iter"], train["hourglass_freeze_iter"], train["ema_decay"]) == (iterations, freeze, 0)
    assert train["scheduler"] == {"type": "MultiStepLR", "milestones": milestones, "gamma": 0.5}
    for side in {"optim_g", "optim_d"} & train.keys():
        assert train[side] == {"type": "Adam", "lr": 1e-4, "weight_decay": 0, "betas": [0.9, 0.999]}


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("dic", {"pixel": 1, "align": 0.1}),
        ("dic_helen", {"pixel": 1, "align": 0.1}),
        ("dicgan", {"pixel": 1, "align": 0.1, "feature": 0.1, "gan": 0.005}),
        ("dicgan_helen", {"pixel": 2, "align": 0.1, "feature": 0.1, "gan": 0.005}),
    ],
)
def test_losses_are_the_published_ones(name: str, weights: dict[str, float]) -> None:
    train = read(name)["train"]
    sections = {key.removesuffix("_opt"): section for key, section in train.items() if key.endswith("_opt")}
    assert {key: section["loss_weight"] for key, section in sections.items()} == weights
    assert (sections["pixel"]["type"], sections["align"]["type"], train["sigma"]) == ("L1Loss", "MSELoss", 1)
    assert train.get("pixel_steps", "all") == "all"


@pytest.mark.parametrize("name", [*TRAINING, "dic_hourglass", "test_dic"])
def test_networks_are_the_published_ones(name: str) -> None:
    options = read(name)
    for section in {"network_g", "network_d"} & options.keys():
        args = dict(options[section])
        kind = args.pop("type")
        with torch.device("meta"), _NoFilling():
            net = ARCH_REGISTRY.get(kind)(**args)
        assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS[kind]


@pytest.mark.parametrize("name", [*TRAINING, "dic_hourglass", "test_dic"])
def test_data_sections_are_accepted(name: str) -> None:
    for phase, section in read(name)["datasets"].items():
        options = LandmarkOptions if section["type"] == "LandmarkDataset" else FaceSROptions
        parse_section(options, section | {"phase": phase.partition("_")[0]}, f"datasets.{phase}")


@pytest.mark.parametrize(("name", "more"), [("dic", {"train.hourglass_freeze_iter"}), ("dicgan", {
    "train.total_iter", "train.pixel_opt.loss_weight", "val.val_freq", "path.pretrain_network_g"})])  # fmt: skip
def test_helen_differs_in_data_and_in_what_was_published(name: str, more: set[str]) -> None:
    found = {key for key in differences(read(name), read(f"{name}_helen")) if not key.startswith("datasets.")}
    assert found == more | {"name"}
    train = read(f"{name}_helen")["datasets"]["train"]
    assert (train["use_hflip"], train["use_rot"], train["distort"]) == (True, True, [0.66, 1.33])
    plain = read(name)["datasets"]["train"]
    assert (plain["use_hflip"], plain["use_rot"], plain.get("distort")) == (False, False, None)


def test_hourglass_is_that_of_dic() -> None:
    hourglass, dic = read("dic_hourglass"), read("dic")
    assert hourglass["network_g"]["num_feat"] == dic["network_g"]["hourglass_feat"]
    assert hourglass["train"]["num_steps"] == dic["network_g"]["num_steps"]
    assert hourglass["train"]["sigma"] == dic["train"]["sigma"]
    assert f"experiments/{hourglass['name']}/" in dic["path"]["pretrain_network_hourglass"]
    assert f"experiments/{dic['name']}/" in read("dicgan")["path"]["pretrain_network_g"]
