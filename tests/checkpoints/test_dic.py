"""Files of DIC's networks: names of three programs, wrapped forms, parts, arguments found from shapes."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from facesr_plugin.archs.dic_arch import DICNet
from facesr_plugin.archs.hourglass_arch import FeedbackHourglass, StackedHourglass
from facesr_plugin.archs.lightcnn_arch import LightCNNDiscriminator, LightCNNFeature
from facesr_plugin.archs.unet_discriminator_arch import UNetFeatureDiscriminator
from facesr_plugin.checkpoints import (
    UnsupportedCheckpointError,
    build_network,
    from_official,
    load_weights,
    make_record,
    save_official,
    save_weights,
    to_official,
)

REFERENCES = Path(__file__).parents[1] / "data" / "references" / "dic"
ARCHS = {
    arch.__name__: arch
    for arch in (
        DICNet,
        FeedbackHourglass,
        StackedHourglass,
        LightCNNDiscriminator,
        LightCNNFeature,
        UNetFeatureDiscriminator,
    )
}
TINY = {"num_landmarks": 5, "num_feat": 4, "num_groups": 2, "num_fusion_block": 1, "hourglass_feat": 8}
HOURGLASS = {"num_landmarks": 5, "num_feat": 8}
NETWORKS = {
    "generator": ("DICNet", TINY),
    "one group": ("DICNet", {**TINY, "num_landmarks": 68, "num_groups": 1, "num_fusion_block": 0}),
    "hourglass": ("FeedbackHourglass", HOURGLASS),
    "one stack": ("StackedHourglass", {**HOURGLASS, "num_stacks": 1, "connect": "mean"}),
    "mean": ("StackedHourglass", {**HOURGLASS, "num_stacks": 2, "connect": "mean"}),
    "cat": ("StackedHourglass", {**HOURGLASS, "num_stacks": 3, "connect": "cat"}),
    "critic": ("LightCNNDiscriminator", {"image_size": 32}),
    "features": ("LightCNNFeature", {}),
    "unet": ("UNetFeatureDiscriminator", {"feature_only": False}),
    "half unet": ("UNetFeatureDiscriminator", {"feature_only": True}),
}
IN_MMAGIC = ("generator", "one group", "hourglass", "critic", "features")
CASES = [(name, "official") for name in NETWORKS] + [(name, "mmagic") for name in IN_MMAGIC]


def network(name):
    arch, args = NETWORKS[name]
    torch.manual_seed(0)
    return ARCHS[arch](**args)


def foreign(name, dialect="official"):
    """Return the network's state dict with the names of another program."""
    return to_official("dic", network(name).state_dict(), NETWORKS[name][1], dialect)


def equal(state, expected):
    return list(state) == list(expected) and all(torch.equal(state[key], value) for key, value in expected.items())


@pytest.mark.parametrize(("name", "dialect"), CASES)
def test_conversion_is_undone_exactly(name, dialect):
    ours = network(name).state_dict()
    theirs = to_official("dic", dict(sorted(ours.items())), NETWORKS[name][1], dialect)
    assert theirs.keys() != ours.keys()
    converted = from_official("dic", theirs, dialect=dialect)
    assert (converted.arch, converted.args) == NETWORKS[name]
    assert equal(converted.state_dict, ours)


@pytest.mark.parametrize(
    ("case", "arch"),
    [
        ("small_feedback_hourglass", "FeedbackHourglass"),
        ("small_stacked_hourglass_2_cat", "StackedHourglass"),
        ("lightcnn_features", "LightCNNFeature"),
        ("unet_discriminator_featureonly", "UNetFeatureDiscriminator"),
    ],
)
def test_official_order_is_the_released_one(case, arch):
    released = {
        key: torch.empty(shape) for key, shape in json.loads((REFERENCES / f"{case}.json").read_text())["state_dict"]
    }
    released = {key: value.long() if key.endswith("tracked") else value for key, value in released.items()}
    converted = from_official("dic", released)
    assert converted.arch == arch
    assert list(to_official("dic", converted.state_dict, converted.args)) == list(released)


# Forms of files

WRAPPED = {
    "flat": lambda g, d: g,
    "ordered": lambda g, d: OrderedDict(g),
    "DIC": lambda g, d: {
        "step": 5,
        "epoch": 1,
        "state_dict": g,
        "optimizer": {"state": {}},
        "best_pred": 25.0,
        "records": {},
    },
    "DICGAN": lambda g, d: {"step": 5, "netG": g, "netD": d, "optimizer_G": {}, "optimizer_D": {}},
    "model": lambda g, d: {"model": g},
    "parallel": lambda g, d: {"state_dict": {f"module.{key}": value for key, value in g.items()}},
}


@pytest.mark.parametrize("form", WRAPPED)
@pytest.mark.parametrize("dialect", ["official", "mmagic"])
def test_generator_is_found_in_every_form(save, form, dialect):
    content = WRAPPED[form](foreign("generator", dialect), foreign("critic", dialect))
    loaded = load_weights(save(content))
    assert (loaded.system, loaded.arch, loaded.kind, loaded.args) == ("dic", "DICNet", dialect, TINY)
    assert equal(loaded.state_dict, network("generator").state_dict())


def mmagic_file(*, module=""):
    """A file of mmagic: both networks and those of losses in one state dict."""
    state = {f"{module}generator.{key}": value for key, value in foreign("generator", "mmagic").items()}
    state |= {f"{module}discriminator.{key}": value for key, value in foreign("critic", "mmagic").items()}
    state |= {f"{module}feature_loss.x": torch.zeros(1)}
    return {"meta": {"iter": 3, "epoch": 1}, "state_dict": state}


@pytest.mark.parametrize("content", [mmagic_file(), mmagic_file(module="module.")], ids=["plain", "parallel"])
def test_networks_of_mmagic_are_told_apart_by_their_prefixes(save, content):
    path = save(content)
    generator, critic = load_weights(path), load_weights(path, arch="LightCNNDiscriminator")
    assert (generator.arch, generator.kind, critic.arch, critic.kind) == (
        "DICNet",
        "mmagic",
        "LightCNNDiscriminator",
        "mmagic",
    )
    assert equal(generator.state_dict, network("generator").state_dict())
    assert equal(critic.state_dict, network("critic").state_dict())


@pytest.mark.parametrize("name", ["critic", "unet"])
def test_discriminator_is_taken_where_it_is_asked_for(save, name):
    path = save({"netG": foreign("generator"), "netD": foreign(name), "records": {"loss_d": [1.0]}})
    arch, args = NETWORKS[name]
    loaded = load_weights(path, arch=arch)
    assert (loaded.arch, loaded.args) == (arch, args)
    assert equal(loaded.state_dict, network(name).state_dict())


def test_missing_network_is_said(save):
    path = save({"netG": foreign("generator"), "netD": {"x": torch.zeros(1)}})
    assert load_weights(path).arch == "DICNet"
    with pytest.raises(UnsupportedCheckpointError, match=r"weights of dic \(DICNet\), not of LightCNNDiscriminator"):
        load_weights(path, arch="LightCNNDiscriminator")


# Networks inside others

HOURGLASS_FILES = {
    "ours": lambda: {"params": network("hourglass").state_dict()},
    "official": lambda: foreign("hourglass"),
    "mmagic": lambda: foreign("hourglass", "mmagic"),
}
GENERATOR_FILES = {
    "DIC": lambda: {"state_dict": foreign("generator")},
    "DICGAN": lambda: {"netG": foreign("generator"), "netD": foreign("critic")},
    "mmagic": mmagic_file,
    "ours": lambda: {"params": network("generator").state_dict(), "facesr": make_record("dic", "DICNet", TINY)},
}


@pytest.mark.parametrize("form", HOURGLASS_FILES)
def test_generator_starts_from_a_file_of_its_hourglass(save, form):
    loaded = load_weights(save(HOURGLASS_FILES[form]()), arch="FeedbackHourglass")
    assert loaded.args == HOURGLASS
    generator = network("generator")
    generator.hourglass.load_state_dict(loaded.state_dict)
    assert equal(generator.hourglass.state_dict(), network("hourglass").state_dict())


@pytest.mark.parametrize("form", GENERATOR_FILES)
def test_hourglass_is_taken_out_of_a_generator(save, form):
    loaded = load_weights(save(GENERATOR_FILES[form]()), arch="FeedbackHourglass")
    assert (loaded.arch, loaded.args) == ("FeedbackHourglass", HOURGLASS)
    found = build_network(loaded, "FeedbackHourglass").state_dict()
    assert equal(found, network("generator").hourglass.state_dict())


@pytest.mark.parametrize("name", ["features", "generator", "hourglass"])
def test_parts_are_not_taken_for_the_whole(save, name):
    arch = NETWORKS[name][0]
    with pytest.raises(UnsupportedCheckpointError, match=rf"weights of dic \({arch}\), not of StackedHourglass"):
        load_weights(save(foreign(name)), arch="StackedHourglass")


# Writing


@pytest.mark.parametrize(("name", "dialect"), CASES)
def test_files_are_written_as_the_other_program_does(save, tmp_path, name, dialect):
    loaded = load_weights(save(network(name).state_dict()))
    save_official(tmp_path / "out.pth", loaded, dialect)
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    theirs, arch = foreign(name, dialect), NETWORKS[name][0]
    forms = {
        ("official", "DICNet"): {"state_dict": theirs},
        ("official", "LightCNNDiscriminator"): {"netD": theirs},
        ("official", "UNetFeatureDiscriminator"): {"netD": theirs},
        ("mmagic", "DICNet"): {"state_dict": {f"generator.{key}": value for key, value in theirs.items()}},
        ("mmagic", "LightCNNDiscriminator"): {
            "state_dict": {f"discriminator.{key}": value for key, value in theirs.items()}
        },
    }
    expected = forms.get((dialect, arch), theirs)
    (outer,) = expected if expected is not theirs else ("",)
    assert list(content) == list(expected)
    assert equal(content[outer] if outer else content, expected[outer] if outer else expected)
    again = load_weights(tmp_path / "out.pth")
    assert (again.kind, again.arch, again.args) == (dialect, *NETWORKS[name])


def test_flat_files_of_other_programs_can_be_safetensors(save, tmp_path):
    save_official(tmp_path / "out.safetensors", load_weights(save(foreign("generator"))), "mmagic")
    assert load_file(tmp_path / "out.safetensors").keys() == foreign("generator", "mmagic").keys()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_our_files_keep_network_and_arguments(save, tmp_path, name, suffix):
    save_weights(tmp_path / f"ours{suffix}", load_weights(save(foreign(name))))
    again = load_weights(tmp_path / f"ours{suffix}")
    assert (again.kind, again.arch, again.args) == ("params", *NETWORKS[name])
    ARCHS[again.arch](**again.args).load_state_dict(again.state_dict)


def test_arguments_without_trace_are_kept(save, tmp_path):
    steps = {"num_steps": 2, "detach_attention": True}
    save_weights(tmp_path / "ours.pth", load_weights(save(foreign("generator")), args=steps))
    assert load_weights(tmp_path / "ours.pth").args == {**TINY, **steps}


@pytest.mark.parametrize("name", ["cat", "unet"])
def test_network_without_counterpart_is_not_written(save, tmp_path, name):
    loaded = load_weights(save(foreign(name)))
    with pytest.raises(ValueError, match=f"key names of {loaded.arch} must be facesr or official, got 'mmagic'"):
        save_official(tmp_path / "out.pth", loaded, "mmagic")
    assert not (tmp_path / "out.pth").exists()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no network has key names of 'srfbn'"):
        from_official("dic", foreign("generator"), dialect="srfbn")


# Errors


@pytest.mark.parametrize("dialect", ["official", "mmagic"])
@pytest.mark.parametrize("name", ["generator", "hourglass", "critic"])
def test_incomplete_files_are_refused(save, name, dialect):
    state = foreign(name, dialect)
    lost = next(key for key in state if key.endswith("bias"))
    del state[lost]
    with pytest.raises(UnsupportedCheckpointError, match=rf"do not fit {NETWORKS[name][0]}: missing \(1\): .*\.bias"):
        load_weights(save(state))


def test_names_of_two_programs_in_one_file_are_refused(save):
    official, theirs = foreign("generator"), foreign("generator", "mmagic")
    mixed = {**dict(list(official.items())[:9]), **dict(list(theirs.items())[9:])}
    with pytest.raises(UnsupportedCheckpointError, match="nearest is dic with mmagic key names, not fitting: conv_in"):
        load_weights(save(mixed))


def test_other_numbers_of_landmarks_are_refused(save):
    state = foreign("generator")
    last = "HG.hg_conv_out.2"
    state |= {f"{last}.weight": torch.zeros(20, 8, 1, 1), f"{last}.bias": torch.zeros(20)}
    with pytest.raises(
        UnsupportedCheckpointError, match=r"DICNet refuses the arguments: num_(points|landmarks) must be .* got 20"
    ):
        load_weights(save(state))
    with pytest.raises(UnsupportedCheckpointError, match="args say num_landmarks 68, the weights have 5"):
        load_weights(save(foreign("generator")), args={"num_landmarks": 68})


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("generator", {"num_groups": 3}, "args say num_groups 3, the weights have 2"),
        ("generator", {"hourglass_feat": 4}, "args say hourglass_feat 4, the weights have 8"),
        ("generator", {"num_steps": 10**9}, "num_steps '1000000000', which is out of range"),
        ("generator", {"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ("cat", {"num_stacks": 4}, "args say num_stacks 4, the weights have 3"),
        ("mean", {"connect": "cat"}, r"missing \(2\): stacks\.0\.join"),
        ("critic", {"image_size": 128}, "args say image_size 128, the weights have 32"),
        ("unet", {"feature_only": True}, "args say feature_only True, the weights have False"),
    ],
)
def test_records_that_contradict_the_weights_are_refused(save, name, args, text):
    arch, stated = NETWORKS[name]
    record = make_record("dic", arch, {**stated, **args})
    with pytest.raises(UnsupportedCheckpointError, match=f"record and its weights disagree: .*{text}"):
        load_weights(save({"params": network(name).state_dict(), "facesr": record}))


@pytest.mark.parametrize("shape", [(512,), (512, 130), (512, 128 * 3), (512, 0)])
def test_critic_of_images_that_are_no_squares_is_refused(save, shape):
    state = {**foreign("critic"), "classifier.0.filter.weight": torch.zeros(shape)}
    with pytest.raises(UnsupportedCheckpointError, match=r"hidden.weight must have shape \(512, 128 \* s\^2\), got"):
        load_weights(save(state))


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ("stacks.1.", r"unexpected \(4\): stacks.0.feat_back"),
        ("stacks.0.", "heatmaps.weight is missing"),
        ("stacks.", "there are no stacks"),
    ],
)
def test_hourglass_without_its_stacks_is_refused(save, missing, text):
    state = {key: value for key, value in network("mean").state_dict().items() if not key.startswith(missing)}
    with pytest.raises(UnsupportedCheckpointError, match=text):
        load_weights(save(state))
