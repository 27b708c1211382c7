"""The stages of a progressive training: places in the schedule, and lists that do not fit."""

from __future__ import annotations

import re
from typing import Any

import pytest

from facesr_plugin.models.stages import read_schedule


def options(*changes: dict[str, Any], **train: Any) -> dict[str, Any]:
    """Three stages of 4, 4 and 8 iterations, each with some changed values."""
    stages = [
        {"scale": 2, "iters": 4, "weights": {"pixel": 10, "gan": 1}},
        {"scale": 4, "iters": 4, "fade_iters": 2, "weights": {"pixel": 10, "gan": 0, "heatmap": 5.0}},
        {"scale": 8, "iters": 8, "fade_iters": 4, "weights": {"pixel": 10, "gan": 0.1}},
    ]
    for stage, change in zip(stages, changes, strict=False):
        stage |= change
    sections = {f"{name}_opt": {"type": "L1Loss"} for name in ("pixel", "gan", "heatmap")}
    return {"scale": 8, "train": {"total_iter": 16, "stages": stages, "perceptual_opt": None, **sections, **train}}


@pytest.mark.parametrize(
    ("iteration", "step", "alpha"),
    [(1, 1, 1.0), (4, 1, 1.0), (5, 2, 0.0), (6, 2, 0.5), (7, 2, 1.0), (9, 3, 0.0), (12, 3, 0.75), (13, 3, 1.0)],
)
def test_place_follows_from_the_iteration(iteration: int, step: int, alpha: float) -> None:
    place = read_schedule(options()).at(iteration)
    assert (place.stage.step, place.alpha) == (step, alpha)


def test_iterations_after_the_last_one_are_in_its_place() -> None:
    schedule = read_schedule(options())
    assert schedule.at(17) == schedule.at(1000) == schedule.at(16)


def test_losses_of_weight_zero_are_not_in_a_stage() -> None:
    assert [list(stage.weights) for stage in read_schedule(options()).stages] == [
        ["pixel", "gan"],
        ["pixel", "heatmap"],
        ["pixel", "gan"],
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (options(total_iter=20), "total_iter must be the sum of the stages' iters, 4 + 4 + 8 = 16, got 20"),
        (options({}, {}, {"iters": 4}), "total_iter must be the sum of the stages' iters, 4 + 4 + 4 = 12, got 16"),
        (options(stages=[]), "train.stages must be a list of at least one stage, got []"),
        (options(stages={"scale": 2}), "train.stages must be a list of at least one stage, got {'scale': 2}"),
        (options(stages=[4]), "train.stages[0] must be a section of keys, got 4"),
        (options({"scale": 3}), "train.stages[0]: scale must be one of 2, 4, 8, got 3"),
        (options({}, {"scale": 8}), "train.stages[1].scale must be 2 or 4, got 8"),
        (options({}, {}, {"scale": 2}), "train.stages[2].scale must be 4 or 8, got 2"),
        (options({"iters": 0}), "train.stages[0]: iters must be 1 or more, got 0"),
        (options({"iters": 4.5}), "train.stages[0].iters must be int, got 4.5"),
        (options({}, {"fade_iters": 5}), "train.stages[1]: fade_iters must be from 0 to iters (4), got 5"),
        (options({"iter": 4}), "train.stages[0]: unknown key 'iter', did you mean 'iters'?"),
        (options({"weights": {"pixl": 1}}), "train.stages[0].weights has no loss 'pixl', did you mean 'pixel'?"),
        (options({"weights": {"perceptual": 1}}), "train.stages[0].weights has no loss 'perceptual'"),
        (options({"weights": {"pixel": "1e-2"}}), "weights.pixel must be a number of 0 or more, got '1e-2'"),
        (options({"weights": {"pixel": -1}}), "weights.pixel must be a number of 0 or more, got -1"),
        (options({"weights": {"pixel": 0}}), "weights must name at least one loss with a weight above 0"),
        (options({}, {"weights": {"pixel": 1}}), "train.heatmap_opt must be in the weights of a stage, got it in none"),
        ({**options(), "scale": 4}, "train.stages[2].scale must be at most the file's scale (4), got 8"),
    ],
)
def test_stages_that_do_not_fit_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_schedule(changed)
