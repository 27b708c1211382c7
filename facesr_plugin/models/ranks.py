"""A validation by all ranks of a distributed run: the same weights, each batch on one of them, what they found on one.

Source: BasicSR validates on rank 0 alone while the others wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader


class Ranks:
    """The ranks of a run, one alone or several.

    Args:
        rank: Of this process, from 0.
        count: Of all processes.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        self._group: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this rank measures, writes and logs for all."""
        return self.rank == 0

    def share(self, dataloader: DataLoader) -> Iterable[Mapping[str, Any]]:
        """Return this rank's batches: every ``count``-th, so that all ranks together have those that one alone has.

        Args:
            dataloader: Of all faces, in order. BasicSR always gives batches of one face: ``batch_size_per_gpu`` of the
                data set's section counts, if it is there.
        """
        dataset = dataloader.dataset
        size = dataset.opt.get("batch_size_per_gpu")
        if self.count == 1 and size is None:
            return dataloader
        size = size or dataloader.batch_size
        starts = range(self.rank * size, len(dataset), self.count * size)
        batches = [range(start, min(start + size, len(dataset))) for start in starts]
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=dataloader.num_workers,
            collate_fn=dataloader.collate_fn,
            pin_memory=dataloader.pin_memory,
        )

    def number(self, batch: int) -> int:
        """Return the number that this rank's batch has among those of all ranks."""
        return self.rank + batch * self.count

    def equalise(self, network: nn.Module) -> None:
        """Give every rank the buffers of rank 0: BatchNorm's statistics are each rank's own between two iterations."""
        if self.count > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)

    def gather(self, found: Any) -> list[Any]:
        """Return on rank 0 what each rank found, in their order; on the others nothing. Plain values and arrays."""
        if self.count == 1:
            return [found]
        if self._group is None:
            self._group = dist.new_group(backend="gloo")  # on the CPU: a GPU need not hold the arrays of all ranks
        gathered = [None] * self.count if self.leads else None
        dist.gather_object(found, gathered, dst=0, group=self._group)
        return gathered or []
