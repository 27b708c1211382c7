import json

import pytest
import torch
from torch.nn.utils.parametrizations import spectral_norm

from facesr_plugin.archs.sparnet_arch import SPARNet
from facesr_plugin.archs.sparnet_discriminator_arch import SPARNetDiscriminator
from facesr_plugin.checkpoints import (
    UnsupportedCheckpointError,
    fold_spectral_norm,
    from_official,
    load_weights,
    save_weights,
    to_official,
)
from facesr_plugin.checkpoints.detect import _NoFilling, check_weights, format_of
from facesr_plugin.checkpoints.sparnet import widths
from facesr_plugin.checkpoints.spectral_norm import to_legacy_names
from helpers.checkpoint_files import DATA, OFFICIAL, official_state

SMALL = {"min_ch": 4, "max_ch": 8, "res_depth": 1, "bottleneck_size": 16}
REFERENCES = sorted((DATA / "references" / "sparnet").glob("*.json"))


@pytest.mark.parametrize("name", OFFICIAL)
def test_sparnet_conversion_is_undone_exactly(name):
    official = official_state(name)
    converted = from_official("sparnet", official)
    SPARNet(**converted.args).load_state_dict(converted.state_dict, strict=True)
    back = to_official("sparnet", converted.state_dict, converted.args)
    assert list(back) == list(official)
    assert all(back[key] is official[key] for key in official)


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_sparnet_conversion_is_undone_for_the_references(path):
    case = json.loads(path.read_text())
    if case.get("network") == "SPARNet generator":
        official = {key: torch.empty(shape, device="meta") for key, shape in case["state_dict"]}
        official = {key: value.long() if key.endswith("tracked") else value for key, value in official.items()}
        converted = from_official("sparnet", official)
        assert list(to_official("sparnet", converted.state_dict, converted.args)) == list(official)


@pytest.mark.parametrize("name", OFFICIAL)
def test_sparnet_arguments_are_found_from_the_shapes(name):
    args = from_official("sparnet", official_state(name)).args
    wanted = dict(OFFICIAL[name]["args"])
    if wanted["min_ch"] == 8:  # no width reaches the limit: any value up to the smallest width is the same network
        wanted["min_ch"] = 10
    assert args == wanted


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"res_depth": 1, "att_name": "spar3d"},
        {"max_ch": 512, "in_size": 512, "out_size": 512, "min_feat_size": 32, "norm_type": "in", "spectral_norm": True},
        {"relu_type": "prelu", "res_depth": 0},
        {"norm_type": "none", "res_depth": 1},
        {"in_size": 32, "out_size": 64, "res_depth": 0},
        {"in_size": 16, "out_size": 128, "bottleneck_size": 64, "res_depth": 0},
        {"in_size": 32, "out_size": 16, "bottleneck_size": 64, "res_depth": -0},
        {"bottleneck_size": 16, "res_depth": 1},
        {"min_ch": 6, "max_ch": 44, "in_size": 32, "out_size": 64, "res_depth": 1},
        {"min_ch": 3, "max_ch": 3, "in_size": 64, "out_size": 16, "bottleneck_size": 8, "res_depth": 2},
        {"min_ch": 7, "max_ch": 13, "in_size": 256, "out_size": 256, "min_feat_size": 8, "res_depth": 3},
    ],
    ids=str,
)
def test_sparnet_arguments_found_rebuild_the_same_network(args):
    with torch.device("meta"), _NoFilling():
        state = SPARNet(**args).state_dict()
    form = format_of("sparnet", "SPARNet")
    found = form.infer_args(state)
    assert list(check_weights(form, found, state)) == list(state)
    default = {"min_ch": 32, "max_ch": 128, "relu_type": "leakyrelu", "norm_type": "bn", "spectral_norm": False}
    assert {key: found[key] for key in default if key != "min_ch"} == {
        key: args.get(key, value) for key, value in default.items() if key != "min_ch"
    }
    assert found["res_depth"] == args.get("res_depth", 10)


def test_sparnet_arguments_that_shapes_hide_can_be_given():
    official = official_state("sparnet_light_attn3d")
    assert from_official("sparnet", official).args["relu_type"] == "leakyrelu"
    assert from_official("sparnet", official, {"relu_type": "relu"}).args["relu_type"] == "relu"


def test_sparnet_arguments_that_contradict_the_shapes_are_refused():
    with pytest.raises(UnsupportedCheckpointError, match="args say res_depth 2, the weights have 1"):
        from_official("sparnet", official_state("sparnet_light_attn3d"), {"res_depth": 2})
    with pytest.raises(UnsupportedCheckpointError, match=r"other shapes .*encoder\.0\.conv\.bias must have \(16,\)"):
        from_official("sparnet", official_state("sparnet_light_attn3d"), {"min_ch": 16, "max_ch": 64})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("encoder.1.conv1.conv2d.weight"), r"encoder\.1\.conv\w*\.conv\.weight is missing"),
        (lambda s: s.pop("tail", s.pop("out_conv.conv2d.bias")), r"missing \(1\): tail\.conv\.bias"),
        (lambda s: s.update({"res_layers.5.conv1.conv2d.weight": torch.zeros(1)}), r"blocks are missing: body\.4"),
        (
            lambda s: s.update({"out_conv.conv2d.bias": torch.zeros(4)}),
            r"tail\.conv\.bias must have \(3,\), got \(4,\)",
        ),
        (lambda s: s.update({"out_conv.conv2d.bias": torch.zeros(3).long()}), r"tail\.conv\.bias is torch\.int64"),
        (lambda s: s.update({"encoder.0.conv2d.weight": torch.zeros(11, 3, 3, 3)}), "are those of no SPARNet"),
        (lambda s: s.update({"encoder.0.conv2d.weight": torch.zeros(10)}), "must be a convolution weight"),
        (lambda s: s.update({"out_conv.norm.norm.weight": torch.zeros(3)}), "unexpected"),
        (lambda s: s.update({"encoder.1.att_func.b1_9.conv2d.weight": torch.zeros(1)}), "no SPARNet|missing"),
        (
            lambda s: s.update({"fc.weight": torch.zeros(1)}),
            r"nearest is sparnet with official .*not fitting: fc\.weight",
        ),
    ],
)
def test_sparnet_misfits_are_named(change, match):
    official = official_state("tiny_bn_prelu_odd")
    change(official)
    with pytest.raises(UnsupportedCheckpointError, match=match):
        from_official("sparnet", official)


def test_widths_of_the_published_networks():
    assert widths(32, 128, 3, 3) == ([32, 64, 128, 128], [128, 64, 32])
    assert widths(32, 512, 4, 4) == ([102, 204, 408, 512, 512], [512, 408, 204, 102])


@pytest.fixture
def spectral():
    torch.manual_seed(0)
    return SPARNet(**SMALL, norm_type="in", spectral_norm=True).eval()


def test_fold_spectral_norm_keeps_the_output(spectral):
    folded = SPARNet(**SMALL, norm_type="in").eval()
    folded.load_state_dict(fold_spectral_norm(spectral.state_dict()), strict=True)
    lq = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(folded(lq), spectral(lq))


def test_fold_spectral_norm_leaves_the_order_of_a_plain_network(spectral):
    plain = SPARNet(**SMALL, norm_type="in").state_dict()
    assert list(fold_spectral_norm(spectral.state_dict())) == list(plain)


def test_fold_spectral_norm_works_on_official_names():
    official = official_state("tiny_in_sn_attn3d")
    converted = from_official("sparnet", fold_spectral_norm(official))
    assert converted.args["spectral_norm"] is False


def test_fold_spectral_norm_refuses_lonely_weights(spectral):
    state = spectral.state_dict()
    del state["tail.conv.weight_v"]
    with pytest.raises(UnsupportedCheckpointError, match=r"tail\.conv: weight_u and weight_v are missing"):
        fold_spectral_norm(state)


def test_parametrised_spectral_norm_is_read():
    layer = torch.nn.Sequential(spectral_norm(torch.nn.Conv2d(3, 4, 3)))
    renamed = to_legacy_names(layer.state_dict())
    assert sorted(renamed) == ["0.bias", "0.weight_orig", "0.weight_u", "0.weight_v"]
    folded = fold_spectral_norm(renamed)["0.weight"]
    assert torch.equal(folded, layer.eval()[0].weight)


def test_parametrised_names_of_an_official_file_convert():
    official = official_state("tiny_in_sn_attn3d")
    suffixes = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}
    renamed = {}
    for key, value in official.items():
        layer, _, leaf = key.rpartition(".")
        renamed[f"{layer}.parametrizations.weight.{suffixes[leaf]}" if leaf in suffixes else key] = value
    assert renamed.keys() != official.keys()
    converted = from_official("sparnet", renamed)
    assert list(to_official("sparnet", converted.state_dict, converted.args)) == list(official)


def test_spectral_norm_tells_sparnethd(tmp_path):
    official = official_state("tiny_in_sn_attn3d")
    torch.save(official, tmp_path / "hd.pth")
    loaded = load_weights(tmp_path / "hd.pth")
    assert (loaded.system, loaded.kind) == ("sparnethd", "official")
    SPARNet(**loaded.args).load_state_dict(loaded.state_dict, strict=True)
    with pytest.raises(UnsupportedCheckpointError, match=r"are weights of sparnethd \(SPARNet\), not sparnet"):
        load_weights(tmp_path / "hd.pth", system="sparnet")


def test_folded_weights_are_of_the_system_that_record_or_caller_names(tmp_path):
    folded = fold_spectral_norm(official_state("tiny_in_sn_attn3d"))
    torch.save(folded, tmp_path / "folded.pth")
    assert load_weights(tmp_path / "folded.pth").system == "sparnet"
    loaded = load_weights(tmp_path / "folded.pth", system="sparnethd")
    assert loaded.system == "sparnethd"
    save_weights(tmp_path / "ours.pth", loaded)
    assert load_weights(tmp_path / "ours.pth").system == "sparnethd"


def test_discriminator_is_not_taken_for_a_generator(tmp_path):
    network = SPARNetDiscriminator(base_ch=4, n_layers=1, num_d=1)
    torch.save(network.state_dict(), tmp_path / "net_d.pth")
    loaded = load_weights(tmp_path / "net_d.pth")
    assert (loaded.system, loaded.arch) == ("sparnethd", "SPARNetDiscriminator")
    with pytest.raises(UnsupportedCheckpointError, match=r"sparnethd \(SPARNetDiscriminator\), not sparnet"):
        load_weights(tmp_path / "net_d.pth", system="sparnet")
