"""Two and three ranks on the CPU: gradients, phases that change on all ranks at once, continuing, what is logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import rank_runs
from helpers.rank_runs import Moment, build, gradients, rank_course, rank_gradients, rank_halves, rank_means, step
from helpers.ranks import run_ranks

pytestmark = pytest.mark.process

GAN = {"type": "WGANGPLoss"}


@pytest.fixture
def in_float64() -> None:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def gradients_of_ranks(system: str, count: int, folder: Path, **train: Any) -> dict[str, Tensor]:
    """Gradients of an iteration on several ranks, which all have the same ones."""
    first, *others = run_ranks(count, folder, rank_gradients, system, folder, train)
    for other in others:
        assert other.keys() == first.keys()
        assert all(torch.equal(other[key], first[key]) for key in first)
    return first


def gradients_alone(system: str, folder: Path, rank: int, count: int) -> dict[str, Tensor]:
    """Gradients of an iteration of one process on the part of a rank."""
    model = build(system, folder, rank, count, dist=False)
    step(model, system, 1, rank, count)
    return gradients(model)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to 1e-9 of the largest value of each parameter."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-9 * float(value.abs().max()) + 1e-30)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("system", ["dic", "dic_hourglass", "jasrnet", "sparnethd"])
def test_gradient_is_that_of_one_process_with_all_batches(
    system: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_float64: None
) -> None:
    found = gradients_of_ranks(system, count, tmp_path / "ranks")
    monkeypatch.setattr(rank_runs, "SHARE", count * rank_runs.SHARE)
    assert_close(found, gradients_alone(system, tmp_path / "alone", 0, 1))


@pytest.mark.parametrize(("system", "count"), [("sparnet", 3), ("progressive", 2), ("fan_distill", 2)])
def test_gradient_is_the_mean_of_processes_with_their_own_statistics(
    system: str, count: int, tmp_path: Path, in_float64: None
) -> None:
    """``progressive``: of the generator; the critic judges what each process makes after a step of its own."""
    found = gradients_of_ranks(system, count, tmp_path / "ranks")
    alone = [gradients_alone(system, tmp_path / "alone", rank, count) for rank in range(count)]
    means = {key: sum(one[key] for one in alone) / count for key in alone[0] if key.startswith("net_g.")}
    assert_close({key: value for key, value in found.items() if key.startswith("net_g.")}, means)


def test_gradient_in_parts_is_exchanged_with_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_float64: None
) -> None:
    found = gradients_of_ranks("dic", 2, tmp_path / "ranks", accumulate=2)
    monkeypatch.setattr(rank_runs, "SHARE", 2 * rank_runs.SHARE)
    assert_close(found, gradients_alone("dic", tmp_path / "alone", 0, 1))


def courses(count: int, folder: Path, system: str, iterations: int, **train: Any) -> list[Moment]:
    """What happened on all ranks alike."""
    first, *others = run_ranks(count, folder, rank_course, system, folder, iterations, train)
    assert all(other == first for other in others)
    assert len({moment.digest for moment in first}) == iterations
    return first


def test_progressive_stages_change_on_all_ranks_at_once(tmp_path: Path) -> None:
    course = courses(3, tmp_path, "progressive", 8, ema_decay=0.5)
    assert [moment.log["step"] for moment in course] == [1, 1, 2, 2, 2, 3, 3, 3]
    assert [sorted({"l_d_penalty", "l_g_heatmap"} & set(moment.log)) for moment in course] == (
        [["l_d_penalty"]] * 2 + [["l_d_penalty", "l_g_heatmap"]] * 3 + [[]] * 3
    )


def test_dic_releases_its_hourglass_on_all_ranks_at_once(tmp_path: Path) -> None:
    course = courses(2, tmp_path, "dic", 4, hourglass_freeze_iter=2)
    assert ["net_g.hourglass" in moment.parts for moment in course] == [False, False, True, True]


def test_dicgan_starts_its_discriminator_on_all_ranks_at_once(tmp_path: Path) -> None:
    course = courses(2, tmp_path, "dicgan", 3, gan_start_iter=1, d_steps=2)
    assert ["l_d_real" in moment.log for moment in course] == [False, True, True]


@pytest.mark.parametrize("idle", ["landmark", "pixel"])
def test_one_head_of_jasrnet_is_trained_alone(idle: str, tmp_path: Path) -> None:
    course = courses(2, tmp_path, "jasrnet", 2, **{f"{idle}_opt": None})
    parts = {"net_g.sr_tail", "net_g.landmark_body"} & course[-1].parts
    assert parts == {"net_g.sr_tail" if idle == "landmark" else "net_g.landmark_body"}


@pytest.mark.parametrize("train", [{}, {"gan_opt": GAN}])
def test_sparnethd_stays_in_step(train: dict[str, Any], tmp_path: Path) -> None:
    course = courses(2, tmp_path, "sparnethd", 3, accumulate=2, **train)
    assert ("l_d_penalty" in course[-1].log) == bool(train)


@pytest.mark.parametrize("system", ["sparnet", "progressive"])
def test_continued_run_of_three_ranks_has_the_bits_of_the_unbroken_one(system: str, tmp_path: Path) -> None:
    """DDP fills its buckets anew after the first iteration, and torch's sum of three depends on the place there."""
    for whole, halves in run_ranks(3, tmp_path, rank_halves, system, tmp_path):
        assert halves == whole


def test_losses_are_exchanged_when_they_are_logged_in_whatever_order(tmp_path: Path) -> None:
    found = run_ranks(2, tmp_path, rank_means, tmp_path)
    assert [dict(means) for means, _ in found] == [{"first": 10.0, "second": 11.0}] * 2
    assert [silent for _, silent in found] == [0, 0]
