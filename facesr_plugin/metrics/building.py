"""Metrics of any kind in one of two forms: a value per face of a batch, or one value per set of faces.

A batch is a dict of arrays: ``img`` (restored) and ``img2`` (ground truth) ``(N, H, W, 3)`` BGR uint8; ``landmarks``
``(N, K, 2)`` and ``box`` ``(N, 4)`` of the truth; for metrics of landmarks ``points`` (found) and ``reference`` (true)
``(N, K, 2)``, ``visible`` ``(N, K)``, ``boxes`` ``(N, 4)``, ``image_size`` ``(N, 2)``. Networks run on whole batches.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from facesr_plugin.metrics.batches import check_faces
from facesr_plugin.metrics.catalogue import better_of
from facesr_plugin.metrics.fid_metric import Fid
from facesr_plugin.metrics.identity_metric import Identity
from facesr_plugin.metrics.image_metric import WINDOW
from facesr_plugin.metrics.lpips_metric import Lpips
from facesr_plugin.metrics.networks import MissingLibraryError, import_library
from facesr_plugin.metrics.niqe_metric import Niqe
from facesr_plugin.registry import METRIC_REGISTRY
from facesr_plugin.utils.weights import MissingWeightsError

Batch = Mapping[str, np.ndarray]
MISSING = (MissingWeightsError, MissingLibraryError)

_OF_IMAGES = ("img", "img2")
_OF_FACES = (*_OF_IMAGES, "landmarks", "box")
_OF_POINTS = ("points", "reference")
_MORE_OF_POINTS = ("visible", "boxes", "image_size")
_DIRECTIONS = ("higher", "lower")
_NOT_OPTIONS = {*_OF_FACES, *_OF_POINTS, "images", "references", "device"}
_NETWORKS: dict[str, Callable[..., Any]] = {
    "calculate_lpips": Lpips,
    "calculate_identity_similarity": Identity,
    "calculate_aligned_identity_similarity": Identity,
}
_NIQE = "calculate_face_niqe"
_FID = "calculate_fid"
_BASICSR_SSIM = "calculate_ssim"


class _Metric:
    """What both forms tell.

    Attributes:
        needs: Arrays of a batch without which it cannot measure.
        takes: Arrays that it looks at; others may be there.
        better: ``higher`` or ``lower``.
    """

    def __init__(self, needs: frozenset[str], takes: frozenset[str], better: str) -> None:
        self.needs, self.takes, self.better = needs, takes, better

    def _select(self, batch: Batch) -> dict[str, np.ndarray]:
        missing = sorted(self.needs - batch.keys())
        if missing:
            raise ValueError(f"batch must have {', '.join(missing)} for this metric, got {', '.join(batch) or None}")
        return {key: batch[key] for key in batch if key in self.takes}


class ImageMetric(_Metric):
    """A value per face."""

    def __init__(self, function: Callable[..., np.ndarray], **told: Any) -> None:
        super().__init__(**told)
        self._function = function

    def measure(self, batch: Batch) -> np.ndarray:
        """Return the values of a batch, ``(N)`` float64; infinite where the metric is (PSNR of equal images).

        Raises:
            TypeError: As the metric.
            ValueError: As the metric; if the batch lacks what it needs.
        """
        return np.asarray(self._function(**self._select(batch)), np.float64)


class SetMetric(_Metric):
    """A value per set of faces."""

    def __init__(self, tally: Fid | _PointTally, **told: Any) -> None:
        super().__init__(**told)
        self.tally = tally

    def anew(self) -> SetMetric:
        """Return the same metric without faces; both share a network."""
        return SetMetric(self.tally.anew(), needs=self.needs, takes=self.takes, better=self.better)

    def add(self, batch: Batch) -> None:
        """Add faces.

        Raises:
            TypeError: As the metric.
            ValueError: As the metric; if the batch lacks what it needs.
        """
        self.tally.add(**self._select(batch))

    def value(self) -> float:
        """Return the value of all faces so far.

        Raises:
            ValueError: If there are too few, or as the metric.
        """
        return self.tally.value()

    def state(self) -> dict[str, np.ndarray]:
        """Return all faces so far as arrays without objects, to be stored or sent."""
        return self.tally.state()

    def merge(self, state: Batch) -> None:
        """Add the faces of another one's :meth:`state`, of the same metric."""
        self.tally.merge(state)


def build_metric(section: Mapping[str, Any], device: str | torch.device = "cpu") -> ImageMetric | SetMetric:
    """Build a metric; its networks are read here, once.

    Args:
        section: As an entry of ``val.metrics``: ``type``, options of the function, and ``better`` if it is not the
            metric's own.
        device: Where networks run.

    Raises:
        FileNotFoundError: If a file that the section names does not exist.
        MissingLibraryError: If a library is not installed (one of ``MISSING``, as the next).
        MissingWeightsError: If weights are not here; the message has the command that fetches them.
        ValueError: If the type, an option or ``better`` is unknown, or a file holds something else.
    """
    name = section["type"]
    function = find_metric(name)
    parameters = inspect.signature(function).parameters
    options = {key: value for key, value in section.items() if key not in ("type", "better")}
    _check_options(name, function, options)
    told = {"better": _direction(section)}
    if name == _FID:
        needs = frozenset(_OF_IMAGES[:1] if options.get("statistics") else _OF_IMAGES)
        return SetMetric(Fid(**options, device=device), needs=needs, takes=needs, **told)
    if is_of_points(section):
        takes = frozenset(_OF_POINTS + _MORE_OF_POINTS)
        return SetMetric(_PointTally(function, options), needs=frozenset(_OF_POINTS), takes=takes, **told)
    takes = _taken(parameters)
    needs = frozenset(key for key in takes & parameters.keys() if parameters[key].default is inspect.Parameter.empty)
    return ImageMetric(_prepare(name, function, options, device), needs=needs, takes=takes, **told)


def _prepare(
    name: str, function: Callable[..., float], options: Mapping[str, Any], device: str | torch.device
) -> Callable[..., np.ndarray]:
    """Return the form for whole batches; what it must read or import is read now."""
    if name in _NETWORKS:
        return _NETWORKS[name](**options, device=device)
    return Niqe(**options) if name == _NIQE else _face_by_face(function, options, _smallest(name, options))


def find_metric(name: str) -> Callable[..., float]:
    """Return the function registered as ``name`` here, else in BasicSR.

    Raises:
        MissingLibraryError: If it is not ours and BasicSR is not installed.
        ValueError: If there is none.
    """
    if name in METRIC_REGISTRY:
        return METRIC_REGISTRY.get(name)
    import_library("basicsr.metrics", name, 'pip install "basicsr>=1.4.2"')
    theirs = import_library("basicsr.utils.registry", name, 'pip install "basicsr>=1.4.2"').METRIC_REGISTRY
    if name not in theirs:
        known = sorted({key for key, _ in (*METRIC_REGISTRY.items(), *theirs)})
        raise ValueError(f"type of a metric must be one of {', '.join(known)}, got {name!r}")
    return theirs.get(name)


def is_of_points(section: Mapping[str, Any]) -> bool:
    """Whether a section is of a metric of landmarks."""
    return inspect.signature(find_metric(section["type"])).parameters.keys() >= set(_OF_POINTS)


def _direction(section: Mapping[str, Any]) -> str:
    better = section.get("better", better_of(section["type"]))
    if better not in _DIRECTIONS:
        raise ValueError(f"better must be one of {', '.join(_DIRECTIONS)}, got {better!r}")
    return better


def _check_options(name: str, function: Callable[..., float], options: Mapping[str, Any]) -> None:
    """Refuse unknown options of our own metrics; those of others take and ignore them."""
    if not function.__module__.startswith("facesr_plugin."):
        return
    parameters = inspect.signature(function).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    for key in options.keys() - (named - _NOT_OPTIONS):
        raise ValueError(f"{name} has no option {key!r}")


def _taken(parameters: Mapping[str, inspect.Parameter]) -> frozenset[str]:
    """Arrays that a function of one face is given: those that it names; both images if it takes anything unnamed."""
    named = parameters.keys() & set(_OF_FACES)
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return frozenset(_OF_IMAGES if anything and not named else named)


def _smallest(name: str, options: Mapping[str, Any]) -> int:
    """Least side in pixels; below it BasicSR's SSIM returns NaN, others tell it themselves."""
    return WINDOW + 2 * options.get("crop_border", 0) if name == _BASICSR_SSIM else 1


def _face_by_face(
    function: Callable[..., float], options: Mapping[str, Any], smallest: int
) -> Callable[..., np.ndarray]:
    def measure(**batch: np.ndarray) -> np.ndarray:
        if "img" in batch:  # of all metrics the same error
            check_faces(batch["img"], batch.get("img2"), smallest=smallest)
        faces = zip(*batch.values(), strict=True)
        return np.array([function(**dict(zip(batch, face, strict=True)), **options) for face in faces], np.float64)

    return measure


class _PointTally:
    """Landmarks of all faces; a metric of landmarks measures them at once."""

    def __init__(self, function: Callable[..., float], options: Mapping[str, Any]) -> None:
        self._function, self._options = function, options
        self._batches: defaultdict[str, list[np.ndarray]] = defaultdict(list)

    def anew(self) -> _PointTally:
        return _PointTally(self._function, self._options)

    def add(self, **batch: np.ndarray) -> None:
        if self._batches and self._batches.keys() != batch.keys():
            earlier = ", ".join(self._batches)
            raise ValueError(f"batches must have the same arrays, got {', '.join(batch)} after {earlier}")
        for key, values in batch.items():
            self._batches[key].append(values)

    def value(self) -> float:
        if not self._batches:
            raise ValueError("a metric of landmarks needs one face or more, got none")
        return self._function(**self.state(), **self._options)

    def state(self) -> dict[str, np.ndarray]:
        return {key: np.concatenate(batches) for key, batches in self._batches.items()}

    def merge(self, state: Batch) -> None:
        if state:
            self.add(**state)
