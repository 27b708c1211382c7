"""The shipped option files of SPARNetHD: published settings, and every section is accepted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from facesr_plugin.cards import get_card
from facesr_plugin.utils.option_file import find_shipped, find_unknown_keys, load_option_file

TRAINING = ("sparnethd", "sparnethd_attn3d", "sparnethd_released")
PARAMETERS = {"spar": 85_793_412, "spar3d": 90_093_793}


def read(name: str) -> dict[str, Any]:
    return load_option_file(find_shipped(name))


@pytest.mark.parametrize("name", TRAINING)
def test_optimisation_is_the_published_one(name: str) -> None:
    train = read(name)["train"]
    assert (train["optim_g"]["lr"], train["optim_d"]["lr"]) == (1e-4, 4e-4)
    assert train["optim_g"]["betas"] == train["optim_d"]["betas"] == [0.5, 0.99]
    assert (train["ema_decay"], train["accumulate"], train["scheduler"]) == (0.999, 1, None)
    assert (train["gan_opt"]["gan_type"], train["gan_opt"]["loss_weight"]) == ("hinge", 1)
    assert train["feature_matching_opt"]["loss_weight"] == 10


def test_losses_are_the_corrected_ones_and_in_one_file_those_of_the_released_weights() -> None:
    for name in ("sparnethd", "sparnethd_attn3d"):
        train = read(name)["train"]
        assert (train["pixel_opt"]["loss_weight"], train["perceptual_opt"]["loss_weight"]) == (100, 1)
    train = read("sparnethd_released")["train"]
    assert (train["pixel_opt"]["loss_weight"], train["perceptual_opt"]) == (102, None)


@pytest.mark.parametrize("name", [*TRAINING, "test_sparnethd"])
def test_networks_are_the_published_ones(name: str) -> None:
    import facesr_plugin.archs  # noqa: F401
    from facesr_plugin.checkpoints.detect import _NoFilling
    from facesr_plugin.registry import ARCH_REGISTRY

    options = read(name)
    for section in ("network_g", "network_d"):
        args = dict(options.get(section, options["network_g"]))
        with torch.device("meta"), _NoFilling():
            net = ARCH_REGISTRY.get(args.pop("type"))(**args)
        expected = PARAMETERS[args["att_name"]] if "att_name" in args else 11_750_403
        assert sum(parameter.numel() for parameter in net.parameters()) == expected


@pytest.mark.parametrize("name", [*TRAINING, "test_sparnethd"])
def test_data_sections_are_accepted(name: str) -> None:
    from facesr_plugin.data.degradation import parse_degradations
    from facesr_plugin.data.face_degradation_dataset import FaceDegradationOptions
    from facesr_plugin.utils.options import parse_section

    for where, section in read(name)["datasets"].items():
        options = parse_section(FaceDegradationOptions, section, where)
        assert get_card(options.system).system == "sparnethd"
        assert len(parse_degradations(options.degradations, where)) == 4


@pytest.mark.parametrize("name", TRAINING)
def test_training_keys_and_losses_are_accepted(name: str) -> None:
    from basicsr.losses import build_loss

    from facesr_plugin.models.sparnethd_model import SPARNetHDModel
    from facesr_plugin.registry import register

    register()
    train = read(name)["train"]
    losses = {key: section for key, section in train.items() if key.endswith("_opt")}
    assert list(find_unknown_keys(train, [*SPARNetHDModel.train_keys, *losses], "train")) == []
    for key, section in losses.items():
        if section and key != "perceptual_opt":  # needs VGG's weights
            build_loss(section)
