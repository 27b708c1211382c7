"""Values over a data set: by result, over ranks, of faces and of sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facesr_plugin.metrics import fid_metric
from facesr_plugin.models.tally import Tally, Value, build_metrics

SECTIONS = {"psnr": {"type": "calculate_psnr", "crop_border": 0}, "nme": {"type": "calculate_nme", "normaliser": "box"}}
CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)


def batch(size: int) -> dict[str, np.ndarray]:
    points = RANDOM.uniform(0, 16, (2, size, 7, 2))
    images = RANDOM.integers(0, 256, (2, size, 16, 16, 3), np.uint8)
    return {"img": images[0], "img2": images[1], "points": points[0], "reference": points[1]}


BATCHES = [{"": batch(size), "step1": batch(size)} for size in (2, 2, 2, 1)]


def tally(numbers: range, sections: dict = SECTIONS) -> Tally:
    made = Tally(build_metrics(sections, CPU))
    for number in numbers:
        made.add(number, BATCHES[number])
    return made


def test_values_are_named_after_metric_and_result() -> None:
    assert list(tally(range(1)).values()) == ["psnr", "psnr_step1", "nme", "nme_step1"]


def test_direction_is_the_metrics_own() -> None:
    values = tally(range(1)).values()
    assert (values["psnr"].better, values["nme_step1"].better) == ("higher", "lower")


@pytest.mark.parametrize("count", [2, 3, 6])
def test_ranks_together_measure_what_one_does(count: int) -> None:
    ranks = [tally(range(rank, len(BATCHES), count)) for rank in range(count)]
    for other in ranks[1:]:
        ranks[0].merge(other.state())
    expected, found = tally(range(len(BATCHES))).values(), ranks[0].values()
    assert found.keys() == expected.keys()
    assert found["psnr"] == expected["psnr"]  # to the last bit: added in the order of batches
    assert all(found[name].value == pytest.approx(expected[name].value, rel=1e-12) for name in expected)


def test_fid_of_two_ranks_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    monkeypatch.setattr(fid_metric, "NUM_FEATURES", 12)
    monkeypatch.setattr(fid_metric, "_load_network", lambda weights: network)
    sections = {"fid": {"type": "calculate_fid"}}
    one, other = (tally(range(rank, 4, 2), sections) for rank in range(2))
    one.merge(other.state())
    sides = [np.concatenate([results[""][key] for results in BATCHES]) for key in ("img", "img2")]
    assert one.values()["fid"] == Value(pytest.approx(fid_metric.calculate_fid(*sides), rel=1e-9), "lower")


def test_metric_of_a_set_that_is_too_small_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fid_metric, "NUM_FEATURES", 768)
    monkeypatch.setattr(fid_metric, "_load_network", lambda weights: torch.nn.Flatten())
    made = tally(range(3, 4), {"fid": {"type": "calculate_fid"}})
    with pytest.raises(ValueError, match=r"val\.metrics\.fid: .* needs 2 images or more, got 1"):
        made.values()


def test_sets_begin_empty_in_each_validation() -> None:
    metrics = build_metrics(SECTIONS, CPU)
    values = []
    for _ in range(2):
        made = Tally(metrics)
        made.add(0, BATCHES[0])
        values.append(made.values())
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        (
            {"type": "calculate_lpps"},
            ValueError,
            "val.metrics.m: type of a metric must be .*, got 'calculate_lpps'",
        ),
        ({"type": "calculate_nme", "limit": 1}, ValueError, "val.metrics.m: .*limit"),
        ({"type": "calculate_fid", "weights": "no.pth"}, FileNotFoundError, "val.metrics.m: .*no.pth"),
    ],
)
def test_metric_that_cannot_be_built_is_named(section: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_metrics({"m": section}, CPU)


def test_metric_with_an_empty_section_is_left_out() -> None:
    assert list(build_metrics(SECTIONS | {"nme": None}, CPU)) == ["psnr"]
