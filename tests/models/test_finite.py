"""Losses and gradients that are no numbers: what is left out, what is written, and when a run ends."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facesr_plugin.checkpoints import read_checkpoint
from facesr_plugin.models.finite import FiniteGuard, gradient_norm
from helpers.rank_spoilt import rank_spoilt
from helpers.ranks import run_ranks
from helpers.runs import same
from helpers.tiny_systems import FUSED, FUSED_ON_CPU, GANS, SYSTEMS, TinySystem, copy_networks, state


@pytest.fixture(params=["at once", "deferred"])
def fused(request: pytest.FixtureRequest) -> bool:
    """Whether everything is decided on the device and read an iteration later, as on a GPU."""
    deferred = request.param == "deferred"
    if deferred and not FUSED_ON_CPU:
        pytest.skip("fused optimisers on the CPU came with 2.4")
    return deferred


def build(system: TinySystem, folder: Path, fused: bool = False, **train: Any) -> Any:
    optimizers = ("optim_g", "optim_d") if system in [SYSTEMS[name] for name in GANS] else ("optim_g",)
    chosen = {name: {**FUSED, "fused": fused} for name in optimizers}
    model = system.build(folder, **{"ema_decay": 0.9, **chosen, **train})
    model.guard.deferred = fused
    return model


def spoilt(system: TinySystem, seed: int) -> dict[str, Any]:
    """Images of a batch that are no numbers."""
    return {
        name: torch.full_like(value, torch.nan) for name, value in system.batch(seed).items() if name in ("lq", "gt")
    }


# What is left out


@pytest.mark.parametrize("name", [name for name in SYSTEMS if not name.startswith("dic")])
def test_spoilt_iteration_leaves_no_trace_but_a_file(tmp_path: Path, name: str, fused: bool) -> None:
    system, first = SYSTEMS[name], SYSTEMS[name].first
    model, sound = build(system, tmp_path, fused), build(system, tmp_path / "sound", fused)
    copy_networks(model, sound)
    for one in (model, sound):
        system.step(one, first)
    before = state(model)
    system.step(model, first + 1, **spoilt(system, first + 1))
    assert same(state(model), before)
    for one in (model, sound):
        system.step(one, first + 2)
    assert same(state(model), state(sound))
    assert not same(state(model), before)
    model.get_current_log()
    assert (model.skipped_steps, model.guard.in_a_row) == (1, 0)
    assert (sound.skipped_steps, (tmp_path / "sound/faults").exists()) == (0, False)
    found = read_checkpoint(tmp_path / f"faults/nonfinite_{first + 1}_rank0.pth")
    for net, weights in found["networks"].items():
        assert same(weights, {key.removeprefix(f"{net}."): v for key, v in before.items() if key.startswith(f"{net}.")})
    assert found["optimizers"][0]["state"][0]["step"] == 1


@pytest.mark.parametrize(("name", "steps"), [("sparnethd", 1), ("dicgan", 2), ("progressive", 1)], ids=str)
def test_spoilt_discriminator_leaves_no_trace_in_the_generator(
    tmp_path: Path, name: str, steps: int, fused: bool
) -> None:
    system, first = SYSTEMS[name], SYSTEMS[name].first
    model = build(system, tmp_path, fused, **({"d_steps": steps} if name == "dicgan" else {}))
    system.step(model, first)
    before = state(model)
    factors = iter([1.0] * (steps - 1) + [torch.nan])
    moved: list[bool] = []

    def spoil(gradient: Tensor) -> Tensor:
        moved.append(not torch.equal(state(model)[generator], before[generator]))
        return gradient * next(factors)

    generator = f"net_g.{next(model.net_g.named_parameters())[0]}"
    hook = list(model.net_d.parameters())[-1].register_hook(spoil)
    system.step(model, first + 1)
    hook.remove()
    model.guard.look()
    assert moved == [name == "progressive"] * steps  # the others compute all gradients first
    assert same(state(model), before)
    assert model.skipped_steps == 1


@pytest.mark.process
def test_ranks_leave_out_the_same_iteration(tmp_path: Path) -> None:
    expected = {"skipped": 1, "in_a_row": 0, "as if it were not": True}
    assert run_ranks(2, tmp_path / "ranks", rank_spoilt, tmp_path) == [expected] * 2
    files = sorted(path.name for path in (tmp_path / "spoilt/faults").iterdir())
    assert files == ["nonfinite_2_rank0.pth", "nonfinite_2_rank1.pth"]


def test_first_iteration_may_be_spoilt(tmp_path: Path, fused: bool) -> None:
    system = SYSTEMS["sparnethd"]
    model, sound = build(system, tmp_path, fused), build(system, tmp_path / "sound", fused)
    copy_networks(model, sound)
    system.step(model, 1, **spoilt(system, 1))
    for one in (model, sound):
        system.step(one, 2)
    assert same(state(model), state(sound))


def test_gradients_that_are_no_numbers_are_left_out_though_the_loss_is_one(tmp_path: Path, fused: bool) -> None:
    system = SYSTEMS["sparnet"]
    model = build(system, tmp_path, fused)
    before = state(model)
    hook = next(model.net_g.parameters()).register_hook(lambda gradient: gradient + torch.inf)
    system.step(model, 1)
    hook.remove()
    log = model.get_current_log()
    assert log["l_g_pixel"] < 10
    assert model.skipped_steps == 1
    after = state(model)
    assert same({key: after[key] for key in before}, before)


# What is written and said


def test_file_repeats_the_iteration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("basicsr").propagate = True
    system = SYSTEMS["dic"]
    model = build(system, tmp_path)
    batch = system.batch(5) | spoilt(system, 5)
    model.feed_data(batch)
    model.optimize_parameters(5)
    path = tmp_path / "faults/nonfinite_5_rank0.pth"
    assert "Iteration 5 is left out: a loss or gradient is no number (1 in a row, 1 in all). " in caplog.text
    assert f"Batch and state are in {path}." in caplog.text
    found = read_checkpoint(path)
    assert (found["iter"], found["rank"], found["manual_seed"]) == (5, 0, 7)
    assert found["batch"]["lq_path"] == batch["lq_path"]
    assert torch.equal(found["batch"]["landmarks"], batch["landmarks"])
    assert set(found["losses"]) == {"l_g_pixel", "l_g_align"}
    other = build(system, tmp_path / "other")
    for net, weights in found["networks"].items():
        getattr(other, net).load_state_dict(weights)
    other.feed_data(found["batch"])
    other.optimize_parameters(found["iter"])
    assert other.skipped_steps == 1


def test_only_the_first_files_are_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("basicsr").propagate = True
    system = SYSTEMS["sparnet"]
    model = build(system, tmp_path)
    for iteration in range(1, 6):
        system.step(model, iteration, **spoilt(system, iteration))
    assert sorted(path.name for path in (tmp_path / "faults").iterdir()) == [
        f"nonfinite_{iteration}_rank0.pth" for iteration in (1, 2, 3)
    ]
    last = tmp_path / "faults/nonfinite_3_rank0.pth"
    assert f"(5 in a row, 5 in all). Batch and state are in {last}, of the last one that was written." in caplog.text


# When a run ends


@pytest.mark.parametrize("limit", [0, 2])
def test_more_than_the_limit_in_a_row_ends_the_run(tmp_path: Path, limit: int, fused: bool) -> None:
    system = SYSTEMS["jasrnet"]
    model = build(system, tmp_path, fused, nonfinite_limit=limit)
    for iteration in range(1, 1 + limit):
        system.step(model, iteration, **spoilt(system, iteration))
    system.step(model, 5)
    for iteration in range(11, 12 + limit - (not fused)):
        system.step(model, iteration, **spoilt(system, iteration))
    message = (
        f"losses and gradients must be finite, got others in {limit + 1} iterations in a row .train.nonfinite_limit: "
        f"{limit}.: the training has exploded, or its data hold no numbers. Lower train.optim_g.lr, or set .*faults"
    )
    with pytest.raises(ValueError, match=message):
        system.step(model, 20, **spoilt(system, 20))


def test_counts_go_on_in_a_resumed_run(tmp_path: Path, fused: bool, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("basicsr").propagate = True
    system = SYSTEMS["sparnet"]
    model = build(system, tmp_path, fused, nonfinite_limit=2)
    for iteration in (1, 3, 4):
        system.step(model, iteration, **spoilt(system, iteration))
        if iteration == 1:
            system.step(model, 2)
    model.save(0, 4)
    saved = read_checkpoint(tmp_path / "states/4.state")
    assert (saved["facesr"]["skipped"], saved["facesr"]["skipped_in_all"]) == (2, 3)
    resumed = build(system, tmp_path / "resumed", nonfinite_limit=3)
    resumed.resume_training(saved)
    assert resumed.skipped_steps == 3
    system.step(resumed, 5, **spoilt(system, 5))
    own = tmp_path / "resumed/faults/nonfinite_5_rank0.pth"
    assert f"(3 in a row, 4 in all). Batch and state are in {own}.\n" in caplog.text
    with pytest.raises(ValueError, match="got others in 4 iterations in a row"):
        system.step(resumed, 6, **spoilt(system, 6))


@pytest.mark.parametrize(("in_a_row", "total"), [(None, 0), (2, 2)])
def test_state_that_does_not_count_them_is_readable(tmp_path: Path, in_a_row: int | None, total: int) -> None:
    system = SYSTEMS["sparnet"]
    model = build(system, tmp_path)
    system.step(model, 1)
    model.save(0, 1)
    saved = read_checkpoint(tmp_path / "states/1.state")
    for key in ("skipped", "skipped_in_all", "scaler"):
        del saved["facesr"][key]
    if in_a_row:
        saved["facesr"]["skipped"] = in_a_row
    model.resume_training(saved)
    assert (model.guard.in_a_row, model.guard.total) == (in_a_row or 0, total)


# The parts


def guard() -> FiniteGuard:
    made = FiniteGuard(0, [], torch.device("cpu"), lambda _: Path(), "")
    made.begin([])
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sound_loss_keeps_its_bits(dtype: torch.dtype) -> None:
    loss = torch.tensor(0.1, dtype=dtype, requires_grad=True)
    watched = guard().spoil(loss)
    watched.backward()
    assert torch.equal(watched.detach(), loss.detach())
    assert torch.equal(loss.grad, torch.ones((), dtype=dtype))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_loss_that_is_no_number_has_no_finite_gradient(value: float) -> None:
    weight = torch.ones(3, requires_grad=True)
    guard().spoil(weight.sum() + value).backward()  # its own gradient would be 1
    assert weight.grad.isnan().all()


def test_gradient_norm_is_that_of_all_values() -> None:
    gradients: list[Tensor] = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    assert float(gradient_norm(gradients)) == 5.0
