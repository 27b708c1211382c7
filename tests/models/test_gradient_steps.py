"""Gradients and steps of every system: half precision, limits of gradients, and no waiting for the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facesr_plugin.models.building import build_optimizer
from facesr_plugin.models.precision import Precision
from helpers.tiny_systems import FUSED, FUSED_ON_CPU, GANS, SYSTEMS, TinySystem, copy_networks, state
from helpers.waits import watched_waits

QUICK = ("jasrnet", "progressive")  # float16 is slow on a CPU
needs_fused_cpu = pytest.mark.skipif(not FUSED_ON_CPU, reason="fused optimisers on the CPU came with 2.4")


def gradient(net: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None])


def fused(name: str, **train: Any) -> dict[str, Any]:
    """Options of optimisers that can leave out a step on the device."""
    return {"optim_g": FUSED, **({"optim_d": FUSED} if name in GANS else {}), **train}


# Half precision


@pytest.mark.parametrize("name", SYSTEMS)
def test_bfloat16_gradients_point_where_those_of_float32_do_and_all_else_stays_float32(
    tmp_path: Path, name: str
) -> None:
    torch.manual_seed(0)
    system = SYSTEMS[name]
    models = [system.build(tmp_path, amp=amp, ema_decay=0.9) for amp in (None, "bf16")]
    nets = [net for net in ("net_g", "net_d") if hasattr(models[0], net)]
    copy_networks(*models)
    for model in models:
        system.step(model, system.first)
    for net in nets:
        full, half = (gradient(getattr(model, net)) for model in models)
        assert not torch.equal(full, half)
        # 8 bits: small differences of images change the sign of an L1's gradient, and real and fake nearly cancel
        assert torch.cosine_similarity(full, half, dim=0) > 0.95
    assert {tensor.dtype for tensor in state(models[1]).values()} <= {torch.float32, torch.int64}
    assert {value.dtype for value in (models[1].output, *models[1]._losses.values())} == {torch.float32}
    assert models[1].skipped_steps == 0


@pytest.mark.parametrize("name", ["jasrnet", "fan_distill"])
def test_half_precision_learns(tmp_path: Path, name: str) -> None:
    system = SYSTEMS[name]
    model = system.build(tmp_path, amp="bf16")
    logs = []
    for _ in range(8):
        model.feed_data(system.batch(0))
        model.optimize_parameters(1)
        logs.append(sum(model.get_current_log().values()))
    assert logs[-1] < 0.98 * logs[0]


def test_validation_is_in_float32(tmp_path: Path) -> None:
    system = SYSTEMS["sparnet"]
    model = system.build(tmp_path, amp="bf16")
    model.feed_data(system.batch(1))
    model.test()
    own = model.net_g.eval()(model.lq)
    assert torch.equal(model.output, own)


@pytest.fixture
def half_on_cpu() -> None:
    if not hasattr(torch.amp, "GradScaler"):
        pytest.skip("float16 on the CPU came with 2.3")


STATE = {"growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 0}


def build_scaled(system: TinySystem, folder: Path, scale: float, **train: Any) -> Any:
    """A model in float16 that multiplies its losses by a scale."""
    model = system.build(folder, amp="fp16", **train)
    model.precision.load_state({"scale": scale, **STATE})
    return model


@pytest.mark.usefixtures("half_on_cpu")
@pytest.mark.parametrize("name", QUICK)
def test_overflow_lowers_the_scale_and_is_no_fault(tmp_path: Path, name: str) -> None:
    system = SYSTEMS[name]
    model = build_scaled(system, tmp_path, 2.0**120, ema_decay=0.9)
    before = state(model)
    system.step(model, system.first)
    after = state(model)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert model.precision.state()["scale"] < 2.0**120
    assert (model.skipped_steps, model.guard.in_a_row) == (0, 0)
    assert not (tmp_path / "faults").exists()


@pytest.mark.usefixtures("half_on_cpu")
@pytest.mark.parametrize("name", QUICK)
def test_float16_gradients_are_those_of_the_loss(tmp_path: Path, name: str) -> None:
    system = SYSTEMS[name]
    models = [system.build(tmp_path), build_scaled(system, tmp_path, 64.0)]
    copy_networks(*models)
    for model in models:
        system.step(model, system.first)
    full, half = (gradient(model.net_g) for model in models)
    assert torch.cosine_similarity(full, half, dim=0) > 0.99
    torch.testing.assert_close(half.norm(), full.norm(), rtol=0.05, atol=0)


@pytest.mark.usefixtures("half_on_cpu")
def test_gradients_that_are_no_numbers_at_the_smallest_scale_are_a_fault(tmp_path: Path) -> None:
    system = SYSTEMS["sparnet"]
    model = build_scaled(system, tmp_path, 1.0)
    next(model.net_g.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    system.step(model, 1)
    assert model.skipped_steps == 1


@pytest.mark.usefixtures("half_on_cpu")
@pytest.mark.parametrize("name", QUICK)
def test_resume_with_a_scale_continues_bit_for_bit(tmp_path: Path, name: str) -> None:
    system = SYSTEMS[name]
    whole = build_scaled(system, tmp_path, 2.0**17, ema_decay=0.9)
    system.step(whole, system.first)
    whole.save(0, system.first)
    system.step(whole, system.first + 1)
    options = system.options(tmp_path, amp="fp16", ema_decay=0.9)
    folder = tmp_path / "models"
    options["path"] |= {"pretrain_network_g": str(folder / f"net_g_{system.first}.pth"), "param_key_g": "params"}
    if name in GANS:
        options["path"]["pretrain_network_d"] = str(folder / f"net_d_{system.first}.pth")
    resumed = type(whole)(options)
    saved = torch.load(tmp_path / f"states/{system.first}.state", weights_only=True)
    resumed.resume_training(saved)
    system.step(resumed, system.first + 1)
    ours, theirs = state(whole), state(resumed)
    assert whole.precision.state() == resumed.precision.state()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_state_without_a_scale_is_readable() -> None:
    precision = Precision(None, torch.device("cpu"))
    precision.load_state({})
    precision.load_state({"scale": 3.0, **STATE})
    assert precision.state() == {}


def test_float16_on_a_cpu_is_refused_where_torch_has_it_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.amp, "GradScaler", raising=False)
    with pytest.raises(ValueError, match=r"train.amp must be bf16 or ~ on a CPU with PyTorch .*, got 'fp16'"):
        Precision("fp16", torch.device("cpu"))


# Limits of gradients


@pytest.mark.parametrize("amp", [None, "bf16"])
def test_gradients_are_shortened_together(tmp_path: Path, amp: str | None) -> None:
    system = SYSTEMS["sparnethd"]
    models = [system.build(tmp_path, clip_grad_norm=limit, amp=amp) for limit in (0, 1e-2)]
    copy_networks(*models)
    for model in models:
        system.step(model, 1)
    free, cut = (gradient(model.net_g) for model in models)
    assert float(cut.norm()) == pytest.approx(1e-2, rel=1e-3)
    torch.testing.assert_close(cut / cut.norm(), free / free.norm())
    assert torch.equal(*(gradient(model.net_d) for model in models))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"amp": "fp8"}, "train.amp must be bf16 or fp16, or ~ for float32, got 'fp8'"),
        ({"amp": True}, "train.amp must be bf16 or fp16, or ~ for float32, got True"),
        ({"clip_grad_norm": -1}, r"train.clip_grad_norm must be 0 \(off\) or more, got -1"),
        ({"clip_grad_norm": float("nan")}, r"train.clip_grad_norm must be 0 \(off\) or more, got nan"),
        ({"clip_grad_norm": 1, "clip_grad_value": 1}, "clip_grad_norm must be 0 beside clip_grad_value, got 1. Choose"),
        ({"nonfinite_limit": -1}, "train.nonfinite_limit must be at least 0, got -1"),
        ({"nonfinite_limit": 1.5}, "train.nonfinite_limit must be an integer, got 1.5"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, train: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SYSTEMS["sparnet"].build(tmp_path, **train)


# No waiting


class _OnGpu(nn.Parameter):
    is_cuda = True


@needs_fused_cpu
@pytest.mark.parametrize(
    ("kind", "settings", "fused"),
    [
        (_OnGpu, {}, True),
        (_OnGpu, {"fused": False}, False),
        (_OnGpu, {"foreach": True}, None),
        (nn.Parameter, {}, None),
    ],
)
def test_optimisers_on_a_gpu_are_fused_unless_the_options_choose(
    kind: type, settings: dict[str, Any], fused: bool | None
) -> None:
    optimizer = build_optimizer("Adam", (kind(torch.ones(2)) for _ in range(2)), 1e-3, **settings)
    assert optimizer.param_groups[0]["fused"] == fused


@needs_fused_cpu
@pytest.mark.parametrize(
    ("name", "train"),
    [
        *((name, {"clip_grad_norm": 1.0, "amp": "bf16"}) for name in SYSTEMS),
        *((name, {"clip_grad_value": 1.0, "amp": "fp16"}) for name in QUICK if hasattr(torch.amp, "GradScaler")),
    ],
    ids=str,
)
def test_iteration_does_not_wait_for_the_device(tmp_path: Path, name: str, train: dict[str, Any]) -> None:
    system = SYSTEMS[name]
    model = system.build(tmp_path, **fused(name, ema_decay=0.9, **train))
    model.guard.deferred = True  # as on a GPU
    system.step(model, system.first)
    batch = system.batch(0)
    with watched_waits() as waits:
        model.feed_data(batch)
        model.optimize_parameters(system.first + 1)
    assert len(waits) == 1  # the verdict on the iteration before, which has arrived
    assert "tolist" in waits[0]
    assert "finite.py" in waits[0]
