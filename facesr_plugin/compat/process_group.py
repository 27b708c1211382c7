"""Repairs of BasicSR's process groups: machines without a GPU, Slurm, timeouts, and which rank failed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any

from facesr_plugin.compat.patch import Patch, names_in, rebind
from facesr_plugin.utils.option_file import find_unknown_keys, load_option_file

_TIMEOUT_S = 1800
_PARAMS = ("backend", "port", "timeout_s")
_LARGEST_PORT = 65535
_LINGER_S = 5  # longer than torchrun takes to notice the rank that failed first


def _dist_util() -> Any:
    import basicsr.utils.dist_util as dist_util

    return dist_util


def find_dist_problems(params: dict[str, Any]) -> Iterator[str]:
    """Say what is wrong with the section ``dist_params`` of an option file."""
    yield from find_unknown_keys(params, _PARAMS, "dist_params")
    backend, port = params.get("backend"), params.get("port")
    if not isinstance(backend, str | None):
        yield f"dist_params.backend must be a name such as nccl or gloo, got {backend!r}"
    if port is not None and (type(port) is not int or not 0 < port <= _LARGEST_PORT):
        yield f"dist_params.port must be a whole number from 1 to {_LARGEST_PORT}, got {port!r}"
    yield from _find_wrong_timeout(params.get("timeout_s", _TIMEOUT_S))


def _find_wrong_timeout(timeout_s: Any) -> Iterator[str]:
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < float("inf"):
        yield f"dist_params.timeout_s must be a number of seconds above 0, got {timeout_s!r}"


def start_group(local_rank: int, backend: str = "nccl", timeout_s: float = _TIMEOUT_S) -> None:
    """Start the process group of this run: on the GPU of that number, or on the CPU where there is none.

    Args:
        local_rank: Number of this process on its machine.
        backend: ``nccl`` becomes ``gloo`` without GPUs.
        timeout_s: How long a rank waits for another one.

    Raises:
        ValueError: If there is no such GPU, or ``timeout_s`` is no positive number.
    """
    import torch
    import torch.distributed as dist

    for problem in _find_wrong_timeout(timeout_s):
        raise ValueError(problem)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and local_rank >= gpus:
        raise ValueError(
            f"a machine must have a GPU for each of its processes, got process {local_rank + 1} and {gpus} GPUs. "
            "Start fewer processes, or hide the GPUs to train on the CPU: CUDA_VISIBLE_DEVICES="
        )
    if gpus:
        torch.cuda.set_device(local_rank)
    elif backend == "nccl":
        backend = "gloo"
    timeout = timedelta(seconds=timeout_s)
    dist.init_process_group(backend=backend, timeout=timeout, **_meeting_place(timeout))


def _meeting_place(timeout: timedelta) -> dict[str, Any]:
    """Where ranks meet that torchrun has started again: apart from what the attempt before has left in its store.

    torch 2.1 keeps attempts apart itself, by their number; later ones do not. Machines may count differently, so this
    is for one machine alone; for several see "Distributed runs" in docs/training.md.
    """
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("LOCAL_WORLD_SIZE") != os.environ.get("WORLD_SIZE"):
        return {}
    store, rank, count = next(rendezvous("env://", timeout=timeout))
    return {"store": PrefixStore(f"attempt{attempt}", store), "rank": rank, "world_size": count}


def _given_params() -> dict[str, Any]:
    """What ``dist_params`` of the option file in the command says: BasicSR passes it on with Slurm alone."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-opt")
    path = parser.parse_known_args(sys.argv[1:])[0].opt
    try:
        given = load_option_file(path).get("dist_params") if path else None
    except (OSError, ValueError):  # BasicSR reads it next, and says what it thinks of it
        return {}
    known = ("backend", "timeout_s")  # the port is torchrun's
    return {name: given[name] for name in known if name in given} if isinstance(given, dict) else {}


def _repair_dist() -> None:
    def init_dist_pytorch(backend: str, **settings: Any) -> None:
        """Start the process group of torchrun."""
        start_group(int(os.environ.get("LOCAL_RANK", "0")), **{"backend": backend, **_given_params(), **settings})

    rebind(_dist_util()._init_dist_pytorch, init_dist_pytorch)


DIST_WITHOUT_GPU = Patch(
    name="dist-without-gpu",
    reason="_init_dist_pytorch divides by the number of GPUs, demands nccl and takes rank % GPUs for the device",
    needed=lambda: "device_count" in names_in(_dist_util()._init_dist_pytorch),
    apply=_repair_dist,
)


def _repair_slurm() -> None:
    def init_dist_slurm(backend: str, port: int | None = None, **settings: Any) -> None:
        """Start the process group of a job step; torch reads its place from the environment."""
        import torch

        slurm, rank = os.environ, os.environ["SLURM_PROCID"]
        local = int(slurm.get("SLURM_LOCALID", rank)) % (torch.cuda.device_count() or 1)
        os.environ |= {
            "RANK": rank,
            "WORLD_SIZE": slurm["SLURM_NTASKS"],
            "LOCAL_RANK": str(local),
            "MASTER_ADDR": slurm.get("MASTER_ADDR") or _first_host(slurm["SLURM_NODELIST"]),
            "MASTER_PORT": str(port or slurm.get("MASTER_PORT", "29500")),
        }
        start_group(local, backend, **settings)

    rebind(_dist_util()._init_dist_slurm, init_dist_slurm)


def _first_host(nodes: str) -> str:
    """Return the first of Slurm's hosts (``gpu[3-5]``).

    Raises:
        ValueError: If Slurm's program does not say it.
    """
    try:
        done = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return done.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise ValueError(
            f"`scontrol show hostnames {nodes}` must name the hosts of the job, got {error}. Set MASTER_ADDR to the "
            "name of the first one."
        ) from error


SLURM_WITHOUT_GPU = Patch(
    name="slurm-without-gpu",
    reason="_init_dist_slurm divides by the number of GPUs, and takes the global rank for the place on a machine",
    needed=lambda: "device_count" in names_in(_dist_util()._init_dist_slurm),
    apply=_repair_slurm,
)


@contextmanager
def told_to_launcher() -> Iterator[None]:
    """Let torchrun's last words name the rank that failed first, and why."""
    try:
        yield
    except Exception as error:
        if "LOCAL_RANK" in os.environ:
            _tell(error)
        raise


def _tell(error: BaseException) -> None:
    """Write an error for torchrun; one that follows from another rank's end waits until that one is noticed.

    Call it while the error is handled.
    """
    import torch.distributed as dist
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    if isinstance(error, getattr(dist, "DistError", ())) or "gloo" in str(error):
        rank = os.environ.get("RANK")
        sys.stderr.write(f"rank {rank} has lost another rank, whose own message (or torchrun's) has the cause\n")
        time.sleep(_LINGER_S)
    elif "TORCHELASTIC_ERROR_FILE" in os.environ:
        get_error_handler().record_exception(error)


def _repair_errors() -> None:
    original = _dist_util().init_dist

    def init_dist(*args: Any, **settings: Any) -> None:
        original(*args, **settings)
        show = sys.excepthook

        def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            show(kind, error, trace)
            if isinstance(error, Exception):
                try:
                    raise error
                except Exception:  # torch's writer reads the error that is being handled
                    _tell(error)

        sys.excepthook = tell

    rebind(original, init_dist)


RANK_ERRORS = Patch(
    name="rank-errors",
    reason="when a rank fails, torchrun's last words do not say why, and may blame a rank that lost the failed one",
    needed=lambda: "excepthook" not in names_in(_dist_util().init_dist),
    apply=_repair_errors,
)
