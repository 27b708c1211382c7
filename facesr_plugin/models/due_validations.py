"""The validations that belong to a saved iteration: a run that died before or in them makes them when it continues.

BasicSR's loop saves first and then validates, so that a state could lack the metrics of its own iteration, the best one
among them, for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from basicsr.data import build_dataloader, build_dataset


def count_due(opt: Mapping[str, Any], iteration: int) -> int:
    """Return how many data sets BasicSR's loop validates after an iteration."""
    freq = (opt.get("val") or {}).get("val_freq")
    return len(_sections(opt)) if freq and iteration > 0 and iteration % freq == 0 else 0


def build_due_loaders(opt: Mapping[str, Any], number: int) -> Iterator[Any]:
    """Build the loaders of the last data sets of a training's validation, as BasicSR does.

    Args:
        opt: BasicSR's options of the training.
        number: How many; none if it validates no more.
    """
    sections = _sections(opt) if opt.get("val") else []
    for section in sections[max(0, len(sections) - number) :]:
        settings = {"num_gpu": opt["num_gpu"], "dist": opt["dist"], "sampler": None, "seed": opt["manual_seed"]}
        yield build_dataloader(build_dataset(section), section, **settings)


def _sections(opt: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [section for phase, section in (opt.get("datasets") or {}).items() if phase.split("_")[0] == "val"]
