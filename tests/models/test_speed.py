"""Options that change how fast a training computes: the same numbers, and what cannot work is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.models import build_model
from torch._dynamo.utils import counters

from facesr_plugin.checkpoints import read_checkpoint
from facesr_plugin.models import speed
from facesr_plugin.models.speed import find_speed_problems, set_tf32
from helpers.options import hd_model_options, model_options

needs_compiler = pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="train.compile needs torch 2.6")
EAGER = {"backend": "eager"}


def batch(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gt = torch.randint(0, 256, (2, 3, 32, 32), generator=generator) / 255
    return {"lq": gt, "gt": gt.flip(3)}


def build(options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return build_model(options)


def train(model: Any, *iterations: int) -> dict[str, torch.Tensor]:
    """Run iterations; return what they left in the networks."""
    for iteration in iterations:
        model.feed_data(batch(iteration))
        model.optimize_parameters(iteration)
    names = [name for name in ("net_g", "net_g_ema", "net_d") if hasattr(model, name)]
    return {f"{name}.{key}": v.clone() for name in names for key, v in getattr(model, name).state_dict().items()}


def problems(folder: Path, **changes: Any) -> list[str]:
    """Problems of options that differ by ``changes``, in ``train`` where they are none of the top."""
    options = {"datasets": {}, **model_options(folder)}
    for key, value in changes.items():
        section = options if key in options else options["train"]
        section[key] = value
    return list(find_speed_problems(options))


# torch.compile


@needs_compiler
@pytest.mark.parametrize(
    ("make", "backend"), [(model_options, "aot_eager"), (hd_model_options, "eager")], ids=["sparnet", "sparnethd"]
)
def test_compiled_training_gives_the_same_numbers(tmp_path: Path, make: Callable, backend: str) -> None:
    plain = train(build(make(tmp_path)), 1, 2)
    torch._dynamo.reset()
    counters.clear()
    compiled = train(build(make(tmp_path, compile={"backend": backend})), 1, 2)
    assert counters["stats"]["unique_graphs"] > 1  # more than the attempt before the start
    assert plain.keys() == compiled.keys()
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-4, atol=1e-6)


@needs_compiler
def test_average_and_files_are_those_of_the_plain_network(tmp_path: Path) -> None:
    model = build(model_options(tmp_path, ema_decay=0.9, compile=EAGER))
    assert model.net_g._compiled_call_impl is not None
    assert model.net_g_ema._compiled_call_impl is None
    model.save(0, 1)
    assert read_checkpoint(tmp_path / "models/net_g_1.pth")["params"].keys() == model.net_g_ema.state_dict().keys()


@needs_compiler
def test_validation_runs_the_network_as_it_is_written(tmp_path: Path) -> None:
    model = build(model_options(tmp_path, compile=EAGER))
    counters.clear()
    model._validation.run = lambda *_: model.net_g(torch.zeros(1, 3, 32, 32))
    model.nondist_validation([], 1, None, False)
    assert not counters["stats"]


@needs_compiler
def test_discriminator_with_a_penalty_of_its_gradient_is_not_compiled(tmp_path: Path) -> None:
    found = {}
    for gan_opt in ({"type": "SPARNetGANLoss"}, {"type": "WGANGPLoss"}):
        model = build(hd_model_options(tmp_path, compile=EAGER, gan_opt=gan_opt))
        found[gan_opt["type"]] = model.net_d._compiled_call_impl is not None
    assert found == {"SPARNetGANLoss": True, "WGANGPLoss": False}


@needs_compiler
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compile": "yes"}, "train.compile must be true, false or a section of torch.compile's arguments, got 'yes'"),
        ({"compile": {"backnd": "eager"}}, "train.compile has no option 'backnd', did you mean 'backend'"),
        ({"compile": {"backend": "eagr"}}, "train.compile: torch cannot compile here with {'backend': 'eagr'}"),
        ({"compile": EAGER, "num_gpu": 2, "dist": False}, "train.compile needs one process per GPU"),
        (
            {"compile": EAGER, "network_g": {"checkpointing": True}},
            "network_g.checkpointing must be false with train.c",
        ),
    ],
)
def test_compilations_that_cannot_work_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (problem,) = problems(tmp_path, **changes)
    assert problem.startswith(message)


@needs_compiler
def test_missing_compiler_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(ValueError, match=r"cannot compile here with its defaults: No working C\+\+ compiler found"):
        build(model_options(tmp_path, compile=True))


@needs_compiler
def test_graphs_of_cuda_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_device", lambda _: "cuda")
    monkeypatch.setattr(speed, "_find_optimizer_problems", lambda _: ())
    (problem,) = problems(tmp_path, compile={"mode": "max-autotune"})
    assert problem.endswith("Set mode: max-autotune-no-cudagraphs.")


def test_compilation_needs_a_newer_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.compiler, "set_stance", raising=False)
    (problem,) = problems(tmp_path, compile=True)
    assert "it needs 2.6 or newer" in problem


# Memory order


def test_channels_last_reaches_all_networks_that_learn(tmp_path: Path) -> None:
    model = build(hd_model_options(tmp_path, channels_last=True))
    for net in (model.net_g, model.net_g_ema, model.net_d):
        weights = [weight for weight in net.parameters() if weight.dim() == 4 and min(weight.shape[1:3]) > 1]
        assert weights
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


# TF32


@pytest.fixture
def tf32() -> Iterator[Callable[[], tuple[bool, bool]]]:
    """Read both switches; put them back afterwards."""

    def read() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = read()
    yield read
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_training_computes_in_float32_unless_it_is_told_otherwise(tmp_path: Path, tf32: Callable) -> None:
    set_tf32(True)
    build(model_options(tmp_path))
    assert tf32() == (False, False)
    build(model_options(tmp_path, tf32=True))
    assert tf32() == (True, True)


# Optimisers


def adam(**way: bool) -> dict[str, Any]:
    return {"optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99], **way}}


def has_fused() -> bool:
    try:
        torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], fused=True)
    except RuntimeError:
        return False
    return True


WAYS = [{"foreach": True}, pytest.param({"fused": True}, marks=pytest.mark.skipif(not has_fused(), reason="on a GPU"))]


@pytest.mark.parametrize("way", WAYS)
def test_optimisers_ways_of_computing_differ_by_rounding(tmp_path: Path, way: dict[str, bool]) -> None:
    expected = train(build(model_options(tmp_path, **adam(foreach=False))), 1)
    for key, value in train(build(model_options(tmp_path, **adam(**way))), 1).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-7)  # a step moves a weight by 1e-3


@pytest.mark.parametrize("way", WAYS)
def test_resume_with_them_continues_bit_for_bit(tmp_path: Path, way: dict[str, bool]) -> None:
    whole = build(model_options(tmp_path, **adam(**way)))
    train(whole, 1, 2)
    whole.save(0, 2)
    expected = train(whole, 3, 4)
    options = model_options(tmp_path, **adam(**way))
    options["path"]["pretrain_network_g"] = str(tmp_path / "models/net_g_2.pth")
    resumed = build(options)
    resumed.resume_training(read_checkpoint(tmp_path / "states/2.state"))
    found = train(resumed, 3, 4)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_state_does_not_change_the_way_of_the_option_file(tmp_path: Path) -> None:
    model = build(model_options(tmp_path, **adam(foreach=True)))
    train(model, 1)
    other = build(model_options(tmp_path, **adam(foreach=False)))
    other.optimizer_g.load_state_dict(model.optimizer_g.state_dict())
    assert other.optimizer_g.param_groups[0]["foreach"] is False


def test_ways_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, **adam(fused=True, foreach=True))
    assert problem.startswith("train.optim_g: optimizer Adam: ")
    assert problem.endswith("Remove fused")


# Flags and loaders


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tf32": "on"}, "train.tf32 must be true or false, got 'on'"),
        ({"channels_last": 1}, "train.channels_last must be true or false, got 1"),
        (
            {"datasets": {"train": {"prefetch_mode": "gpu"}}},
            "datasets.train.prefetch_mode must be cpu, cuda or ~, got 'gpu'",
        ),
        (
            {"datasets": {"train": {"prefetch_mode": "cuda", "pin_memory": True}}},
            "datasets.train.prefetch_mode must be cpu or ~ without a GPU, got 'cuda'",
        ),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert problems(tmp_path, **changes) == [message]


def test_prefetching_to_the_gpu_needs_pinned_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_device", lambda _: "cuda")
    monkeypatch.setattr(speed, "_find_optimizer_problems", lambda _: ())
    (problem,) = problems(tmp_path, datasets={"train": {"prefetch_mode": "cuda"}})
    assert problem.startswith("datasets.train.pin_memory must be true for prefetch_mode cuda")
    assert not problems(tmp_path, datasets={"train": {"prefetch_mode": "cuda", "pin_memory": True}})
