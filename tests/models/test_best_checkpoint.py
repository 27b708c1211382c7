"""The best weights by a named metric: when they are written, what the file says, and a run that continues."""

from __future__ import annotations

from typing import Any

import pytest

from facesr_plugin.models.best_checkpoint import BestCheckpoint, check_best

VAL = {"metrics": {"psnr": {"type": "calculate_psnr"}, "nme": {"type": "calculate_nme"}, "off": None}, "best": "psnr"}


class Model:
    """Notes what is to be saved; its stages have ten iterations."""

    def __init__(self) -> None:
        self.net_g, self.now = "weights", 1
        self.saved: list[dict[str, Any]] = []

    def save_network(self, nets: list, label: str, name: str, keys: list, best: dict) -> None:
        assert (nets, label, name, keys) == (["weights"], "net_g", "best", ["params"])
        self.saved.append(best)

    def is_comparable(self, iteration: int) -> bool:
        return iteration // 10 == self.now // 10


def run(
    best: BestCheckpoint, model: Model, values: dict[int, float], better: str = "higher", name: str = "val"
) -> list:
    """Return the iterations of ``values`` at which weights were written."""
    before = len(model.saved)
    for model.now, value in values.items():
        best.update(model, name, value, better, model.now)
    return [record["iter"] for record in model.saved[before:]]


@pytest.mark.parametrize(("better", "written"), [("higher", [1, 3, 4]), ("lower", [1, 2])])
def test_weights_are_written_when_the_value_is_as_good_or_better(better: str, written: list[int]) -> None:
    assert run(BestCheckpoint(VAL), Model(), {1: 20.0, 2: 19.0, 3: 21.0, 4: 21.0, 5: float("nan")}, better) == written


def test_record_says_what_was_measured() -> None:
    model = Model()
    run(BestCheckpoint(VAL), model, {3: 20.5})
    assert model.saved == [{"metric": "psnr", "dataset": "val", "value": 20.5, "iter": 3}]


def test_no_number_is_never_the_best() -> None:
    assert run(BestCheckpoint(VAL), Model(), {1: float("nan"), 2: 1.0}) == [2]


def test_first_data_set_counts() -> None:
    best, model = BestCheckpoint(VAL), Model()
    assert run(best, model, {1: 20.0}) == [1]
    assert run(best, model, {1: 99.0}, name="other") == []


def test_values_that_cannot_be_compared_begin_anew() -> None:
    assert run(BestCheckpoint(VAL), Model(), {8: 30.0, 9: 20.0, 11: 21.0, 12: 20.0}) == [8, 11]


@pytest.mark.parametrize("name", ["ssim", "off", None])
def test_metric_that_is_not_measured_is_refused(name: str | None) -> None:
    with pytest.raises(ValueError, match=rf"^val.best must name one of val.metrics \(psnr, nme\), got {name!r}$"):
        check_best(VAL | {"best": name})


def test_best_without_metrics_is_refused() -> None:
    with pytest.raises(ValueError, match=r"val.best must name one of val.metrics \(there are none\), got 'psnr'"):
        BestCheckpoint({"best": "psnr"})
