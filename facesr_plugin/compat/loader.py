"""Repairs of BasicSR's data loading: the sampler's position, and what a worker process starts with."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

from facesr_plugin.compat.patch import Patch, after_options, names_in, rebind
from facesr_plugin.utils.resume import POSITION, SampleIndex


def _sampler() -> Any:
    from basicsr.data.data_sampler import EnlargedSampler

    return EnlargedSampler


def _repair_sampler() -> None:
    sampler, draw, announce = _sampler(), _sampler().__iter__, _sampler().set_epoch

    def draw_epoch(self: Any, epoch: int) -> Iterator[SampleIndex]:
        drawn = copy.copy(self)  # a prefetching thread must not change the epoch that the training sets meanwhile
        drawn.epoch = epoch
        for turn, index in enumerate(draw(drawn)):
            yield SampleIndex.make(index, epoch, turn * self.num_replicas + self.rank)

    def iterate(self: Any) -> Iterator[SampleIndex]:
        """Yield indices that know their epoch and position, from where the resumed run stopped."""
        goes_on = self.epoch >= getattr(self, "last_epoch", math.inf)
        epochs = itertools.count(self.epoch) if goes_on else (self.epoch,)
        indices = itertools.chain.from_iterable(draw_epoch(self, epoch) for epoch in epochs)
        return itertools.islice(indices, POSITION.to_skip(self.epoch), None)

    def set_epoch(self: Any, epoch: int) -> None:
        announce(self, epoch)
        POSITION.start(epoch)

    sampler.__iter__, sampler.set_epoch = iterate, set_epoch
    after_options(_pass_on_seed)


def _pass_on_seed(opt: dict[str, Any]) -> None:
    for dataset in opt["datasets"].values():
        if isinstance(dataset, dict):
            dataset.setdefault("manual_seed", opt["manual_seed"])


SAMPLER_POSITION = Patch(
    name="sampler-position",
    reason="a resumed run starts its epoch anew, and a data set cannot tell which epoch it is in",
    needed=lambda: "POSITION" not in names_in(_sampler().__iter__),
    apply=_repair_sampler,
)


def init_worker(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Prepare a loader worker: its own seed in every epoch, one thread.

    Args:
        worker_id: Number of the worker; unused, torch's seed already depends on it.
        num_workers: Unused.
        rank: Of the process, mixed into the seed: torch draws the same base seed on every rank.
        seed: The run's seed; unused, torch's seed already depends on it.
    """
    import cv2
    import numpy as np
    import torch

    mixed = (torch.initial_seed() + 1_000_003 * rank) % 2**32
    np.random.seed(mixed)
    random.seed(mixed)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _repair_worker_init() -> None:
    import basicsr.data

    rebind(basicsr.data.worker_init_fn, init_worker)


def _fixed_worker_seed() -> bool:
    import basicsr.data

    return "initial_seed" not in names_in(basicsr.data.worker_init_fn)


WORKER_INIT = Patch(
    name="worker-init",
    reason="workers repeat the same random draws in every epoch, and each starts one OpenCV thread per core",
    needed=_fixed_worker_seed,
    apply=_repair_worker_init,
)
