"""Rates of a resumed run: the state's where the option file is as it was, the file's where it has changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from basicsr.models import lr_scheduler

from facesr_plugin.models.option_rates import OptionRates

COSINE = {"periods": [8, 8], "restart_weights": [1, 0.5], "eta_min": 1e-6}
STEPS = {"milestones": [4, 9], "gamma": 0.5}


class Run:
    """An optimiser with BasicSR's schedule, which goes on from a state."""

    def __init__(self, lr: float, section: Mapping[str, Any] | None, **settings: Any) -> None:
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.optimizer = torch.optim.Adam([self.weight], lr, **settings)
        self.section = section
        kind = "CosineAnnealingRestartLR" if section and "periods" in section else "MultiStepRestartLR"
        self.schedulers = [getattr(lr_scheduler, kind)(self.optimizer, **section)] if section else []

    def go(self, iterations: int) -> list[float]:
        rates = []
        for _ in range(iterations):
            self.weight.grad = torch.ones(2)
            self.optimizer.step()
            for scheduler in self.schedulers:
                scheduler.step()
            rates.append(self.optimizer.param_groups[0]["lr"])
        return rates

    def resume(self, other: Run) -> list[str]:
        rates = OptionRates([self.optimizer], self.schedulers, self.section)
        self.optimizer.load_state_dict(other.optimizer.state_dict())
        for own, theirs in zip(self.schedulers, other.schedulers, strict=True):
            own.load_state_dict({key: dict(v) if isinstance(v, dict) else v for key, v in theirs.state_dict().items()})
        return rates.apply()


@pytest.mark.parametrize("section", [None, STEPS, COSINE])
def test_unchanged_file_leaves_the_state_as_it_is(section: Mapping | None) -> None:
    whole, first, second = (Run(1e-3, section, betas=(0.5, 0.9)) for _ in range(3))
    expected = whole.go(12)
    assert first.go(5) == expected[:5]
    assert second.resume(first) == []
    assert second.go(7) == expected[5:]


@pytest.mark.parametrize("section", [None, STEPS, COSINE])
def test_new_rate_counts_from_where_the_run_goes_on(section: Mapping | None) -> None:
    expected = Run(1e-5, section).go(12)
    first, second = Run(1e-3, section), Run(1e-5, section)
    first.go(5)
    assert second.resume(first) == ["train.optim_g.lr 1e-05 (it was 0.001)"]
    assert second.optimizer.param_groups[0]["lr"] == expected[4]
    assert second.go(7) == expected[5:]


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        (STEPS, {**STEPS, "milestones": [3, 9, 9]}, "train.scheduler.milestones [3, 9, 9] (it was [4, 9])"),
        (STEPS, {**STEPS, "gamma": 0.1}, "train.scheduler.gamma 0.1 (it was 0.5)"),
        (COSINE, {**COSINE, "periods": [4, 20]}, "train.scheduler.periods [4, 20] (it was [8, 8])"),
    ],
)
def test_new_schedule_counts_from_the_first_iteration(old: Mapping, new: Mapping, change: str) -> None:
    expected = Run(1e-3, new).go(20)
    first, second = Run(1e-3, old), Run(1e-3, new)
    first.go(5)
    assert second.resume(first) == [change]
    assert second.go(15) == expected[5:]


def test_longer_schedule_lets_a_finished_run_go_on() -> None:
    first, second = Run(1e-3, COSINE), Run(1e-3, {**COSINE, "periods": [8, 30]})
    first.go(16)
    second.resume(first)
    assert len(second.go(10)) == 10


def test_new_settings_of_the_optimiser_count() -> None:
    first, second = Run(1e-3, STEPS, weight_decay=0.1), Run(1e-3, STEPS, betas=(0.5, 0.99))
    first.go(3)
    assert second.resume(first) == [
        "train.optim_g.betas [0.5, 0.99] (it was [0.9, 0.999])",
        "train.optim_g.weight_decay 0 (it was 0.1)",
    ]
    assert second.optimizer.param_groups[0]["betas"] == (0.5, 0.99)
    assert second.optimizer.state[second.weight]["step"] == 3
