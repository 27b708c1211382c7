"""Metrics of sets of faces (FID) of several results at once: added batch by batch, stored, and taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from facesr_plugin.evaluation.result import SetValue
from facesr_plugin.metrics.building import Batch, SetMetric

_FACES = "faces"


class Sets:
    """The metrics of sets of one evaluation.

    Args:
        metrics: By name one for each result, by its name.
        state: Of an earlier run, empty if there is none.
        done: Faces that have lines; a state of more is left out, for their lines were lost and they come again.

    Attributes:
        faces: How many faces have been looked at, in the order of the evaluation.
    """

    def __init__(
        self, metrics: Mapping[str, Mapping[str, SetMetric]], state: Mapping[str, np.ndarray], done: int
    ) -> None:
        state = state if int(state.get(_FACES, 0)) <= done else {}
        self._metrics = {(name, result): metric for name, of in metrics.items() for result, metric in of.items()}
        self._counts = dict.fromkeys(self._metrics, 0)
        self.faces = int(state.get(_FACES, 0))
        for number, (key, metric) in enumerate(self._metrics.items() if state else ()):
            start = f"{number}/"
            metric.merge({name.removeprefix(start): array for name, array in state.items() if name.startswith(start)})
            self._counts[key] = int(state[f"{_FACES}/{number}"])

    def __bool__(self) -> bool:
        return bool(self._metrics)

    def add(self, result: str, batch: Batch) -> None:
        """Add a batch of a result to the metrics that can take it."""
        for (name, other), metric in self._metrics.items():
            if other == result and metric.needs <= batch.keys():
                metric.add(batch)
                self._counts[name, result] += len(batch["img"])

    def state(self) -> dict[str, np.ndarray]:
        """Return everything so far as arrays."""
        arrays = {_FACES: np.array(self.faces)}
        for number, (key, metric) in enumerate(self._metrics.items()):
            arrays[f"{_FACES}/{number}"] = np.array(self._counts[key])
            arrays |= {f"{number}/{name}": array for name, array in metric.state().items()}
        return arrays

    def values(self) -> list[list[Any]]:
        """Return ``[metric, result, count, value, problem]`` of each as plain JSON values."""
        return [[*key, *_value(metric, self._counts[key])] for key, metric in self._metrics.items()]


def read_values(values: list[list[Any]]) -> dict[str, dict[str, SetValue]]:
    """Return what :meth:`Sets.values` gave by metric and result."""
    found: dict[str, dict[str, SetValue]] = {}
    for metric, result, *value in values:
        found.setdefault(metric, {})[result] = SetValue(*value)
    return found


def _value(metric: SetMetric, count: int) -> SetValue:
    try:
        return SetValue(count, metric.value())
    except ValueError as error:
        return SetValue(count, None, str(error))
