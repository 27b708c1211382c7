"""Measure how many images per second two processes train on, against one.

    python scripts/benchmark/scaling.py                                  CPU: gloo, one thread for each process
    python scripts/benchmark/scaling.py --device cuda --processes 8      GPU: nccl, one GPU for each process

Every process has a batch of its own. The one process and the group take turns, iteration by iteration, so that other
work on the machine disturbs both alike; a ratio is the median over the rounds, with its least and greatest. Seconds are
of the clock: a group is as slow as its slowest process.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
from collections.abc import Mapping
from typing import Any

from systems import SYSTEMS
from turns import Trainer

WARM_UP = 2


def main() -> int:
    """Print a table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", choices=list(SYSTEMS), action="append", help="only these (default: SPARNet)")
    parser.add_argument("--processes", type=int, default=2, help="of the group (default: 2)")
    parser.add_argument("--rounds", type=int, default=6, help=f"iterations of each after {WARM_UP} (default: 6)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", type=int, help="side of the faces (default: 128; SPARNetHD 144)")
    parser.add_argument("--batch", type=int, help="faces of each process (default: 1; SPARNet and Progressive 2)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="option of all processes")
    args = parser.parse_args()
    print(f"| system | images per s, 1 process | {args.processes} processes | ratio |", flush=True)
    print("|---|---|---|---|")
    for system in args.system or ["SPARNet"]:
        print(measure(system, args), flush=True)
    return 0


def measure(system: str, args: argparse.Namespace) -> str:
    """Return the row of a system."""
    batch = args.batch or SYSTEMS[system].batch
    job = {"system": system, "device": args.device, "size": args.size, "batch": batch, "more": args.set}
    groups = [start_group({**job, "changes": {}}, number) for number in (1, args.processes)]
    rates: list[list[float]] = [[], []]
    for round_ in range(WARM_UP + args.rounds):
        for group, found in zip(groups, rates, strict=True):
            for trainer in group:
                trainer.begin()
            slowest = max(trainer.end().wall for trainer in group)
            if round_ >= WARM_UP:
                found.append(len(group) * batch / slowest)
    for trainer in (*groups[0], *groups[1]):
        trainer.finish()
    ratios = sorted(many / one for one, many in zip(*rates, strict=True))
    one, many = map(statistics.median, rates)
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"| {system} | {one:.3g} | {many:.3g} | {spread} |"


def start_group(job: Mapping[str, Any], number: int) -> list[Trainer]:
    """Start the processes of one run: a lone one without process group."""
    if number == 1:
        return [Trainer(job)]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(number)}
    return [Trainer(job, {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(number)]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
