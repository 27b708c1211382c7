"""Files of the progressive generator and critic: names, the call, and both directions."""

import pytest
import torch

from facesr_plugin.archs.progressive_arch import ProgressiveFSRNet
from facesr_plugin.archs.progressive_discriminator_arch import ProgressiveFSRDiscriminator
from facesr_plugin.checkpoints import (
    UnsupportedCheckpointError,
    Weights,
    from_official,
    load_weights,
    make_record,
    save_official,
    save_weights,
    to_official,
)
from helpers.tiny import TINY as TINY_SPARNET
from helpers.tiny import tiny_sparnet

TINY = {"num_feat": 8}
ARCHS = {"ProgressiveFSRNet": ProgressiveFSRNet, "ProgressiveFSRDiscriminator": ProgressiveFSRDiscriminator}
# the released order of keys, by layer
_NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
_CONV, _EQUAL = ["weight", "bias"], ["bias", "weight_orig"]
_BLOCK = {"conv.0.conv": _EQUAL, "conv.1": _NORM, "conv.3.conv": _EQUAL, "conv.4": _NORM}
LAYERS = {
    "ProgressiveFSRNet": {
        **{f"to_rgb.{i}": _CONV for i in range(3)},
        "step1.0": _CONV,
        "step1.1": _NORM,
        **{f"step1.3.{name}": leaves for name, leaves in _BLOCK.items()},
        "step1.4": _CONV,
        "step1.5": _NORM,
        **{f"step2.0.{name}": leaves for name, leaves in _BLOCK.items()},
        "step2.1": _CONV,
        "step2.2": _NORM,
        **{f"step3.0.{name}": leaves for name, leaves in _BLOCK.items()},
        "step3.1": _CONV,
        "step3.2": _NORM,
    },
    "ProgressiveFSRDiscriminator": {
        **{f"from_rgb.{i}": _CONV for i in range(3)},
        **{f"step{i}.0.conv.{j}.conv": _EQUAL for i in (1, 2, 3) for j in (0, 2)},
        "equal_conv.conv": _EQUAL,
        "linear": _CONV,
        "linear2": _CONV,
    },
}


@pytest.fixture(params=ARCHS)
def arch(request):
    return request.param


@pytest.fixture
def official(arch):
    torch.manual_seed(0)
    return to_official("progressive", ARCHS[arch](**TINY).state_dict(), TINY)


def test_conversion_gives_the_official_order_and_is_undone_exactly(arch, official):
    assert list(official) == [f"{layer}.{leaf}" for layer, leaves in LAYERS[arch].items() for leaf in leaves]
    converted = from_official("progressive", official)
    assert (converted.arch, converted.args) == (arch, TINY)
    again = to_official("progressive", converted.state_dict, converted.args)
    assert all(again[key] is value for key, value in official.items())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("beside", "call"),
    [
        ({"step": 2, "alpha": 0.25, "iteration": 6250}, {"step": 2, "alpha": 0.25}),
        ({"step": 3, "alpha": 1, "iteration": 99_999}, {"step": 3, "alpha": 1.0}),
        ({}, {"step": 3, "alpha": 1.0}),
    ],
)
def test_official_file_keeps_its_call(arch, official, save, prefix, beside, call):
    path = save({**beside, "model_state_dict": {prefix + key: value for key, value in official.items()}})
    loaded = load_weights(path)
    assert (loaded.system, loaded.arch, loaded.kind, loaded.call) == ("progressive", arch, "official", call)
    ARCHS[arch](**loaded.args).load_state_dict(loaded.state_dict)


def test_flat_official_file_is_of_the_last_step(official, save):
    assert load_weights(save(official)).call == {"step": 3, "alpha": 1.0}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_our_file_keeps_the_call(arch, official, save, tmp_path, suffix):
    loaded = load_weights(save({"step": 1, "alpha": 0.5, "model_state_dict": official}))
    save_weights(tmp_path / f"ours{suffix}", loaded)
    again = load_weights(tmp_path / f"ours{suffix}")
    assert (again.kind, again.call) == ("params", {"step": 1, "alpha": 0.5})
    assert all(torch.equal(again.state_dict[key], value) for key, value in loaded.state_dict.items())


def test_file_goes_back_to_the_official_form(official, save, tmp_path):
    path = save({"step": 2, "alpha": 0.75, "iteration": 7, "model_state_dict": official})
    save_official(tmp_path / "again.pth", load_weights(path))
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert {key: value for key, value in again.items() if key != "model_state_dict"} == {
        "step": 2,
        "alpha": 0.75,
        "iteration": 0,
    }
    assert list(again["model_state_dict"]) == list(official)
    assert all(torch.equal(again["model_state_dict"][key], value) for key, value in official.items())


def test_official_safetensors_would_lose_the_call(official, save, tmp_path):
    loaded = load_weights(save(official))
    with pytest.raises(
        ValueError, match=r"must end in .pth or .pt for official files .* step and alpha too, got .*x\.saf"
    ):
        save_official(tmp_path / "x.safetensors", loaded)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ({"step": 0, "alpha": 1.0}, "step must be 1, 2 or 3, got 0"),
        ({"step": True, "alpha": 1.0}, "step must be 1, 2 or 3, got True"),
        ({"step": "3"}, "step must be 1, 2 or 3, got 3"),
        ({"alpha": float("nan")}, "alpha must be a finite number, got nan"),
        ({"alpha": None}, "alpha must be a finite number, got None"),
    ],
)
def test_calls_out_of_range_are_refused(official, save, arch, call, text):
    record = make_record("progressive", arch, TINY, call)
    ours = from_official("progressive", official).state_dict
    for content in ({**call, "model_state_dict": official}, {"params": ours, "facesr": record}):
        with pytest.raises(UnsupportedCheckpointError, match=text):
            load_weights(save(content))


@pytest.mark.parametrize(
    ("call", "text"),
    [({"step": 3, "gain": 2}, "called with step and alpha, got also gain"), ([3, 1.0], "call must be a table")],
)
def test_records_with_another_call_are_refused(official, save, arch, call, text):
    ours = from_official("progressive", official).state_dict
    record = {**make_record("progressive", arch, TINY), "call": call}
    with pytest.raises(UnsupportedCheckpointError, match=f"its record and its weights disagree: .*{text}"):
        load_weights(save({"params": ours, "facesr": record}))


def test_other_networks_have_no_call(save, tmp_path):
    state = tiny_sparnet().state_dict()
    assert dict(load_weights(save({**state})).call) == {}
    record = make_record("sparnet", "SPARNet", TINY_SPARNET, {"step": 3})
    with pytest.raises(UnsupportedCheckpointError, match=r"called with images only, got also \['step'\]"):
        load_weights(save({"params": state, "facesr": record}))
    weights = Weights("sparnet", "SPARNet", TINY_SPARNET, state, "params", tmp_path)
    assert "call" not in make_record(weights.system, weights.arch, weights.args, weights.call)


def test_generator_and_critic_are_told_apart(official, arch):
    missing = {key: value for key, value in official.items() if not key.startswith("step3")}
    with pytest.raises(UnsupportedCheckpointError, match=rf"{arch}: missing \(\d+\): stages\.2"):
        from_official("progressive", missing)


def test_arguments_that_contradict_the_weights_are_refused(official, save):
    with pytest.raises(UnsupportedCheckpointError, match="args say num_feat 16, the weights have 8"):
        load_weights(save(official), args={"num_feat": 16})
