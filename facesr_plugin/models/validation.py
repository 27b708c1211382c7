"""One loop for the validation and test of every model: restored images and found landmarks, measured together.

Names, files, logs and best values are those of BasicSR's loop. What differs from it: all ranks share the work, batches
may hold several faces, a model may have several results of one face, metrics of sets (FID, landmarks) are taken over
all faces of a data set at once, what a metric lacks is named at the first batch, and the best weights can be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from facesr_plugin.compat.stop_signals import keep
from facesr_plugin.models.attention_log import AttentionLog
from facesr_plugin.models.best_checkpoint import BestCheckpoint
from facesr_plugin.models.image_log import ImageLog
from facesr_plugin.models.ranks import Ranks
from facesr_plugin.models.tally import Tally, Value, build_metrics
from facesr_plugin.ops.protocol import denormalise, quantise, to_uint8
from facesr_plugin.utils.imageio import write_png
from facesr_plugin.utils.stopping import STOP
from facesr_plugin.utils.visualize import draw_points

_LANDMARK_FOLDER = "landmarks"


class Result(NamedTuple):
    """What a model makes of a batch.

    Attributes:
        images: ``(N, 3, H, W)`` RGB in the card's range.
        landmarks: ``(N, K, 2)`` (x, y) in their pixels, pixel centres at integers; None if the model finds none.
        restored: Whether ``images`` are to be measured and saved; else they are the input, for pictures of landmarks.
        heatmaps: ``(N, K, h, w)`` that show the landmarks, for pictures.
        visible: ``(N, K)`` bool, which true landmarks count; None for all that are known.
    """

    images: Tensor
    landmarks: Tensor | None = None
    restored: bool = True
    heatmaps: Tensor | None = None
    visible: Tensor | None = None


class Validation:
    """What a run measures, keeps and shows.

    Args:
        opt: BasicSR's options; of ``val`` the keys ``metrics`` and ``pbar``, in a training ``best`` (see
            ``BestCheckpoint``), ``tb_images`` (``ImageLog``) and ``attention`` (``AttentionLog``).
        network: The generator.
        device: Where the networks of metrics run; they are read here, once.

    Raises:
        FileNotFoundError: See ``build_metrics``; also ImportError.
        TypeError: See ``ImageLog``.
        ValueError: If an option cannot work.
    """

    def __init__(self, opt: Mapping[str, Any], network: nn.Module, device: torch.device) -> None:
        val = opt.get("val") or {}
        self._ranks = Ranks(opt["rank"], opt["world_size"])
        self._metrics = build_metrics(val.get("metrics") or {}, device)
        self._best: BestCheckpoint | None = None
        self._logs: list[AttentionLog | ImageLog] = []
        if not opt["is_train"]:
            return
        if val.get("best") is not None:
            self._best = BestCheckpoint(val)
        if val.get("tb_images") is not None:
            self._logs.append(ImageLog(val["tb_images"]))
        if val.get("attention") is not None:
            self._logs.append(AttentionLog(val["attention"], network))

    def resume(self, folder: str | Path) -> None:
        """Take up the best weights of a run that continues, in its folder of networks."""
        if self._best is not None:
            self._best.resume(folder)

    def run(self, model: Any, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Measure a model's results on a data set; set ``model.metric_results``, keep the best values, log both.

        Every rank of a distributed run must call this; the values are those of one rank alone, on rank 0. Arrays of a
        batch have the names of ``metrics.building``; ``landmarks`` and ``box`` are the data set's.

        Args:
            model: A FaceSRModel; it is left without a batch.
            dataloader: Of faces with ``lq_path``.
            current_iter: Of the training; any word in a test.
            tb_logger: TensorBoard's writer.
            save_img: Write the main results, and pictures of their landmarks.

        Raises:
            ValueError: If a metric needs what neither model nor data set give.
        """
        dataset = dataloader.dataset.opt["name"]
        tally = self._measure(model, dataloader, current_iter, save_img)
        gathered = self._ranks.gather(tally.state())
        if not self._ranks.leads:
            return
        for state in gathered[1:]:
            tally.merge(state)
        if self._metrics:
            self._report(model, tally.values(), dataset, current_iter)
            model._log_validation_metric_values(current_iter, dataset, tb_logger)
        for log in self._logs if tb_logger else ():
            log.write(model, dataloader, current_iter, tb_logger)

    def _measure(self, model: Any, dataloader: Any, current_iter: int | str, save_img: bool) -> Tally:
        """Run this rank's part of the loop."""
        tally, dataset = Tally(self._metrics), dataloader.dataset.opt["name"]
        shown = model.opt["val"].get("pbar") and self._ranks.leads
        model.forget_batch()
        self._ranks.equalise(model.net_to_test)
        batches = tqdm(self._ranks.share(dataloader), unit="batch", disable=None if shown else True)
        for number, data in enumerate(batches):
            model.feed_data(data)
            model.test()
            results = _read_batch(model, data)
            model.forget_batch()
            tally.add(self._ranks.number(number), {name: faces.arrays() for name, faces in results.items()})
            if save_img:
                _save(model, results[""], data["lq_path"], dataset, current_iter)
            if STOP.pending and self._ranks.count == 1 and not model.has_ended:  # a scheduler may not wait for its end
                keep(model, current_iter)  # several ranks save together, after the validation
        return tally

    def _report(self, model: Any, values: Mapping[str, Value], dataset: str, current_iter: int | str) -> None:
        """Give the values to the model as BasicSR keeps them, and the best weights to their file."""
        model.metric_results = {name: value for name, (value, _) in values.items()}
        best = model.best_metric_results.setdefault(dataset, {})
        for name, (value, better) in values.items():
            worst = float("-inf" if better == "higher" else "inf")
            entry = best.setdefault(name, {"better": better, "val": worst, "iter": -1})
            if not model.is_comparable(entry["iter"]):
                entry["val"] = worst
            model._update_best_metric_result(dataset, name, value, current_iter)
        if self._best is not None:
            self._best.update(model, dataset, *values[self._best.metric], current_iter)


class _Faces(NamedTuple):
    """A result of a batch and its truth; ``img`` and ``img2`` ``(N, H, W, 3)`` BGR uint8."""

    img: np.ndarray
    restored: bool
    points: np.ndarray | None
    visible: np.ndarray | None
    img2: np.ndarray | None
    landmarks: np.ndarray | None
    box: np.ndarray | None

    def arrays(self) -> dict[str, np.ndarray]:
        """What metrics can take, as far as it is known."""
        known = {
            "img": self.img if self.restored else None,
            "img2": self.img2,
            "landmarks": self.landmarks,
            "box": self.box,
            "points": self.points,
            "visible": self.visible,
            "reference": self.landmarks,
            "boxes": self.box,
            "image_size": np.tile(self.img.shape[1:3], (len(self.img), 1)),
        }
        return {name: value for name, value in known.items() if value is not None}


def _read_batch(model: Any, data: Mapping[str, Any]) -> dict[str, _Faces]:
    gt = _pixels(to_uint8(denormalise(model.gt, model.card))) if hasattr(model, "gt") else None
    truth = (gt, _numbers(data.get("landmarks")), _numbers(data.get("box")))
    faces = {}
    for name, result in model.current_results().items():
        found = (_numbers(result.landmarks), _numbers(result.visible))
        faces[name] = _Faces(_pixels(quantise(result.images, model.card)), result.restored, *found, *truth)
    return faces


def _pixels(images: Tensor) -> np.ndarray:
    return images.flip(1).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _numbers(values: Tensor | None) -> np.ndarray | None:
    return None if values is None else values.detach().float().cpu().numpy()


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
