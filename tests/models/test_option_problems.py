"""What no model can work with, found in the option file of a training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR
from basicsr.utils import registry
from torch.optim import Adam

from facesr_plugin.models import option_problems
from facesr_plugin.models.option_problems import find_model_problems, gather
from facesr_plugin.registry import MODEL_REGISTRY
from facesr_plugin.utils.option_file import load_option_file, shipped_options
from helpers.options import TINY_SPARNET

registry.MODEL_REGISTRY.get("SPARNetModel")  # BasicSR and the package know each other


@pytest.fixture
def options() -> dict[str, Any]:
    """Of a training that works, with a tiny network."""
    loaded = load_option_file(shipped_options()["sparnet"]) | {"num_gpu": 0}
    loaded["network_g"] |= TINY_SPARNET
    for section in loaded["datasets"].values():
        section["gt_size"] = 32
    return loaded


def find(options: dict[str, Any]) -> list[str]:
    return find_model_problems(options, MODEL_REGISTRY.get(options["model_type"]))


def cosine(periods: list[int]) -> dict[str, Any]:
    return {"type": "CosineAnnealingRestartLR", "periods": periods, "restart_weights": [1] * len(periods)}


def test_options_that_work_have_no_problem(options: dict[str, Any]) -> None:
    assert find(options) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda o: o["network_g"].update(type="SPARNett"),
            "network_g.type must be a registered network, got 'SPARNett'",
        ),
        (lambda o: o["network_g"].update(max_chn=1), "network_g has no option 'max_chn', did you mean 'max_ch'?"),
        (lambda o: o["network_g"].update(norm_type="xx"), "network_g: norm_type must be"),
        (
            lambda o: o["network_g"].update(res_depth=10**12),
            "network_g.res_depth must be at most 4,096, got 1,000,000,",
        ),
        (lambda o: o["network_g"].update(out_size=64), "network_g.out_size must be in_size, since faces are enlarged"),
        (lambda o: o["train"].update(totl_iter=1), "train has no option 'totl_iter', did you mean 'total_iter'?"),
        (lambda o: o["train"].update(pixel_opt=None), "train must have at least one loss section such as pixel_opt"),
        (lambda o: o["train"]["pixel_opt"].update(weight=1), "train.pixel_opt: got an unexpected keyword argument"),
        (
            lambda o: o["train"].update(gan_opt={"type": "SPARNetGANLoss", "gan_type": "x"}),
            "train.gan_opt: gan_type must be",
        ),
        (
            lambda o: o["train"].update(scheduler={"type": "StepLR"}),
            "train.scheduler.type must be one of MultiStepLR, ",
        ),
        (lambda o: o["train"].update(scheduler={"type": "MultiStepLR", "gama": 1}), "train.scheduler: "),
        (
            lambda o: o["train"].update(
                scheduler={"type": "CosineAnnealingRestartLR", "periods": [1], "restart_weights": [1, 1]}
            ),
            "train.scheduler: periods and restart_weights should have the same length.",
        ),
        (lambda o: o["train"].update(scheduler=cosine([0, 10**9])), "train.scheduler: division by zero"),
        (
            lambda o: o["train"].update(scheduler=cosine([4]), total_iter=12),
            "train.scheduler.periods must have a sum of total_iter or more, since there is no learning rate after it, "
            "got 4 with train.total_iter 12",
        ),
        (lambda o: o["train"]["optim_g"].update(momentum=1), "train.optim_g: optimizer Adam: "),
        (
            lambda o: o["train"].update(accumulate=3),
            "batch_size_per_gpu must be a multiple of train.accumulate (3), got 32",
        ),
        (lambda o: o["train"].update(accumulate=0), "train.accumulate must be at least 1, got 0"),
        (lambda o: o["train"].update(total_iter=0), "train.total_iter must be 1 or more, got 0"),
        (lambda o: o["logger"].update(print_freq=0.5), "logger.print_freq must be 1 or more, got 0.5"),
        (
            lambda o: o["logger"].update(save_checkpoint_freq=-1),
            "logger.save_checkpoint_freq must be 1 or more, got -1",
        ),
        (lambda o: o["logger"].update(print_freq=None), "logger.print_freq must be 1 or more, got None"),
        (
            lambda o: o["logger"].update(save_checkpoint_freq=None),
            "logger.save_checkpoint_freq must be 1 or more, got None",
        ),
        (lambda o: o["val"].update(val_freq=[]), "val.val_freq must be 1 or more, got []"),
        (
            lambda o: o["val"].update(val_freq=None),
            "val.val_freq must be 1 or more, got None. To train without validation remove the section val and its data",
        ),
        (lambda o: o["train"].update(total_iter=None), "train.total_iter must be 1 or more, got None"),
        (lambda o: o["train"].update(warmup_iter=None), "train.warmup_iter must be -1 or more, got None. -1 is for no"),
        (lambda o: o["train"].update(ema_decay=2), "train.ema_decay must be 0 (off) or more and less than 1, got 2"),
        (lambda o: o["train"].update(ema_decay=-0.5), "train.ema_decay must be 0 (off) or more and less than 1, got"),
        (lambda o: o["val"].update(val_freq=float("nan")), "val.val_freq must be 1 or more, got nan"),
        (
            lambda o: o["datasets"]["train"].pop("batch_size_per_gpu"),
            "batch_size_per_gpu must be a whole number from 1",
        ),
        (
            lambda o: o["datasets"]["train"].update(prefetch_mode="gpu"),
            "prefetch_mode must be cpu, cuda or ~, got 'gpu'",
        ),
        (lambda o: o["datasets"]["val"].update(gt_size=30), "datasets.val.gt_size with scale 8: faces of sparnet must"),
        (lambda o: o.update(scale=2.5), "scale must be a whole number, the factor by which faces are reduced, got 2.5"),
    ],
)
def test_problem_is_named(options: dict[str, Any], change: Callable[[dict], Any], text: str) -> None:
    change(options)
    (problem,) = find(options)
    assert text in problem


@pytest.mark.parametrize(("total", "fails"), [(13, False), (14, True)])
def test_periods_are_refused_where_the_scheduler_fails(options: dict[str, Any], total: int, fails: bool) -> None:
    options["train"] |= {"scheduler": cosine([4, 8]), "total_iter": total}
    scheduler = CosineAnnealingRestartLR(Adam([torch.zeros(1)]), [4, 8], [1, 1])
    scheduler.last_epoch = total - 1  # BasicSR steps from the second iteration on
    with pytest.raises(TypeError) if fails else nullcontext():
        scheduler.get_lr()
    assert bool(find(options)) is fails


def test_average_may_be_off(options: dict[str, Any]) -> None:
    for off in (0, None):
        options["train"]["ema_decay"] = off
        assert find(options) == []


def test_network_of_too_many_parts_is_not_built(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option_problems, "_MOST_CALLS", 100)
    assert find(options) == [
        "network_g: its numbers must be those of a network that can be trained, got millions of parts"
    ]


def test_all_problems_are_found_together(options: dict[str, Any]) -> None:
    options["train"] |= {"accumulate": 0, "total_iter": 0, "pixl_opt": {"type": "L1Loss", "x": 1}, "sync_bn": 1}
    options["network_g"]["min_ch"] = "many"
    found = "\n".join(find(options))
    assert [word in found for word in ("accumulate", "total_iter", "pixl_opt", "sync_bn", "network_g")] == [True] * 5


def test_network_without_type_hides_no_problem_of_another_one() -> None:
    options = load_option_file(shipped_options()["sparnethd"])
    del options["network_d"]["type"]
    options["network_g"]["res_depth"] = -3
    assert find(options) == [
        "network_d.type must be a registered network, got None",
        "network_g: res_depth must be at least 0, got -3",
    ]


@pytest.mark.parametrize("name", ["network_d", "optim_d", "gan_opt"])
def test_missing_parts_of_a_discriminator_are_named(name: str) -> None:
    for file in ("sparnethd", "progressive", "dicgan"):
        options = load_option_file(shipped_options()[file])
        (options if name == "network_d" else options["train"])[name] = None
        if file == "progressive":
            options["train"]["stages"] = options["train"]["stages"][:1]
        assert any(f"{name} must be in the options" in problem for problem in find(options))


def test_teacher_without_weights_is_named() -> None:
    options = load_option_file(shipped_options()["fan_distill"])
    options["path"]["ignore_resume_networks"] = None
    weights, resume = find(options)
    assert weights.startswith("path.pretrain_network_teacher must name the weights")
    assert resume.startswith("path.ignore_resume_networks must have network_teacher")


def stumble() -> list[str]:
    raise KeyError("what is missing")


def test_finder_may_stumble_over_what_another_one_reports() -> None:
    assert gather([stumble, lambda: ["one", "two"], lambda: ["one"]]) == ["one", "two"]


def test_finder_that_stumbles_alone_is_the_problem() -> None:
    assert gather([stumble, list]) == ["options must be of the right kinds, got KeyError: 'what is missing'"]
