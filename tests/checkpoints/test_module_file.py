"""Networks saved as whole modules: the released alignment network's form, and files that only look like it."""

import os

import pytest
import torch
from torch import nn

from facesr_plugin.archs.fan_arch import CompressedFAN
from facesr_plugin.checkpoints import UnsupportedCheckpointError, load_weights, save_official
from facesr_plugin.checkpoints.module_file import module_state_dict
from facesr_plugin.checkpoints.rebuild import Stub
from helpers.checkpoint_files import pickle_of, text, write_legacy
from helpers.module_files import make_fan_module, save_whole_module


@pytest.fixture
def fan(tmp_path, monkeypatch):
    torch.manual_seed(0)
    return make_fan_module(tmp_path, monkeypatch, width=2, landmarks=5)


@pytest.fixture
def save(tmp_path):
    return lambda module: save_whole_module(tmp_path / "fan.pth", module)


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def stub(*, parameters=None, modules=None):
    return Stub("fan_model.fan_squeeze", (), {"_parameters": parameters, "_buffers": {}, "_modules": modules})


def test_whole_module_is_read_as_its_state_dict(fan, save):
    loaded = load_weights(save(fan))
    assert (loaded.system, loaded.arch, loaded.kind) == ("progressive", "CompressedFAN", "official")
    assert loaded.args == {"num_landmarks": 5, "num_feat": 2}
    net = CompressedFAN(**loaded.args)
    net.load_state_dict(loaded.state_dict)
    torch.testing.assert_close(net.head.weight, fan.conv.weight, atol=0, rtol=0)
    torch.testing.assert_close(net.norms[2].running_var, fan.layers[7].running_var, atol=0, rtol=0)


def test_whole_module_file_names_only_what_the_released_one_does(fan, save):
    path = save(fan)
    assert b"cfan_model\nfan_squeeze\n" in path.read_bytes()
    assert b"ctorch.nn.backends.thnn\n_get_thnn_function_backend\n" in path.read_bytes()


def test_whole_module_becomes_a_flat_file_with_the_same_names(fan, save, tmp_path):
    save_official(tmp_path / "flat.pth", load_weights(save(fan)))
    flat = torch.load(tmp_path / "flat.pth", weights_only=True)
    assert list(flat) == [f"{name}.{leaf}" for name, leaf in _leaves(fan)]
    assert torch.equal(flat["layers.9.weight"], fan.layers[9].weight)


def _leaves(fan):
    for name, part in fan.named_modules():
        yield from ((name, leaf) for leaf in (*part._parameters, *part._buffers))


@pytest.mark.parametrize(
    "other", [nn.ReLU(), nn.Linear(1, 1), nn.Conv1d(1, 1, 1)], ids=lambda other: type(other).__name__
)
def test_whole_module_with_another_class_is_refused(fan, save, other):
    for name in [name for name, value in vars(other).items() if isinstance(value, set)]:
        del other.__dict__[name]
    fan.layers._modules["2"] = other
    with pytest.raises(UnsupportedCheckpointError, match=f"refers to 'torch.nn.modules.*{type(other).__name__}'"):
        load_weights(save(fan))


def test_whole_module_of_another_program_is_refused(tmp_path):
    path = write_legacy(tmp_path / "net.pth", pickle_of(b"cother\nNet\n)\x81}b"), [], b"")
    with pytest.raises(UnsupportedCheckpointError, match=r"refers to 'other\.Net'"):
        load_weights(path)


@pytest.mark.parametrize("call", [Call(os.system, "touch CANARY"), Call(eval, "open('CANARY', 'w')")])
@pytest.mark.parametrize("place", ["_backend", "_forward_hooks", "training"])
def test_whole_module_runs_no_code(fan, save, tmp_path, monkeypatch, call, place):
    monkeypatch.chdir(tmp_path)
    fan.layers[0].__dict__[place] = call
    with pytest.raises(UnsupportedCheckpointError, match="not part of a plain state dict"):
        load_weights(save(fan))
    assert not (tmp_path / "CANARY").exists()


def test_whole_module_that_contains_itself_is_refused(fan, save):
    fan.layers._modules["10"] = fan
    with pytest.raises(UnsupportedCheckpointError, match="contains itself"):
        load_weights(save(fan))


@pytest.mark.parametrize("state", [b"", b"}b", b"]b"], ids=["none", "empty", "list"])
def test_whole_module_without_tables_is_refused(tmp_path, state):
    opcodes = b"cfan_model\nfan_squeeze\n)\x81" + state
    with pytest.raises(UnsupportedCheckpointError, match=r"its 'module' (is no pickled module|has no table)"):
        load_weights(write_legacy(tmp_path / "net.pth", pickle_of(opcodes), [], b""))


def test_class_outside_of_a_module_is_no_weight(tmp_path):
    opcodes = b"}" + text("conv.weight") + b"cfan_model\nfan_squeeze\n)\x81s"
    with pytest.raises(UnsupportedCheckpointError, match=r"not tensors: conv\.weight"):
        load_weights(write_legacy(tmp_path / "net.pth", pickle_of(opcodes), [], b""))


def test_whole_module_cut_short_is_refused(fan, save):
    path = save(fan)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UnsupportedCheckpointError, match="truncated"):
        load_weights(path)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (stub(parameters={"a.b": torch.zeros(1)}, modules={}), "no table of names under _parameters"),
        (stub(parameters={}, modules=[]), "no table of names under _modules"),
        (stub(parameters={}, modules={"conv": torch.zeros(1)}), "its 'conv' is no pickled module"),
        (stub(parameters={}, modules={"conv": stub(parameters=None, modules={})}), "its 'conv' has no table"),
    ],
)
def test_tables_of_modules_are_checked(module, text):
    with pytest.raises(UnsupportedCheckpointError, match=text):
        module_state_dict(module)


def test_tables_may_have_places_that_are_empty():
    weight = torch.zeros(1)
    child = stub(parameters={"weight": weight, "bias": None}, modules={})
    assert module_state_dict(stub(parameters={}, modules={"conv": child, "norm": None})) == {"conv.weight": weight}
