"""FID (Heusel et al., NeurIPS 2017) with pytorch-fid's InceptionV3, as BasicSR computes it.

A number for a set of faces, not for one. It depends on how many there are (few make it too high: compare sets of equal
size), on the resizing (see ``inception.FidInception``; clean-fid's differs) and on the file format of the images.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from facesr_plugin.metrics.batches import check_faces, to_signed
from facesr_plugin.metrics.frechet import Moments, frechet_distance, read_statistics
from facesr_plugin.metrics.networks import choose_device, full_precision
from facesr_plugin.registry import METRIC_REGISTRY

logger = logging.getLogger("basicsr.facesr")

NUM_FEATURES = 2048
_BATCH = 16


class Fid:
    """FID of faces that come in batches; memory does not depend on their number.

    Args:
        statistics: File for ``frechet.read_statistics`` to compare with, instead of the ground truth.
        weights: File of pytorch-fid's InceptionV3; None to look for it as ``facesr weights list`` shows.
        device: Where it runs; None for the current GPU if there is one.

    Attributes:
        moments: Of the restored faces so far.
        real: Of the ground truth so far.

    Raises:
        FileNotFoundError: If a given file does not exist.
        MissingWeightsError: If the network's weights are not here; nothing is downloaded.
        ValueError: If a file holds something else.
    """

    def __init__(
        self,
        *,
        statistics: str | os.PathLike | None = None,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.moments, self.real = Moments(NUM_FEATURES), Moments(NUM_FEATURES)
        self._statistics = None if statistics is None else read_statistics(statistics)
        if self._statistics and len(self._statistics[0]) != NUM_FEATURES:
            count = len(self._statistics[0])
            raise ValueError(f"statistics must be of {NUM_FEATURES} features, got {count} in {str(statistics)!r}")
        self._device = choose_device(device)
        self._network = _load_network(weights).to(self._device)
        self._known: dict[str, np.ndarray] = {}  # the last ground truth and its features

    def anew(self) -> Fid:
        """Return one without faces, with the same network.

        Where several results are compared with one ground truth, batch by batch, its features are computed once.
        """
        other = copy.copy(self)
        other.moments, other.real = Moments(NUM_FEATURES), Moments(NUM_FEATURES)
        return other

    def add(self, img: np.ndarray, img2: np.ndarray | None = None) -> None:
        """Add faces.

        Args:
            img: Restored, ``(N, H, W, 3)`` BGR uint8.
            img2: Ground truth, ``(M, H, W, 3)``; needed unless there are statistics, then without effect.

        Raises:
            TypeError: If an array is not uint8.
            ValueError: If an array has another shape, the ground truth is missing, or a feature is not finite.
        """
        if self._statistics is None and img2 is None:
            raise ValueError("FID needs the ground truth, or a file of statistics")
        self.add_restored(img)
        if self._statistics is None:
            self.add_real(img2)

    def add_restored(self, images: np.ndarray) -> None:
        """Add restored faces ``(N, H, W, 3)`` BGR uint8."""
        check_faces(images)
        self.moments.add(self._extract(images))

    def add_real(self, images: np.ndarray) -> None:
        """Add faces of the ground truth ``(N, H, W, 3)`` BGR uint8; those restored need not be as many."""
        check_faces(images)
        if not np.array_equal(self._known.get("images"), images):
            self._known.update(images=images.copy(), features=self._extract(images))
        self.real.add(self._known["features"])

    def value(self) -> float:
        """Return the distance, 0 or more.

        Raises:
            ValueError: If there are fewer than two faces on a side.
        """
        real = self._statistics or (self.real.mean, self.real.covariance())
        if self.moments.count <= NUM_FEATURES:
            logger.warning("FID of %d faces: compare it with sets of as many only", self.moments.count)
        return frechet_distance(self.moments.mean, self.moments.covariance(), *real)

    def state(self) -> dict[str, np.ndarray]:
        """Return all faces so far as arrays, for :meth:`merge`."""
        sides = {"sr": self.moments, "gt": self.real}
        return {f"{side}_{key}": value for side, held in sides.items() for key, value in held.state().items()}

    def merge(self, state: Mapping[str, np.ndarray]) -> None:
        """Add the faces of another one's :meth:`state`."""
        for side, held in {"sr_": self.moments, "gt_": self.real}.items():
            held.merge({key.removeprefix(side): value for key, value in state.items() if key.startswith(side)})

    def _extract(self, images: np.ndarray) -> np.ndarray:
        with full_precision():
            return self._network(to_signed(images, self._device)).double().cpu().numpy()


@METRIC_REGISTRY.register()
def calculate_fid(
    images: np.ndarray,
    references: np.ndarray | None = None,
    *,
    statistics: str | os.PathLike | None = None,
    weights: str | os.PathLike | None = None,
    device: str | None = None,
    **_: Any,
) -> float:
    """Return the FID of a set of faces; lower is better.

    Args:
        images: Restored, ``(N, H, W, 3)`` BGR uint8, N >= 2.
        references: Ground truth, ``(M, H, W, 3)``, M >= 2; either these or ``statistics``.
        statistics: As of ``Fid``.
        weights: As of ``Fid``.
        device: As of ``Fid``.

    Raises:
        FileNotFoundError: See ``Fid``.
        TypeError: If an array is not uint8.
        ValueError: See ``Fid``; if there is nothing to compare with, or fewer than two faces on a side.
    """
    fid = Fid(statistics=statistics, weights=weights, device=device)
    if (statistics is None) == (references is None):
        raise ValueError("FID needs either the ground truth or a file of statistics")
    for batch in _batches(images):
        fid.add_restored(batch)
    for batch in [] if references is None else _batches(references):
        fid.add_real(batch)
    return fid.value()


def _load_network(weights: str | os.PathLike | None) -> nn.Module:
    from facesr_plugin.metrics.inception import load_inception  # torchvision takes as long to import as torch

    return load_inception(weights)


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
