"""Measure iterations per second and peak memory of every system's training, as published and with other options.

    python scripts/benchmark/training.py                         CPU: one thread, seconds of the processor
    python scripts/benchmark/training.py --device cuda           GPU: seconds of the clock, memory of torch's allocator

Networks, losses and optimisers are those of the shipped option files; weights and faces are random, batches small
(``--batch``). The settings of a system run in processes of their own that take turns, iteration by iteration, so that
other work on the machine disturbs all alike. A ratio is the median over the rounds, with its least and greatest.

    plain   the shipped option file
    fast    options for speed with nearly the same numbers (FAST)
    half    the same with amp: bf16
    lean    options for memory (LEAN)

With ``--setting`` also one option alone (ALONE): ``--system SPARNet --setting bf16 --setting compile``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from systems import SYSTEMS
from turns import Trainer

WARM_UP = 2
FUSED = {"fused": True}
FAST = {
    "cpu": {"channels_last": True, "optim_g": FUSED, "optim_d": FUSED},
    "cuda": {"channels_last": True, "optim_g": FUSED, "optim_d": FUSED, "tf32": True},
}
CHECKPOINTING = {"network_g": {"checkpointing": True}}
LEAN = {  # the progressive critic needs the whole batch, and batch norm has no checkpointing
    "SPARNet": {"train": {"accumulate": 2}},
    "SPARNetHD": CHECKPOINTING,
    "DIC": CHECKPOINTING,
    "DICGAN": CHECKPOINTING,
    "JASRNet": CHECKPOINTING,
}
ALONE = {  # compile: the first iteration takes minutes
    "channels_last": {"train": {"channels_last": True}},
    "fused": {"train": {"optim_g": FUSED, "optim_d": FUSED}},
    "foreach": {"train": {"optim_g": {"foreach": True}, "optim_d": {"foreach": True}}},
    "bf16": {"train": {"amp": "bf16"}},
    "fp16": {"train": {"amp": "fp16"}},
    "tf32": {"train": {"tf32": True}},
    "accumulate": {"train": {"accumulate": 2}},
    "clip": {"train": {"clip_grad_norm": 1}},
    "checkpointing": CHECKPOINTING,
    "compile": {"train": {"compile": True}},
}
BY_DEFAULT = ("fast", "half", "lean")


def main() -> int:
    """Print a table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", choices=list(SYSTEMS), action="append", help="only these (default: all)")
    parser.add_argument(
        "--setting", choices=[*BY_DEFAULT, *ALONE], action="append", help="beside plain (default: fast, half, lean)"
    )
    parser.add_argument("--rounds", type=int, default=4, help=f"iterations of each after {WARM_UP} (default: 4)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", type=int, help="side of the faces (default: 128; SPARNetHD 144)")
    parser.add_argument("--batch", type=int, help="faces of an iteration (default: 1; SPARNet and Progressive 2)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="option of all settings")
    args = parser.parse_args()
    print("| system | setting | iterations per s | times as fast | peak, MiB | of plain |", flush=True)
    print("|---|---|---|---|---|---|")
    for system in args.system or SYSTEMS:
        for row in measure(system, args):
            print(row, flush=True)
    return 0


def measure(system: str, args: argparse.Namespace) -> list[str]:
    """Return the rows of a system."""
    job = {"system": system, "device": args.device, "size": args.size, "batch": args.batch, "more": args.set}
    changes = changes_of(system, args.device, args.setting or BY_DEFAULT)
    trainers = {name: Trainer({**job, "changes": change}) for name, change in changes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in changes}
    for round_ in range(WARM_UP + args.rounds):
        for name, trainer in trainers.items():
            trainer.begin()
            taken = trainer.end()
            if round_ >= WARM_UP:
                seconds[name].append(taken.wall if args.device == "cuda" else taken.cpu)
    peaks = {name: trainer.finish() for name, trainer in trainers.items()}
    return [format_row(system, name, seconds, peaks) for name in changes]


def changes_of(system: str, device: str, wanted: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Options of each setting that the system has, by name; ``plain`` first."""
    known = {"fast": {"train": FAST[device]}, "half": {"train": {**FAST[device], "amp": "bf16"}}, **ALONE}
    known |= {"lean": LEAN[system]} if system in LEAN else {}
    has_critic = "GAN" in system or system in ("SPARNetHD", "Progressive")
    made: dict[str, Mapping[str, Any]] = {"plain": {}}
    for name in wanted:
        if name in known:
            sections = {key: dict(value) for key, value in known[name].items()}
            if not has_critic and "train" in sections:
                sections["train"].pop("optim_d", None)
            made[name] = sections
    return made


def format_row(system: str, name: str, seconds: Mapping[str, Sequence[float]], peaks: Mapping[str, float]) -> str:
    """Return a row of the table."""
    rate = 1 / statistics.median(seconds[name])
    ratios = sorted(plain / own for plain, own in zip(seconds["plain"], seconds[name], strict=True))
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if name != "plain" else ""
    share = f"{100 * peaks[name] / peaks['plain']:.0f} %" if name != "plain" else ""
    return f"| {system} | {name} | {rate:.3g} | {spread} | {peaks[name]:.0f} | {share} |"


if __name__ == "__main__":
    sys.exit(main())
