"""Processes that train a system of ``systems.py``, one iteration whenever they are told to: they can take turns.

    python scripts/benchmark/turns.py '{"system": "SPARNet", "device": "cpu", "changes": {}}'

reads lines from its standard input. Each is answered by the seconds of an iteration, and the end by the peak memory.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

MIB = 2**20


class Seconds(NamedTuple):
    """What an iteration took: of the clock, and of the processor, which other programs disturb less."""

    wall: float
    cpu: float


class Trainer:
    """One such process; on a CPU it computes with one thread.

    Args:
        job: Keywords of ``serve``.
        rank: Variables of the environment that name its rank; empty outside a distributed run.
    """

    def __init__(self, job: Mapping[str, Any], rank: Mapping[str, str] | None = None) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(rank or {})}
        command = [sys.executable, __file__, json.dumps(dict(job))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment, **pipes)

    def begin(self) -> None:
        """Start an iteration."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> Seconds:
        """Wait for the iteration."""
        return Seconds(**self._read())

    def finish(self) -> float:
        """End the process; return the MiB that it took at most."""
        self._process.stdin.close()
        peak = self._read()["peak"]
        self._process.wait()
        return peak

    def _read(self) -> dict[str, float]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark ended with {self._process.wait()}")
        return json.loads(line)


def serve(
    system: str,
    device: str,
    changes: Mapping[str, Any],
    size: int | None = None,
    batch: int | None = None,
    more: tuple[str, ...] = (),
) -> None:
    """Run one iteration for each line of the input.

    Args:
        system: Key of ``SYSTEMS``.
        device: ``cpu`` or ``cuda``.
        changes: Options over the shipped ones.
        size: Side of the faces in pixels; by default that of the system.
        batch: Faces of an iteration; by default those of the system.
        more: ``key=value`` of the option file.
    """
    import torch
    from systems import SYSTEMS, build, make_batch, make_options

    known = SYSTEMS[system]
    with tempfile.TemporaryDirectory() as folder:
        options = join_ranks(make_options(system, Path(folder), device, changes, more), device)
        model = build(options)
        data = make_batch(options, size or known.size, batch or known.batch)
        for iteration, _ in enumerate(sys.stdin, known.first):
            start = Seconds(time.perf_counter(), time.process_time())
            model.feed_data(data)
            model.optimize_parameters(iteration)
            if device == "cuda":
                torch.cuda.synchronize()
            answer({"wall": time.perf_counter() - start.wall, "cpu": time.process_time() - start.cpu})
    on_cuda = device == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answer({"peak": peak / MIB})


def join_ranks(options: dict[str, Any], device: str) -> dict[str, Any]:
    """Join the process group of the environment, if there is one; return options that say so."""
    if "WORLD_SIZE" not in os.environ:
        return options
    import torch
    import torch.distributed as dist

    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return {**options, "dist": True, "rank": dist.get_rank(), "world_size": dist.get_world_size()}


def answer(content: Mapping[str, float]) -> None:
    """Write a line for the ``Trainer``."""
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
