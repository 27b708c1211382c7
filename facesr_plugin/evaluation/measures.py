"""The metrics of an evaluation: which ones by default, built once, and what is missing instead of a wrong number.

Metrics of landmarks are means over faces, so that they are measured face by face here and have intervals and pairs too.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from facesr_plugin.metrics.building import MISSING, Batch, SetMetric, build_metric, find_metric, is_of_points
from facesr_plugin.metrics.catalogue import PROTOCOLS
from facesr_plugin.metrics.landmark_metric import OUTER_EYE_CORNERS

_LACKS = {
    "img2": "the ground truth. Give GT_DIR",
    "landmarks": "the true landmarks. Give --landmarks or --landmark-model",
    "reference": "the true landmarks. Give --landmarks or --landmark-model",
    "points": "the landmarks of the restored faces. Give --landmark-model or --sr-landmarks",
}
_WITH_GT, _WITHOUT_GT = ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y", "lpips_alex"), ("niqe",)
_OF_EYES, _OF_BOXES = ("nme_inter_ocular", "auc_inter_ocular", "failure_inter_ocular"), ("nme_box",)
_FID = "fid"


class Measure(NamedTuple):
    """A metric that is measured.

    Attributes:
        name: As ``--metrics`` names it.
        summary: Its protocol, in a line.
        better: ``higher`` or ``lower``.
        unit: Of the value, empty for a plain number.
        digits: Behind the decimal point in tables.
        per_face: Whether it has a value per face; else one per set of faces (FID).
    """

    name: str
    summary: str
    better: str
    unit: str
    digits: int
    per_face: bool


class FaceMetric(Protocol):
    """A value per face.

    Attributes:
        needs: Arrays of a batch without which it cannot measure.
    """

    needs: frozenset[str]

    def measure(self, batch: Batch) -> np.ndarray:
        """Return the values of a batch, ``(N)`` float64."""


@dataclass(frozen=True)
class Measures:
    """Metrics that are ready.

    Args:
        measures: All of them, in the order of the report.
        of_faces: Those with a value per face.
        of_sets: The others, by name one for each result, by its name.
        missing: What could not be built, and why.
    """

    measures: tuple[Measure, ...]
    of_faces: Mapping[str, FaceMetric]
    of_sets: Mapping[str, Mapping[str, SetMetric]]
    missing: Mapping[str, str]

    @property
    def needs(self) -> frozenset[str]:
        """All arrays that some metric cannot do without."""
        metrics = (*self.of_faces.values(), *(one for found in self.of_sets.values() for one in found.values()))
        return frozenset().union(*(metric.needs for metric in metrics))


def choose_metrics(given: Collection[str], *, statistics: bool, num_points: int | None) -> list[str]:
    """Return the metrics that are measured unless the user names some.

    Args:
        given: Arrays that the faces will have.
        statistics: Whether there are statistics for FID.
        num_points: Landmarks of a face, None if not known yet.
    """
    names = list(_WITH_GT if "img2" in given else _WITHOUT_GT)
    names += [_FID] if statistics or "img2" in given else []
    if "img2" in given:
        names.append("identity_aligned" if "landmarks" in given else "identity")
    if {"points", "reference"} <= set(given):
        names += _OF_EYES if num_points is None or num_points in OUTER_EYE_CORNERS else _OF_BOXES
    return names


def sections_of(
    names: Iterable[str], weights: Mapping[str, str | os.PathLike], statistics: str | os.PathLike | None
) -> dict[str, dict[str, Any]]:
    """Return what ``build_metric`` takes of each metric, in the order of the report.

    Args:
        names: Keys of ``PROTOCOLS``.
        weights: Files of networks by the name of the metric.
        statistics: To compare with in FID.

    Raises:
        ValueError: If a name is unknown, or a file is for a metric that is not measured.
    """
    wanted = dict.fromkeys(names)
    unknown = [name for name in wanted if name not in PROTOCOLS]
    if unknown:
        raise ValueError(f"metrics must be some of {', '.join(PROTOCOLS)}, got {unknown[0]!r}")
    for name in (*weights, *([_FID] if statistics else [])):
        if name not in wanted:
            raise ValueError(f"files must be for metrics that are measured, got one for {name!r}. Add it to --metrics.")
        if (
            name in weights
            and "weights" not in inspect.signature(find_metric(PROTOCOLS[name].section["type"])).parameters
        ):
            raise ValueError(f"files of weights must be for metrics with a network, got one for {name!r}")
    more = {name: {"weights": os.fspath(path)} for name, path in weights.items()}
    if statistics:
        more.setdefault(_FID, {})["statistics"] = os.fspath(statistics)
    return {name: {**PROTOCOLS[name].section, **more.get(name, {})} for name in PROTOCOLS if name in wanted}


def build_measures(
    sections: Mapping[str, Mapping[str, Any]],
    results: Sequence[str],
    given: Collection[str],
    device: torch.device,
    *,
    out_of_reach: Mapping[str, str] | None = None,
) -> Measures:
    """Build metrics; networks are read here.

    Args:
        sections: Of ``sections_of``.
        results: Names of the results; a metric of sets is built for each.
        given: Arrays that the faces will have.
        device: Where networks run.
        out_of_reach: Why there is none of an array although it was asked for; metrics that need it are missing.

    Raises:
        FileNotFoundError: If a file that was named does not exist.
        ValueError: If a metric needs what is not given, or a file holds something else.
    """
    measures, of_faces, of_sets, missing = [], {}, {}, {}
    for name, section in sections.items():
        try:
            metric = _build(section, device)
        except MISSING as error:
            missing[name] = str(error)
            continue
        if lacking := sorted(metric.needs & (out_of_reach or {}).keys()):
            missing[name] = out_of_reach[lacking[0]]
            continue
        _check_needs(name, metric, given)
        if isinstance(metric, SetMetric):
            of_sets[name] = {result: metric.anew() for result in results}
        else:
            of_faces[name] = metric
        measures.append(_describe(name, section, per_face=name in of_faces))
    return Measures(tuple(measures), of_faces, of_sets, missing)


class _PointMetric:
    """A metric of landmarks, of each face alone."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        whole = build_metric(section)
        self.needs, self._takes = whole.needs, whole.takes
        self._function = find_metric(section["type"])
        self._options = {key: value for key, value in section.items() if key not in ("type", "better")}

    def measure(self, batch: Batch) -> np.ndarray:
        """Return the values of a batch, ``(N)`` float64."""
        taken = {key: batch[key] for key in batch if key in self._takes}
        count = len(taken["points"])
        faces = ({key: values[row : row + 1] for key, values in taken.items()} for row in range(count))
        return np.array([self._function(**face, **self._options) for face in faces], np.float64)


def _build(section: Mapping[str, Any], device: torch.device) -> FaceMetric | SetMetric:
    return _PointMetric(section) if is_of_points(section) else build_metric(section, device)


def _check_needs(name: str, metric: FaceMetric | SetMetric, given: Collection[str]) -> None:
    lacking = [key for key in _LACKS if key in metric.needs - set(given)]
    if lacking:
        raise ValueError(f"metric {name} needs {_LACKS[lacking[0]]}, or leave it out of --metrics.")


def _describe(name: str, section: Mapping[str, Any], *, per_face: bool) -> Measure:
    protocol = PROTOCOLS[name]
    summary = protocol.summary + "".join(
        f"; {word} {Path(section[key]).name}"
        for key, word in {"weights": "weights of", "statistics": "against"}.items()
        if key in section
    )
    return Measure(name, summary, protocol.better, protocol.unit, protocol.digits, per_face)
