"""Compiled operators and PyTorch's give the same values, gradients and double gradients.

``pytest -s tests/ops/test_backends.py`` prints what ran. Without a GPU only PyTorch's run; the parts of BasicSR's and
mmcv's operators that are Python are then tried with stand-ins for what is compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facesr_plugin.ops import backends, fused, upfirdn
from facesr_plugin.ops.backends import BACKENDS, choose_backend, missing

SIZES = [(8, 8), (7, 10), (9, 5), (2, 3)]
Results = dict[str, Tensor]


def uniform(*shape: int, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float64) -> Tensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    return values.to(device, dtype).requires_grad_()


def differentiate(function: Callable[..., Tensor], *inputs: Tensor) -> Results:
    """Value; gradient of its weighted sum; gradient of that gradient's squares with respect to the weights."""
    value = function(*inputs)
    weights = uniform(*value.shape, seed=9, device=value.device, dtype=value.dtype)
    gradients = torch.autograd.grad((value * weights).sum(), inputs, create_graph=True)
    (double,) = torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), weights)
    results = {"value": value, "double gradient": double}
    return {name: result.detach() for name, result in results.items()} | {
        f"gradient {i}": gradient.detach() for i, gradient in enumerate(gradients)
    }


def fused_inputs(size: tuple[int, int], device: str = "cpu", dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    return uniform(2, 3, *size, seed=1, device=device, dtype=dtype), uniform(3, seed=2, device=device, dtype=dtype)


def expected_fused(size: tuple[int, int]) -> Results:
    return differentiate(lambda x, bias: F.leaky_relu(x + bias[:, None, None], 0.2), *fused_inputs(size))


def halve_input(size: tuple[int, int], device: str = "cpu", dtype: torch.dtype = torch.float64) -> Tensor:
    return uniform(2, 3, *size, seed=1, device=device, dtype=dtype)


def expected_halve(size: tuple[int, int]) -> Results:
    return differentiate(lambda x: F.interpolate(x, scale_factor=0.5, mode="bicubic"), halve_input(size))


def compare(actual: Results, expected: Results, tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name].cpu().double(), value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Every backend that is here, with the devices that it computes on."""
    name, gpu = request.param, torch.cuda.is_available()
    if missing(name):
        pytest.skip(f"{name} is UNTESTED here: {missing(name)}")
    if name != "torch" and not gpu:
        pytest.skip(f"{name} is UNTESTED here: no GPU")
    return SimpleNamespace(name=name, devices=["cuda"] if name != "torch" else ["cpu"] + ["cuda"] * gpu)


@pytest.mark.parametrize("size", SIZES)
def test_every_backend_fuses_alike(backend: SimpleNamespace, size: tuple[int, int]) -> None:
    for device in backend.devices:
        inputs = fused_inputs(size, device, torch.float32)
        actual = differentiate(lambda x, bias: fused.IMPLEMENTATIONS[backend.name](x, bias, 0.2), *inputs)
        compare(actual, expected_fused(size), 1e-5)
        print(f"ran: fused_leaky_relu of {backend.name} on {device}")


@pytest.mark.parametrize("size", SIZES)
def test_every_backend_halves_alike(backend: SimpleNamespace, size: tuple[int, int]) -> None:
    for device in backend.devices:
        actual = differentiate(upfirdn.IMPLEMENTATIONS[backend.name], halve_input(size, device, torch.float32))
        compare(actual, expected_halve(size), 1e-5)
        print(f"ran: halve of {backend.name} on {device}")


# What can be tried of the compiled ones without a GPU


def fake_bias_act(x: Tensor, bias: Tensor, refer: Tensor, act: int, grad: int, alpha: float, scale: float) -> Tensor:
    """Do what BasicSR's and mmcv's compiled function does."""
    assert act == 3
    x = x + bias.view(-1, 1, 1) if bias.numel() else x
    return torch.where((refer if grad else x) > 0, x, x * alpha) * scale


@pytest.mark.parametrize("size", SIZES)
def test_basicsrs_fused_function_is_called_rightly(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    from basicsr.ops.fused_act import fused_act

    extension = SimpleNamespace(fused_bias_act=fake_bias_act)
    monkeypatch.setattr(fused_act, "fused_act_ext", extension, raising=False)
    actual = differentiate(lambda x, bias: fused.IMPLEMENTATIONS["basicsr"](x, bias, 0.2), *fused_inputs(size))
    compare(actual, expected_fused(size), 1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_basicsrs_upfirdn_is_called_rightly(size: tuple[int, int]) -> None:
    compare(differentiate(upfirdn.IMPLEMENTATIONS["basicsr"], halve_input(size)), expected_halve(size), 1e-12)


@pytest.fixture
def mmcv(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the signatures of mmcv 2.2.0."""

    def fused_bias_leakyrelu(input: Tensor, bias: Tensor, negative_slope: float = 0.2, scale: float = 2**0.5) -> Tensor:
        return F.leaky_relu(input + bias.view(-1, 1, 1), negative_slope) * scale

    def upfirdn2d(
        input: Tensor, filter: Tensor, up: int = 1, down: int = 1, padding: int | tuple[int, int] = 0
    ) -> Tensor:
        assert filter.dtype == torch.float32
        assert (up, padding) == (1, (0, 0))
        kernel = filter.flip(0, 1).to(input.dtype)[None, None].expand(input.shape[1], 1, -1, -1)
        return F.conv2d(input, kernel, stride=down, groups=input.shape[1])

    module = ModuleType("mmcv.ops")
    module.fused_bias_leakyrelu, module.upfirdn2d = fused_bias_leakyrelu, upfirdn2d
    monkeypatch.setitem(sys.modules, "mmcv", ModuleType("mmcv"))
    monkeypatch.setitem(sys.modules, "mmcv.ops", module)


@pytest.mark.usefixtures("mmcv")
@pytest.mark.parametrize("size", SIZES)
def test_mmcvs_operators_are_called_rightly(size: tuple[int, int]) -> None:
    actual = differentiate(lambda x, bias: fused.IMPLEMENTATIONS["mmcv"](x, bias, 0.2), *fused_inputs(size))
    compare(actual, expected_fused(size), 1e-12)
    compare(differentiate(upfirdn.IMPLEMENTATIONS["mmcv"], halve_input(size)), expected_halve(size), 1e-12)


# The choice


def tensor_on(device: str, dtype: torch.dtype = torch.float32, numel: int = 1) -> SimpleNamespace:
    return SimpleNamespace(device=SimpleNamespace(type=device), dtype=dtype, numel=lambda: numel)


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the backends that are taken for present."""
    names = {"torch"}
    monkeypatch.setattr(backends, "missing", lambda name: "" if name in names else "not installed")
    monkeypatch.delenv("FACESR_OPS", raising=False)
    return names


@pytest.mark.parametrize(
    ("here", "chosen"), [({"basicsr", "mmcv"}, "basicsr"), ({"basicsr"}, "basicsr"), ({"mmcv"}, "mmcv"), ({}, "torch")]
)
def test_auto_takes_the_first_that_is_here(present: set[str], here: set[str], chosen: str) -> None:
    present.update(here)
    assert choose_backend(tensor_on("cuda")) == chosen


@pytest.mark.parametrize(
    "x",
    [tensor_on("cpu"), tensor_on("cuda", torch.bfloat16), tensor_on("cuda", numel=2**31)],
    ids=["cpu", "bf16", "large"],
)
@pytest.mark.parametrize("setting", ["auto", "basicsr", "mmcv", "torch"])
def test_what_compiled_operators_cannot_do_is_pytorchs(
    monkeypatch: pytest.MonkeyPatch, present: set[str], x: SimpleNamespace, setting: str
) -> None:
    present.update(BACKENDS)
    monkeypatch.setenv("FACESR_OPS", setting)
    assert choose_backend(x) == "torch"


def test_chosen_backend_is_taken_or_missed(monkeypatch: pytest.MonkeyPatch, present: set[str]) -> None:
    present.update({"basicsr", "mmcv"})
    monkeypatch.setenv("FACESR_OPS", "mmcv")
    assert choose_backend(tensor_on("cuda")) == "mmcv"
    present.discard("mmcv")
    with pytest.raises(ImportError, match="FACESR_OPS is mmcv, which is not installed"):
        choose_backend(tensor_on("cuda"))


def test_other_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESR_OPS", "cuda")
    with pytest.raises(ValueError, match="FACESR_OPS must be auto, basicsr, mmcv or torch, got 'cuda'"):
        choose_backend(torch.zeros(1))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "not compiled: BASICSR_EXT=True pip install"),
        (["ops/fused_act/fused_act_ext.cpython-311-x86_64-linux-gnu.so"], "not compiled"),
        (["ops/fused_act/fused_act_ext.so", "ops/upfirdn2d/upfirdn2d_ext.so"], ""),
    ],
)
def test_missing_looks_for_both_extensions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: list[str], reason: str
) -> None:
    for file in ["__init__.py", *files]:
        (tmp_path / "basicsr" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "basicsr" / file).touch()
    spec = SimpleNamespace(origin=str(tmp_path / "basicsr" / "__init__.py"))
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.delenv("BASICSR_JIT", raising=False)
    found = missing.__wrapped__("basicsr")
    assert found.startswith(reason)
    assert bool(found) is bool(reason)


def test_describe_says_what_was_never_run(present: set[str]) -> None:
    lines = backends.describe()
    assert lines[0].startswith("operators: FACESR_OPS=auto")
    assert lines[1:] == [
        "  basicsr  not installed; UNTESTED by this project",
        "  mmcv     not installed; UNTESTED by this project",
        "  torch    available",
    ]
