"""What a validation measures: values of faces and of sets of faces, batch after batch, on one rank or several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from facesr_plugin.metrics.building import Batch, ImageMetric, SetMetric, build_metric

Metrics = Mapping[str, ImageMetric | SetMetric]

_TRUE_POINTS = "the true landmarks, which the data set does not deliver. Name a landmark file in its section"
_LACKS = {  # the data set's first: a model may look for landmarks only where true ones are
    "img2": "the ground truth, which the data set does not deliver",
    "reference": _TRUE_POINTS,
    "landmarks": _TRUE_POINTS,
    "box": "face boxes, which the data set does not deliver",
    "img": "restored images, which the model does not give",
    "points": "landmarks, which the model does not find",
}


def build_metrics(sections: Mapping[str, Any], device: torch.device) -> dict[str, ImageMetric | SetMetric]:
    """Build the metrics of ``val.metrics``, by name; a metric whose section is empty is left out.

    Args:
        sections: By name of the metric.
        device: Where their networks run.

    Raises:
        FileNotFoundError: If a file, or the weights of a network, are not there.
        ImportError: If a library is not installed.
        ValueError: If a type or an option is unknown, or a file holds something else.
    """
    return {name: _build(name, section, device) for name, section in sections.items() if section}


def _build(name: str, section: Mapping[str, Any], device: torch.device) -> ImageMetric | SetMetric:
    try:
        return build_metric(section, device)
    except (ImportError, OSError, ValueError) as error:
        raise type(error)(f"val.metrics.{name}: {error}") from error


class Value(NamedTuple):
    """Of a metric over a data set; ``better`` is ``higher`` or ``lower``."""

    value: float
    better: str


class Tally:
    """Values of metrics over a data set, of one or several results.

    A metric ``m`` of the result ``r`` is named ``m_r``, of the main result (named ``""``) ``m``.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._checked = False
        self._values: defaultdict[tuple[str, str], dict[int, np.ndarray]] = defaultdict(dict)
        self._sets: dict[tuple[str, str], SetMetric] = {}

    def add(self, number: int, results: Mapping[str, Batch]) -> None:
        """Measure a batch as far as it can be.

        Args:
            number: Of the batch, over all ranks.
            results: Arrays of ``metrics.building`` by the name of the result.

        Raises:
            ValueError: If no result of the first batch has what a metric needs.
        """
        if not self._checked:
            self._check(results.values())
        for result, batch in results.items():
            for name, metric in self._metrics.items():
                if not metric.needs <= batch.keys():
                    continue
                if isinstance(metric, SetMetric):
                    self._set(name, result).add(batch)
                else:
                    self._values[name, result][number] = metric.measure(batch)

    def _check(self, results: Iterable[Batch]) -> None:
        given = {key for batch in results for key in batch}
        for name, metric in self._metrics.items():
            for key in (key for key in _LACKS if key in metric.needs - given):
                raise ValueError(f"val.metrics.{name} needs {_LACKS[key]}, or remove the metric.")
        self._checked = True

    def _set(self, name: str, result: str) -> SetMetric:
        if (name, result) not in self._sets:
            self._sets[name, result] = self._metrics[name].anew()
        return self._sets[name, result]

    def state(self) -> tuple[dict, dict]:
        """Return everything so far as plain containers of arrays, for ``merge``."""
        return dict(self._values), {key: metric.state() for key, metric in self._sets.items()}

    def merge(self, state: tuple[dict, dict]) -> None:
        """Add what another rank has measured."""
        values, sets = state
        for key, found in values.items():
            self._values[key].update(found)
        for key, found in sets.items():
            self._set(*key).merge(found)

    def values(self) -> dict[str, Value]:
        """Return every metric of every result by its name; a metric of faces is their mean, in the order of batches.

        Raises:
            ValueError: If a set has too few faces.
        """
        found = {}
        for (name, result), batches in self._values.items():
            faces = np.concatenate([batches[number] for number in sorted(batches)]).tolist()
            found[name, result] = sum(faces) / len(faces)  # as BasicSR adds, to the last bit
        for (name, result), metric in self._sets.items():
            try:
                found[name, result] = metric.value()
            except ValueError as error:
                raise ValueError(f"val.metrics.{name}: {error}") from error
        return {
            f"{name}_{result}" if result else name: Value(value, self._metrics[name].better)
            for (name, result), value in found.items()
        }
