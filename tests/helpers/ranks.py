"""A function on several ranks at once: processes of the fork server with one gloo group, without torchrun."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from helpers.forkserver import SERVER

LIMIT_S = 300  # on a machine that has other work


def run_ranks(count: int, folder: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``function(rank, count, *arguments)`` on every rank; return what each one did, in their order.

    Args:
        count: Number of ranks.
        folder: Empty one, for what they exchange.
        function: Of an importable module; its result is made of tensors and plain values.
        arguments: That can be pickled.

    Raises:
        AssertionError: If a rank fails, or takes longer than five minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ranks = [SERVER.Process(target=_run, args=(rank, count, folder, function, arguments)) for rank in range(count)]
    for process in ranks:
        process.start()
    deadline = time.monotonic() + LIMIT_S
    for process in ranks:
        process.join(max(0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    assert [process.exitcode for process in ranks] == [0] * count
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _run(rank: int, count: int, folder: Path, function: Callable[..., Any], arguments: tuple) -> None:
    store = dist.FileStore(str(folder / "store"), count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=timedelta(seconds=LIMIT_S))
    torch.save(function(rank, count, *arguments), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
