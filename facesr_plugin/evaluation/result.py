"""What an evaluation found: values of each face and of whole sets, their statistics, and what was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from facesr_plugin.evaluation.measures import Measure
from facesr_plugin.evaluation.pairs import Face, Unpaired
from facesr_plugin.evaluation.statistics import Difference, Statistics


class SetValue(NamedTuple):
    """Value of a set of faces: ``count`` of them; ``value`` is None if there is none, and ``problem`` says why."""

    count: int
    value: float | None
    problem: str = ""


class Problem(NamedTuple):
    """What a face was not measured by: ``face`` is its printable name, ``result`` whose restored image it is."""

    face: str
    result: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """The whole of an evaluation.

    Args:
        results: Names of the folders of restored faces; the first is the one that is judged, others are compared.
        faces: Those with a partner, by stem.
        measures: Metrics that were measured, in the order of the report.
        values: ``values[metric][result]`` ``(N)`` float64 in the order of ``faces``, NaN where not measured, infinite
            for PSNR of equal images; of metrics with a value per face.
        statistics: ``statistics[metric][result]`` of ``values``.
        set_values: ``set_values[metric][result]`` of the other metrics.
        differences: Of the first result to each other one, for every metric of ``values``.
        missing: Metrics that could not be measured at all, and why: what is missing, with the command that gets it.
        unpaired: Files without partner.
        problems: What was not measured of the faces.
        settings: What the numbers depend on, in words.
    """

    results: tuple[str, ...]
    faces: tuple[Face, ...]
    measures: tuple[Measure, ...]
    values: Mapping[str, Mapping[str, np.ndarray]]
    statistics: Mapping[str, Mapping[str, Statistics]]
    set_values: Mapping[str, Mapping[str, SetValue]]
    differences: tuple[Difference, ...]
    missing: Mapping[str, str]
    unpaired: tuple[Unpaired, ...]
    problems: tuple[Problem, ...]
    settings: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether every file had its partners, and every face was measured by everything that was not missing."""
        unmeasured = any(found.value is None for values in self.set_values.values() for found in values.values())
        return not (self.unpaired or self.problems or unmeasured)
