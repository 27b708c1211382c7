import numpy as np
import pytest

from facesr_plugin.evaluation.statistics import RESAMPLES, compare, summarise

NAN, INF = float("nan"), float("inf")


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, None]


def test_summarise_gives_mean_median_and_an_interval_about_the_mean() -> None:
    values = np.random.default_rng(1).normal(30, 2, (400, 1))
    (found,) = summarise(values)
    assert (found.count, found.mean, found.median) == (400, values.mean(), np.median(values))
    half = 1.96 * values.std(ddof=1) / 20  # of the normal distribution
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_summarise_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(2).exponential(1, 60)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", random_state=3)
    (ours,) = summarise(values[:, None])
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)


def test_summarise_is_the_same_every_time_and_for_each_column_alone() -> None:
    columns = np.random.default_rng(3).random((30, 2))
    assert summarise(columns) == summarise(columns)
    apart = [*summarise(columns[:, :1]), *summarise(columns[:, 1:])]
    np.testing.assert_allclose(summarise(columns), apart, rtol=1e-12)  # sums in another order


def test_summarise_leaves_out_faces_without_value() -> None:
    (found,) = summarise(column(1, NAN, 3, NAN))
    assert (found.count, found.mean, found.median) == (2, 2, 2)
    assert 1 <= found.low <= 2 <= found.high <= 3


@pytest.mark.parametrize(
    ("values", "count", "mean"), [([NAN, NAN], 0, NAN), ([7, NAN], 1, 7), ([7], 1, 7), ([30, INF], 2, INF)]
)
def test_summarise_has_no_interval_without_two_finite_values(values: list, count: int, mean: float) -> None:
    (found,) = summarise(column(*values))
    assert found.count == count
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert (found.low, found.high) == (None, None)


def test_compare_is_narrower_than_two_intervals() -> None:
    random = np.random.default_rng(4)
    hard = random.normal(30, 5, 200)
    first, other = hard + random.normal(0.5, 0.2, 200), hard
    (found,) = compare({"psnr": {"net": first, "bicubic": other}}, "net", ["bicubic"], {"psnr": "higher"})
    assert (found.metric, found.other, found.statistics.count, found.verdict) == ("psnr", "bicubic", 200, "better")
    assert found.statistics.mean == pytest.approx((first - other).mean())
    assert 0.4 < found.statistics.low < found.statistics.high < 0.6
    assert found.wins == (first > other).mean()


@pytest.mark.parametrize(("better", "verdict", "wins"), [("higher", "worse", 0), ("lower", "better", 1)])
def test_compare_judges_by_what_is_better(better: str, verdict: str, wins: float) -> None:
    (found,) = compare({"m": {"a": np.array([1.0, 2, 3]), "b": np.array([2.0, 3, 4])}}, "a", ["b"], {"m": better})
    assert (found.statistics.mean, found.verdict, found.wins) == (-1, verdict, wins)


def test_compare_takes_faces_that_both_have_and_equal_infinities_as_no_difference() -> None:
    first, other = np.array([INF, 1, NAN, 4]), np.array([INF, NAN, 3, 3])
    (found,) = compare({"m": {"a": first, "b": other}}, "a", ["b"], {"m": "higher"})
    assert (found.statistics.count, found.statistics.mean, found.wins, found.verdict) == (2, 0.5, 0.5, "open")


def test_compare_without_others_is_empty() -> None:
    assert compare({"m": {"a": np.array([1.0])}}, "a", [], {"m": "higher"}) == []


@pytest.mark.parametrize(("first", "other"), [([INF, 30.0], [28.0, 29.0]), ([30.0], [29.0])])
def test_compare_does_not_judge_without_an_interval(first: list[float], other: list[float]) -> None:
    (found,) = compare({"m": {"a": np.array(first), "b": np.array(other)}}, "a", ["b"], {"m": "higher"})
    assert (found.statistics.low, found.verdict) == (None, "unknown")
