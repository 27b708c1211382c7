import json
import os
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from facesr_plugin.archs.sparnet_arch import SPARNet
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
from facesr_plugin.checkpoints.detect import identify
from helpers.checkpoint_files import official_state

ARGS = {"min_ch": 4, "max_ch": 8, "in_size": 32, "out_size": 32, "res_depth": 1, "bottleneck_size": 64}
RECORD = make_record("sparnet", "SPARNet", ARGS)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return SPARNet(**ARGS).state_dict()


@pytest.fixture(scope="module")
def official(state):
    return to_official("sparnet", state, ARGS)


def equal(first, second):
    return list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("kind", ["params", "params_ema"])
def test_weights_survive_saving(tmp_path, state, suffix, kind):
    path = tmp_path / f"net{suffix}"
    save_weights(path, Weights("sparnet", "SPARNet", ARGS, state, kind, path))
    loaded = load_weights(path)
    assert loaded[:3] == ("sparnet", "SPARNet", ARGS)
    assert (loaded.kind, loaded.path) == (kind, path)
    assert equal(loaded.state_dict, state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_sizes_of_the_faces_survive_saving(tmp_path, state, suffix):
    path, faces = tmp_path / f"net{suffix}", {"gt_size": 64, "scale": 4}
    save_weights(path, Weights("sparnet", "SPARNet", ARGS, state, "params", path, faces=faces))
    assert load_weights(path).faces == faces


def test_saved_pth_is_what_basicsr_loads(tmp_path, state):
    save_weights(tmp_path / "net.pth", Weights("sparnet", "SPARNet", ARGS, state, "official", tmp_path))
    loaded = torch.load(tmp_path / "net.pth", weights_only=True)
    assert loaded["facesr"] == RECORD
    assert equal(loaded["params"], state)


def test_saved_safetensors_has_the_record_in_its_metadata(tmp_path, state):
    path = tmp_path / "net.safetensors"
    save_weights(path, Weights("sparnet", "SPARNet", ARGS, state, "params", path))
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    assert json.loads(header["__metadata__"]["facesr"]) == RECORD
    assert load_file(path).keys() == state.keys()


def test_saving_shared_and_strided_tensors_writes_their_values_alone(tmp_path, state):
    whole = torch.rand(1000)
    odd = dict(state)
    odd["tail.conv.bias"] = whole[2:8:2]
    odd["encoder.0.conv.bias"] = whole[: len(state["encoder.0.conv.bias"])].requires_grad_()
    for name in ("net.pth", "net.safetensors"):
        save_weights(tmp_path / name, Weights("sparnet", "SPARNet", ARGS, odd, "params", tmp_path))
        loaded = load_weights(tmp_path / name)
        assert torch.equal(loaded.state_dict["tail.conv.bias"], whole[2:8:2])
        assert loaded.state_dict["tail.conv.bias"].untyped_storage().nbytes() == 12


def test_saving_refuses_other_suffixes_and_misfits(tmp_path, state):
    weights = Weights("sparnet", "SPARNet", ARGS, state, "params", tmp_path)
    with pytest.raises(ValueError, match=r"output must end in \.pth, \.pt, \.safetensors"):
        save_weights(tmp_path / "net.bin", weights)
    with pytest.raises(UnsupportedCheckpointError, match="do not fit SPARNet"):
        save_weights(tmp_path / "net.pth", weights._replace(args={**ARGS, "max_ch": 16}))
    with pytest.raises(ValueError, match="arch must be one of SPARNet for sparnet"):
        save_weights(tmp_path / "net.pth", weights._replace(arch="DICNet"))
    assert not os.listdir(tmp_path)  # noqa: PTH208


def test_failed_saving_keeps_the_old_file(tmp_path, state, monkeypatch):
    path = tmp_path / "net.pth"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(path, Weights("sparnet", "SPARNet", ARGS, state, "params", path))
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["net.pth"]


@pytest.mark.parametrize(("prefer", "value"), [("params_ema", 2.0), ("params", 1.0)])
def test_loading_prefers_what_it_is_told(save, state, prefer, value):
    def filled(number):
        return {key: torch.full_like(tensor, number) for key, tensor in state.items()}

    path = save({"params": filled(1), "params_ema": filled(2), "facesr": RECORD})
    loaded = load_weights(path, prefer=prefer)
    assert loaded.kind == prefer
    assert loaded.state_dict["tail.conv.bias"][0] == value


def test_loading_takes_the_kind_that_is_there(save, state):
    assert load_weights(save({"params": state})).kind == "params"
    assert load_weights(save({"params_ema": state}), prefer="params").kind == "params_ema"
    with pytest.raises(ValueError, match="prefer must be params or params_ema, got 'ema'"):
        load_weights("file.pth", prefer="ema")


def test_loading_recognises_basicsr_files_without_record(save, state):
    loaded = load_weights(save({"params": state}))
    assert loaded.args["max_ch"] == 8
    assert equal(SPARNet(**loaded.args).state_dict().keys() and loaded.state_dict, state)


WRAPPERS = {
    "flat": lambda s: s,
    "module": lambda s: {f"module.{key}": value for key, value in s.items()},
    "twice": lambda s: {f"module.module.{key}": value for key, value in s.items()},
    "compiled": lambda s: {f"_orig_mod.{key}": value for key, value in s.items()},
    "state_dict": lambda s: {"epoch": 3, "best": np.float64(1), "state_dict": s},
    "model": lambda s: {"model": {f"module.{key}": value for key, value in s.items()}, "optimizer": {"state": {}}},
    "netG": lambda s: {"netG": s, "netD": {"x": torch.zeros(1)}},
    "model_state_dict": lambda s: {"step": 3, "model_state_dict": s},
    "generator.": lambda s: {"state_dict": {f"generator.{key}": value for key, value in s.items()}},
    "params": lambda s: {"params": {f"module.{key}": value for key, value in s.items()}},
    "nested": lambda s: {"model": {"state_dict": s}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_loading_unwraps_official_files(save, official, wrapper):
    loaded = load_weights(save(WRAPPERS[wrapper](official)))
    assert loaded.kind == "official"
    assert equal(to_official("sparnet", loaded.state_dict, loaded.args), official)


@pytest.mark.parametrize("wrapper", ["flat", "module", "params", "state_dict"])
def test_loading_unwraps_files_with_our_names(save, state, wrapper):
    loaded = load_weights(save(WRAPPERS[wrapper](state)))
    assert loaded.kind == "params"
    assert equal(loaded.state_dict, state)


@pytest.mark.parametrize("write", ["npz", "safetensors", "legacy"])
def test_loading_reads_official_weights_in_every_form(tmp_path, official, write):
    path = tmp_path / "file"
    if write == "npz":
        with path.open("wb") as file:
            np.savez(file, **{key: value.numpy() for key, value in official.items()})
    elif write == "safetensors":
        save_file(official, path)
    else:
        torch.save(official, path, _use_new_zipfile_serialization=False)
    loaded = load_weights(path, system="sparnet")
    assert equal(loaded.state_dict, from_official("sparnet", official).state_dict)


def test_official_files_are_written_as_released(tmp_path):
    official = official_state("tiny_in_sn_attn3d")
    converted = from_official("sparnet", official)
    weights = Weights("sparnet", *converted, "params", tmp_path)
    save_official(tmp_path / "net.pth", weights)
    assert equal(torch.load(tmp_path / "net.pth", weights_only=True), official)
    save_official(tmp_path / "net.safetensors", weights)
    assert equal(dict(sorted(load_file(tmp_path / "net.safetensors").items())), dict(sorted(official.items())))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": 2}, "format 2, this version reads up to 1. Update"),
        ({"format": 0}, "must have system, arch, args and a format number"),
        ({"format": True}, "must have system, arch, args and a format number"),
        ({"format": "1"}, "must have system, arch, args and a format number"),
        ({"system": "edsr"}, "system must be one of sparnet, sparnethd, progressive.*, got 'edsr'"),
        ({"system": None}, "must have system, arch and args"),
        ({"arch": "DICNet"}, "arch must be one of SPARNet for sparnet, got 'DICNet'"),
        ({"args": [1]}, "must have system, arch and args"),
        ({"args": {1: 2}}, "name is no text"),
        ({"args": {}}, "record and its weights disagree.*(missing|other shapes)"),
        ({"args": {**ARGS, "max_ch": 16}}, r"disagree.*other shapes.*must have \(\d+,"),
        ({"args": {**ARGS, "res_depth": 2}}, "disagree: args say res_depth 2, the weights have 1"),
        ({"args": {**ARGS, "res_depth": 10**9}}, "disagree: args say res_depth"),
        ({"args": {**ARGS, "in_size": 2**200}}, "in_size .* out of range"),
        ({"args": {**ARGS, "att_name": "spar3d"}}, "disagree"),
        ({"args": {**ARGS, "norm_type": "in"}}, "disagree.*unexpected"),
        ({"args": {**ARGS, "norm_type": "magic"}}, "disagree.*norm_type must be one of"),
        ({"args": {**ARGS, "colour": 1}}, "disagree.*colour"),
        ({"args": {**ARGS, "max_ch": [8]}}, "max_ch .* out of range"),
        ({"faces": [256, 4]}, r"disagree: faces must be a table of gt_size, scale, framing, got \[256, 4\]"),
        ({"faces": {"side": 256}}, "faces must be a table of gt_size, scale, framing, got .*side"),
        ({"faces": {"framing": "tight"}}, "framing of the faces must be one of box, celeba, ffhq, loose, got tight"),
        ({"faces": {"scale": 0}}, "scale of the faces must be 1 to 4096, got 0"),
        ({"faces": {"gt_size": True}}, "gt_size of the faces must be 1 to 4096, got True"),
        ({"faces": {"gt_size": 10**9}}, "gt_size of the faces must be 1 to 4096, got 1000000000"),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_loading_refuses_records_that_are_wrong(tmp_path, state, change, match, form):
    record, path = RECORD | change, tmp_path / "net"
    if form == "pth":
        torch.save({"params": state, "facesr": record}, path)
    elif "name is no text" in match:
        return  # JSON has no other names
    else:
        save_file(state, path, {"facesr": json.dumps(record)})
    with pytest.raises(UnsupportedCheckpointError, match=match):
        load_weights(path)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]", '"x"', "null"], ids=["cut", "deep", "list", "text", "null"])
def test_loading_refuses_metadata_that_is_no_record(tmp_path, state, text):
    save_file(state, tmp_path / "net", {"facesr": text})
    if text == "null":
        assert load_weights(tmp_path / "net").kind == "params"
        return
    with pytest.raises(UnsupportedCheckpointError, match="record"):
        load_weights(tmp_path / "net")


def test_loading_refuses_an_unknown_kind(tmp_path, state):
    save_file(state, tmp_path / "net", {"kind": "official"})
    with pytest.raises(UnsupportedCheckpointError, match="kind must be params or params_ema"):
        load_weights(tmp_path / "net")


def test_loading_refuses_arguments_that_contradict_the_record(save, state):
    path = save({"params": state, "facesr": RECORD})
    assert load_weights(path, args={"max_ch": 8}).args == ARGS
    with pytest.raises(UnsupportedCheckpointError, match="states other arguments"):
        load_weights(path, args={"relu_type": "relu"})


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ([1], "holds a list, not a state dict"),
        (torch.zeros(3), "holds a Tensor"),
        ({}, "it is empty"),
        ({"params": {}}, "it is empty"),
        ({"epoch": 3, "weights": {"x": torch.zeros(1)}}, "not tensors: epoch, weights. Weights are looked for under"),
        ({"params": {"x": 3}}, "not tensors: x"),
        ({1: torch.zeros(1)}, "not tensors: 1"),
        ({"fc.weight": torch.zeros(1)}, r"no known system: fc\.weight. Known systems: sparnet"),
    ],
)
def test_loading_refuses_what_is_no_network(save, data, match):
    with pytest.raises(UnsupportedCheckpointError, match=match) as caught:
        load_weights(save(data))
    assert "file.pth" in str(caught.value)


def test_loading_refuses_an_unknown_system(save, state):
    with pytest.raises(ValueError, match="system must be one of sparnet, sparnethd, progressive.*, got 'x'"):
        load_weights(save(state), system="x")


def test_loading_names_both_systems(save, state, official, monkeypatch):
    from facesr_plugin.checkpoints import detect

    other = detect.SystemFormat("other", "Other", detect.sparnet.KeyMap([]), lambda _: {})
    monkeypatch.setattr(detect, "FORMATS", (*detect.FORMATS, other))
    for data in ({"params": state, "facesr": RECORD}, {"params": state}, official):
        with pytest.raises(UnsupportedCheckpointError, match=r"weights of sparnet \(SPARNet\), not other"):
            load_weights(save(data), system="other")


def test_identify_tells_official_names_from_ours(state, official):
    assert identify(state).dialect == "facesr"
    assert identify(official).dialect == "official"
    with pytest.raises(UnsupportedCheckpointError, match="nearest is sparnet with facesr key names"):
        identify({**state, "head.weight": 0})


def test_loading_keeps_half_precision(save, state):
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    assert load_weights(save({"params": half})).state_dict["tail.conv.bias"].dtype == torch.float16
