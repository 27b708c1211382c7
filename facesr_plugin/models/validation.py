"""One loop for the validation and test of every model: restored images and found landmarks, measured together.

Names, files, logs and best values are those of BasicSR's loop. What differs from it: batches may hold several faces, a
model may have several results of one face, metrics of landmarks are taken over all faces of a data set at once, and
what a metric lacks is named at the first batch.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from basicsr.metrics import calculate_metric
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor
from tqdm import tqdm

from facesr_plugin.ops.protocol import denormalise, quantise, to_uint8
from facesr_plugin.utils.imageio import write_png
from facesr_plugin.utils.visualize import draw_points

_LANDMARK_FOLDER = "landmarks"
_OF_POINTS = {"points", "reference"}  # parameters of a metric of landmarks
_LACKS = {
    "img": "restored images, which the model does not give",
    "img2": "the ground truth, which the data set does not deliver",
    "points": "landmarks, which the model does not find",
    "reference": "the true landmarks, which the data set does not deliver. Name a landmark file in its section",
    "landmarks": "the true landmarks, which the data set does not deliver. Name a landmark file in its section",
    "box": "face boxes, which the data set does not deliver",
}


class Result(NamedTuple):
    """What a model makes of a batch.

    Attributes:
        images: ``(N, 3, H, W)`` RGB in the card's range.
        landmarks: ``(N, K, 2)`` (x, y) in their pixels, pixel centres at integers; None if the model finds none.
        restored: Whether ``images`` are to be measured and saved; else they are the input, for pictures of landmarks.
    """

    images: Tensor
    landmarks: Tensor | None = None
    restored: bool = True


def validate(model: Any, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
    """Measure a model's results on a data set; set ``model.metric_results``, keep the best values, log both.

    A metric ``m`` of the result ``r`` is ``m_r``, of the main one (named ``""``) ``m``. Metrics with parameters
    ``points`` and ``reference`` (NaN where unknown) take the landmarks of all faces, with ``image_size`` and, if the
    data set delivers ``box``, ``boxes``. The others take one face at a time, ``img`` and ``img2`` in BGR
    uint8 and, if they have such parameters, the data set's ``landmarks`` ``(K, 2)`` and ``box`` ``(4)``; their mean
    counts. A metric whose section is empty is left out.

    Args:
        model: A FaceSRModel; it is left without a batch.
        dataloader: Of faces with ``lq_path``.
        current_iter: Of the training; any word in a test.
        tb_logger: TensorBoard's writer.
        save_img: Write the main results, and pictures of their landmarks.

    Raises:
        ValueError: If a metric needs what neither model nor data set give.
    """
    options, dataset = model.opt["val"], dataloader.dataset.opt["name"]
    sections = {name: section for name, section in (options.get("metrics") or {}).items() if section}
    tally = _Tally([_Metric(name, section) for name, section in sections.items()])
    model.forget_batch()
    for data in tqdm(dataloader, unit="batch", disable=None if options.get("pbar") else True):
        model.feed_data(data)
        model.test()
        results = _read_batch(model, data)
        model.forget_batch()
        tally.add(results)
        if save_img:
            _save(model, results[""], data["lq_path"], dataset, current_iter)
    if sections:
        _report(model, tally.values(), dataset, current_iter)
        model._log_validation_metric_values(current_iter, dataset, tb_logger)


class _Faces(NamedTuple):
    """A result of a batch and its truth; ``img`` and ``img2`` ``(N, H, W, 3)`` BGR uint8."""

    img: np.ndarray
    restored: bool
    points: np.ndarray | None
    img2: np.ndarray | None
    landmarks: np.ndarray | None
    box: np.ndarray | None

    def of_images(self) -> dict[str, np.ndarray]:
        """What metrics of images can take, face by face."""
        known = {"img2": self.img2, "landmarks": self.landmarks, "box": self.box}
        return _present(known | {"img": self.img if self.restored else None})

    def of_points(self) -> dict[str, np.ndarray]:
        """What metrics of landmarks can take."""
        known = _present({"points": self.points, "reference": self.landmarks, "boxes": self.box})
        return known | {"image_size": np.tile(self.img.shape[1:3], (len(self.img), 1))}


def _present(known: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    return {name: value for name, value in known.items() if value is not None}


def _read_batch(model: Any, data: Mapping[str, Any]) -> dict[str, _Faces]:
    gt = _pixels(to_uint8(denormalise(model.gt, model.card))) if hasattr(model, "gt") else None
    truth = (gt, _numbers(data.get("landmarks")), _numbers(data.get("box")))
    return {
        name: _Faces(_pixels(quantise(result.images, model.card)), result.restored, _numbers(result.landmarks), *truth)
        for name, result in model.current_results().items()
    }


def _pixels(images: Tensor) -> np.ndarray:
    return images.flip(1).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _numbers(values: Tensor | None) -> np.ndarray | None:
    return None if values is None else values.detach().float().cpu().numpy()


def measures_points(section: Mapping[str, Any]) -> bool:
    """Whether an entry of ``val.metrics`` is a metric of landmarks."""
    return _parameters(section).keys() >= _OF_POINTS


def _parameters(section: Mapping[str, Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(METRIC_REGISTRY.get(section["type"])).parameters


class _Metric:
    """One entry of ``val.metrics``."""

    def __init__(self, name: str, section: dict[str, Any]) -> None:
        parameters = _parameters(section)
        required = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
        self.name, self._section = name, section
        self.better = section.get("better", "higher")
        self.known = parameters.keys()
        self.needed = required & _LACKS.keys() - section.keys()
        self.of_points = measures_points(section)

    def named(self, result: str) -> str:
        return f"{self.name}_{result}" if result else self.name

    def measure(self, data: dict[str, np.ndarray]) -> float:
        return calculate_metric(data, self._section)


class _Value(NamedTuple):
    """Of a metric over a data set; ``better`` is ``higher`` or ``lower``."""

    value: float
    better: str


class _Tally:
    """Values of metrics, batch after batch."""

    def __init__(self, metrics: Iterable[_Metric]) -> None:
        self._of_points, self._of_images = [], []
        for metric in metrics:
            (self._of_points if metric.of_points else self._of_images).append(metric)
        self._metrics = (*self._of_images, *self._of_points)
        self._values: defaultdict[tuple[_Metric, str], list[float]] = defaultdict(list)
        self._points: defaultdict[str, list[dict[str, np.ndarray]]] = defaultdict(list)

    def add(self, results: Mapping[str, _Faces]) -> None:
        """Measure a batch as far as it can be, and keep its landmarks."""
        if not self._values and not self._points:
            self._check(results.values())
        for name, faces in results.items():
            self._add_images(name, faces.of_images())
            points = faces.of_points()
            if self._of_points and points.keys() >= _OF_POINTS:
                self._points[name].append(points)

    def _add_images(self, result: str, batch: dict[str, np.ndarray]) -> None:
        wanted = [metric for metric in self._of_images if metric.needed <= batch.keys()]
        for values in zip(*batch.values(), strict=True):
            face = dict(zip(batch, values, strict=True))
            for metric in wanted:
                given = {key: face[key] for key in face.keys() & (metric.known | {"img", "img2"})}
                self._values[metric, result].append(metric.measure(given))

    def _check(self, results: Iterable[_Faces]) -> None:
        given = {key for faces in results for key in (*faces.of_images(), *faces.of_points())}
        for metric in self._metrics:
            for key in sorted(metric.needed - given):
                raise ValueError(f"val.metrics.{metric.name} needs {_LACKS[key]}, or remove the metric.")

    def values(self) -> dict[str, _Value]:
        """Return every metric of every result by its name."""
        found = {}
        for (metric, result), values in self._values.items():
            found[metric.named(result)] = _Value(sum(values) / len(values), metric.better)
        for result, batches in self._points.items():
            whole = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
            for metric in self._of_points:
                found[metric.named(result)] = _Value(metric.measure(whole), metric.better)
        return found


def _report(model: Any, values: Mapping[str, _Value], dataset: str, current_iter: int | str) -> None:
    """Give the values to the model as BasicSR keeps them."""
    model.metric_results = {name: value for name, (value, _) in values.items()}
    best = model.best_metric_results.setdefault(dataset, {})
    for name, (value, better) in values.items():
        worst = float("-inf" if better == "higher" else "inf")
        best.setdefault(name, {"better": better, "val": worst, "iter": -1})
        model._update_best_metric_result(dataset, name, value, current_iter)


def _save(model: Any, faces: _Faces, paths: list[str], dataset: str, current_iter: int | str) -> None:
    """Write pictures under BasicSR's names; those of landmarks in a folder of their own if there are both."""
    suffix = current_iter if model.is_train else model.opt["val"].get("suffix") or model.opt["name"]
    for face, path in enumerate(paths):
        stem, image = Path(path).stem, np.ascontiguousarray(faces.img[face, ..., ::-1])
        folder = Path(model.opt["path"]["visualization"]) / (stem if model.is_train else dataset)
        name = f"{stem}_{suffix}.png"
        if faces.restored:
            write_png(folder / name, image)
        if faces.points is not None:
            place = folder / _LANDMARK_FOLDER if faces.restored else folder
            write_png(place / name, draw_points(image, faces.points[face]))
