"""Mean, median and confidence interval of the values of faces, and of the differences between two results.

The interval is the percentile bootstrap of the mean (Efron and Tibshirani, 1993, ch. 13): faces are drawn with
replacement, a fixed number of times from a fixed seed. One draw serves all columns, which keeps pairs together and
costs one pass for any number of metrics; ``scipy.stats.bootstrap`` gives the same interval column by column.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
_SEED = 0


class Statistics(NamedTuple):
    """Of the values of one metric and result.

    Attributes:
        count: Faces with a value.
        mean: NaN if there is none, infinite if a value is.
        median: As ``mean``.
        low: Lower end of the interval of the mean; None with fewer than two faces or an infinite value.
        high: Its upper end.
    """

    count: int
    mean: float
    median: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """First result minus another one, over the faces that both have.

    Attributes:
        metric: Whose values.
        other: Name of the other result.
        statistics: Of the differences.
        wins: Part of these faces of which the first result is better, in [0, 1]; NaN if there is none.
        verdict: ``better`` or ``worse`` if the interval of the mean lies on one side of 0, ``open`` if it has 0, and
            ``unknown`` if there is none: of less than two faces, or with an infinite difference.
    """

    metric: str
    other: str
    statistics: Statistics
    wins: float
    verdict: str


def summarise(columns: np.ndarray) -> list[Statistics]:
    """Return the statistics of each column.

    Args:
        columns: ``(N, M)`` float64; NaN where a face has no value. Rows are drawn whole.
    """
    columns = np.asarray(columns, np.float64)
    return [
        _describe(column, interval) for column, interval in zip(columns.T, _intervals(columns).tolist(), strict=True)
    ]


def compare(
    values: Mapping[str, Mapping[str, np.ndarray]], first: str, others: Sequence[str], better: Mapping[str, str]
) -> list[Difference]:
    """Return the paired differences of the first result to each other one, metric by metric.

    Args:
        values: ``values[metric][result]`` ``(N)``, NaN where a face has no value.
        first: Name of the result that is judged.
        others: Names of those that it is compared with.
        better: ``higher`` or ``lower``, by metric.
    """
    pairs = [(metric, other) for metric in values for other in others]
    if not pairs:
        return []
    columns = [_subtract(values[metric][first], values[metric][other]) for metric, other in pairs]
    found = summarise(np.stack(columns, axis=1))
    return [
        Difference(metric, other, statistics, *_judge(column, statistics, 1 if better[metric] == "higher" else -1))
        for (metric, other), column, statistics in zip(pairs, columns, found, strict=True)
    ]


def _subtract(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(values == others, 0.0, values - others)  # also where both are infinite


def _judge(column: np.ndarray, statistics: Statistics, sign: int) -> tuple[float, str]:
    known = sign * column[~np.isnan(column)]
    wins = float((known > 0).mean()) if len(known) else float("nan")
    if statistics.low is None:
        return wins, "unknown"
    if statistics.low <= 0 <= statistics.high:
        return wins, "open"
    return wins, "better" if sign * statistics.low > 0 else "worse"


def _describe(column: np.ndarray, interval: list[float]) -> Statistics:
    known = column[~np.isnan(column)]
    if not len(known):
        return Statistics(0, float("nan"), float("nan"), None, None)
    with np.errstate(invalid="ignore"):  # differences of both infinite signs have no mean
        mean, median = float(known.mean()), float(np.median(known))
    low, high = interval if len(known) > 1 and np.isfinite(known).all() else (None, None)
    return Statistics(len(known), mean, median, low, high)


def _intervals(columns: np.ndarray) -> np.ndarray:
    """Return the ends of the interval of each column, ``(M, 2)``; NaN if it has no value."""
    count, random, means = len(columns), np.random.default_rng(_SEED), np.empty((RESAMPLES, columns.shape[1]))
    values, known = _split(columns)
    for row in means:
        drawn = np.bincount(random.integers(count, size=count), minlength=count).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a draw of faces without value
            row[:] = (drawn @ values) / (drawn @ known)
    outside = (1 - CONFIDENCE) / 2
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        return np.nanquantile(means, [outside, 1 - outside], axis=0).T


def _split(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values with 0 for those unknown or infinite, and 1 where they are known."""
    known = np.isfinite(columns)
    return np.where(known, columns, 0), known.astype(np.float64)
