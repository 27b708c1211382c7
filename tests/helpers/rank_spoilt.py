"""Iterations that one rank spoils; for ``helpers.ranks``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from helpers.rank_runs import SHARE, build, make_batch
from helpers.runs import same
from helpers.tiny_systems import state

SYSTEM = "sparnethd"


def rank_spoilt(rank: int, count: int, folder: Path) -> dict[str, Any]:
    """Run three iterations, in the second of which the last rank's faces are no numbers, and two without it."""
    spoilt = _run(rank, count, folder / "spoilt", (1, 2, 3))
    sound = _run(rank, count, folder / "sound", (1, 3))
    return {
        "skipped": spoilt.skipped_steps,
        "in_a_row": spoilt.guard.in_a_row,
        "as if it were not": same(state(spoilt), state(sound)),
    }


def _run(rank: int, count: int, folder: Path, iterations: tuple[int, ...]) -> Any:
    model = build(SYSTEM, folder, rank, count)
    part = slice(rank * SHARE, (rank + 1) * SHARE)
    for iteration in iterations:
        batch = {name: values[part] for name, values in make_batch(SYSTEM, iteration, count * SHARE).items()}
        if iteration == 2 and rank == count - 1:
            batch["gt"] = torch.full_like(batch["gt"], torch.nan)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    return model
