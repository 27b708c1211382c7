"""Make ``lq`` on the training device: the counterpart of ``FaceDegradationDataset`` with ``degrade_on: device``.

The loader's workers then only read the faces. The random values are drawn again from the sample's seed, so the result
is the worker's, up to the rounding that ``ops/degradation_batch.py`` names and what a JPEG makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from facesr_plugin.data.degradation import parse_degradations
from facesr_plugin.data.face_degradation_dataset import FaceDegradationOptions, draw_sample
from facesr_plugin.ops.degradation_batch import degrade_batch
from facesr_plugin.utils.options import parse_section


class DeviceDegrader:
    """Degrade batches of faces.

    Args:
        section: The data set's section of the option file.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option is unknown or wrong.
    """

    def __init__(self, section: Mapping[str, Any]) -> None:
        options = parse_section(FaceDegradationOptions, section, "datasets.train")
        self._grey_prob = options.grey_prob
        self._degradations = parse_degradations(options.degradations, "datasets.train.degradations")

    @torch.no_grad()
    def __call__(self, gt: Tensor, seeds: Tensor) -> Tensor:
        """Return ``lq``.

        Args:
            gt: ``(N, 3, H, W)`` float RGB in [0, 1], bytes / 255, grey where the data set made it so.
            seeds: ``(N, 3)`` int64, the samples' ``degradation_seed``.

        Returns:
            ``(N, 3, H, W)`` float32 RGB in [0, 1], bytes / 255, on the device of ``gt``.
        """
        plans = [draw_sample(seed, self._grey_prob, self._degradations).operations for seed in seeds.tolist()]
        return degrade_batch((gt * 255).round(), plans) / 255
