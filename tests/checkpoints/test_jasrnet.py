"""Files of JASRNet: official names, arguments found from shapes, and both directions."""

import pytest
import torch

from facesr_plugin.archs.jasrnet_arch import COLOR_MEAN, COLOR_STD, JASRNet
from facesr_plugin.checkpoints import (
    UnsupportedCheckpointError,
    from_official,
    load_weights,
    save_official,
    save_weights,
    to_official,
)

TINY = {"num_landmarks": 5, "num_feat": 4, "num_block": 2, "upscale": 8, "rgb_range": 1.0}
_PAIR = [".weight", ".bias"]
# the released order of keys with two blocks in the body, by layer
_LAYERS = [
    *("sub_mean_cpm", "sub_mean", "add_mean"),
    *(f"long_connection.{i}" for i in (0, 2, 4)),
    *(f"encoder_a.{i}.body.{j}" for i in (0, 2) for j in (0, 2)),
    "encoder_a_downsample.0",
    *(f"encoder_b1.{i}.body.{j}" for i in (1, 3, 5) for j in (0, 2)),
    "encoder_b1_downsample.0",
    *(f"encoder_c1.{i}.body.{j}" for i in (0, 2, 4, 6) for j in (0, 2)),
    "encoder_c1_downsample.0",
    *(f"encoder_c2.{i}.body.{j}" for i in (1, 3) for j in (0, 2)),
    "head.0",
    *(f"features.{i}.body.{j}" for i in (0, 2) for j in (0, 2)),
    *(f"sr_feature.{i}.body.{j}" for i in (0, 1) for j in (0, 2)),
    "sr_feature.2",
    *(f"sr_tail.0.{i}" for i in (0, 2, 4)),
    "sr_tail.1",
    *(f"CPM_feature.{i}.body.{j}" for i in (0, 2) for j in (0, 2)),
    "CPM_feature.4",
    *(f"stages.0.{i}.body.{j}" for i in (0, 2) for j in (0, 2)),
    "stages.0.4",
    *(
        f"stages.{stage}.{layer}"
        for stage in (1, 2)
        for layer in ("0", *(f"{i}.body.{j}" for i in (2, 4, 6) for j in (0, 2)), "8")
    ),
]


def network(**args):
    torch.manual_seed(0)
    return JASRNet(**{**TINY, **args})


def official(**args):
    return to_official("jasrnet", network(**args).state_dict(), {**TINY, **args})


def test_conversion_gives_the_official_order_and_is_undone_exactly():
    state = official()
    assert list(state) == [layer + leaf for layer in _LAYERS for leaf in _PAIR]
    converted = from_official("jasrnet", state)
    assert (converted.arch, converted.args) == ("JASRNet", TINY)
    again = to_official("jasrnet", converted.state_dict, converted.args)
    assert list(again) == list(state)
    assert all(torch.equal(again[key], value) for key, value in state.items())


def test_default_network_has_the_published_number_of_tensors():
    with torch.device("meta"):
        nets = {262: JASRNet(), 198: JASRNet(num_feat=256, num_block=16)}
    for count, net in nets.items():
        assert len(to_official_names(net)) == count


def to_official_names(net):
    from facesr_plugin.checkpoints.jasrnet import KEYS

    return KEYS.to_official(net.state_dict())


@pytest.mark.parametrize(
    "args",
    [
        {"num_landmarks": 68},
        {"num_landmarks": 194, "num_feat": 6, "num_block": 11},
        {"upscale": 2},
        {"upscale": 3},
        {"upscale": 4},
        {"rgb_range": 255.0},
        {"rgb_range": 2.0},
    ],
)
def test_arguments_are_found_from_an_official_file(args, save):
    loaded = load_weights(save({f"module.{key}": value for key, value in official(**args).items()}))
    assert (loaded.system, loaded.arch, loaded.kind, loaded.args) == (
        "jasrnet",
        "JASRNet",
        "official",
        {**TINY, **args},
    )
    JASRNet(**loaded.args).load_state_dict(loaded.state_dict)


@pytest.mark.parametrize("rgb_range", [1.0, 255.0])
def test_range_is_found_in_half_precision(rgb_range, save):
    state = {key: value.bfloat16() for key, value in official(rgb_range=rgb_range).items()}
    assert load_weights(save(state)).args["rgb_range"] == rgb_range


def test_official_files_hold_the_constants_of_the_released_code():
    state = official(rgb_range=255.0)
    mean, std = torch.tensor(COLOR_MEAN), torch.tensor(COLOR_STD)
    for name, sign in {"sub_mean_cpm": -1, "sub_mean": -1, "add_mean": 1}.items():
        assert torch.equal(state[f"{name}.weight"], torch.diag(1 / std).view(3, 3, 1, 1))
        torch.testing.assert_close(state[f"{name}.bias"], sign * 255 * mean / std)


def test_copy_of_the_constants_may_be_missing(save):
    state = {key: value for key, value in official().items() if not key.startswith("sub_mean_cpm")}
    assert load_weights(save(state)).args == TINY


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_both_namings_hold_the_same_network(suffix, save, tmp_path):
    loaded = load_weights(save(official(upscale=4)))
    save_weights(tmp_path / f"ours{suffix}", loaded)
    save_official(tmp_path / f"official{suffix}", load_weights(tmp_path / f"ours{suffix}"))
    again = load_weights(tmp_path / f"official{suffix}")
    assert again.args == loaded.args
    assert all(torch.equal(again.state_dict[key], value) for key, value in loaded.state_dict.items())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"features.2.body.0.weight": None}, r"missing \(1\): body\.2\.conv1\.weight"),
        ({"features.6.body.0.weight": "head.0.weight"}, r"unexpected \(1\): body\.6\.conv1\.weight"),
        ({"stages.1.0.weight": "head.0.weight"}, r"stages\.1\.0\.weight must have \(4, 10, 3, 3\), got \(4, 3, 3, 3\)"),
        ({"sub_mean.bias": "add_mean.bias"}, r"shift_in\.bias must be negative, got \[2\.1"),
        ({"sub_mean.bias": None}, r"shift_in\.bias is missing"),
        ({"sub_mean_cpm.scale": "head.0.bias"}, r"sub_mean_cpm\.scale"),
    ],
)
def test_files_of_no_jasrnet_are_refused(change, text, save):
    state = official()
    for key, source in change.items():
        state[key] = None if source is None else state[source]
    state = {key: value for key, value in state.items() if value is not None}
    with pytest.raises(UnsupportedCheckpointError, match=text):
        load_weights(save(state), system="jasrnet")


def test_range_that_contradicts_the_weights_is_refused(save):
    with pytest.raises(UnsupportedCheckpointError, match=r"args say rgb_range 255, the weights have 1\.0"):
        load_weights(save(official()), args={"rgb_range": 255})
