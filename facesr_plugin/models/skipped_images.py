"""How many broken images a training's data set replaced (its option ``on_broken: skip``), and when that is too many.

A batch of such a data set has ``skipped``, (N) int, how many broken images each sample passed over, and ``broken``, N
texts, what the first of them lack.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

logger = logging.getLogger("basicsr.facesr")

_NAMED = 10  # broken images that the log names
_LEAST_READ = 100  # images before their share is judged


class SkippedImages:
    """A count over the whole run and all ranks.

    Args:
        opt: BasicSR's options of a training.
        device: On which ranks exchange tensors.

    Attributes:
        total: Broken images that were skipped until ``gather`` was called last.
    """

    def __init__(self, opt: dict[str, Any], device: torch.device) -> None:
        train = (opt.get("datasets") or {}).get("train") or {}
        self._wanted = train.get("on_broken") == "skip"
        self._dist, self._device = opt["dist"], device
        self._named: set[str] = set()
        self._skipped: Tensor | int = 0
        self._samples = 0
        self._before = (0, 0)
        self.total = 0
        self.samples = 0

    def take(self, batch: Mapping[str, Any]) -> None:
        """Count what a batch skipped, without waiting for a device, and name broken images that are new."""
        if "skipped" not in batch:
            return
        self._skipped = self._skipped + batch["skipped"].sum()
        self._samples += len(batch["skipped"])
        self._name(text for texts in batch["broken"] for text in texts.splitlines())

    def _name(self, broken: Iterable[str]) -> None:
        for text in broken:
            if text in self._named or len(self._named) > _NAMED:
                continue
            self._named.add(text)
            more = "Further ones are only counted: " if len(self._named) > _NAMED else ""
            logger.warning("%sbroken image, the next one takes its place: %s", more, text)

    def gather(self) -> None:
        """Bring ``total`` up to date; all ranks call it.

        Raises:
            ValueError: If more than half of what was read is broken.
        """
        if not self._wanted:
            return
        counts = torch.tensor([int(self._skipped), self._samples], device=self._device if self._dist else "cpu")
        if self._dist:
            dist.all_reduce(counts)
        self.total, self.samples = (now + before for now, before in zip(counts.tolist(), self._before, strict=True))
        read = self.total + self.samples
        if read >= _LEAST_READ and self.total > read / 2:
            raise ValueError(
                f"at most half of the images may be broken with on_broken: skip, got {self.total:,} of {read:,} that "
                "were read. Mend the data; --auto_resume goes on from the last save."
            )

    def state(self) -> dict[str, int]:
        """What a training state keeps."""
        return {"skipped": self.total, "samples": self.samples}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Count on from what ``state`` gave."""
        self._before = state["skipped"], state["samples"]
        self._skipped, self._samples = 0, 0
        self.total, self.samples = self._before
