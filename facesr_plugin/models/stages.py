"""The stages of a progressive training: the scale of an iteration, how far its part is faded in, and what counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from facesr_plugin.utils.option_file import nearest
from facesr_plugin.utils.options import parse_section

SCALES = (2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One entry of ``train.stages``.

    Args:
        scale: From the small input to the face of this stage: 2, 4 or 8.
        iters: Iterations.
        fade_iters: How many of them, from the first one on, blend the scale's own part of the networks in; there is
            nothing to blend at scale 2.
        weights: Factor of each loss, by the name of its section without ``_opt``; a loss that is not named, or by 0, is
            not computed.

    Raises:
        ValueError: If a value is not allowed.
    """

    scale: int
    iters: int
    weights: dict
    fade_iters: int = 0

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(map(str, SCALES))}, got {self.scale}")
        if self.iters < 1:
            raise ValueError(f"iters must be 1 or more, got {self.iters}")
        if not 0 <= self.fade_iters <= self.iters:
            raise ValueError(f"fade_iters must be from 0 to iters ({self.iters}), got {self.fade_iters}")
        for name, weight in self.weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise ValueError(f"weights.{name} must be a number of 0 or more, got {weight!r}")
        if not any(self.weights.values()):
            raise ValueError(f"weights must name at least one loss with a weight above 0, got {self.weights}")

    @property
    def step(self) -> int:
        """The networks' name for the scale: 1, 2 or 3."""
        return SCALES.index(self.scale) + 1


class Place(NamedTuple):
    """Where in a schedule an iteration is: its stage, and ``alpha``, the share of the newest part of the networks."""

    stage: Stage
    alpha: float


class Schedule:
    """Stages one after the other; a place in it follows from the number of the iteration alone.

    Args:
        stages: In order.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)

    def at(self, iteration: int) -> Place:
        """Return the place of an iteration, counted from 1 as BasicSR does; the last place for later ones."""
        done = iteration - 1
        for stage in self.stages:
            if done < stage.iters:
                break
            done -= stage.iters
        else:
            done = stage.iters - 1
        return Place(stage, min(1.0, done / stage.fade_iters) if stage.fade_iters else 1.0)


def read_schedule(options: Mapping[str, Any]) -> Schedule:
    """Check ``train.stages`` against the rest of an option file.

    Args:
        options: Whole option file of a training.

    Returns:
        The schedule; its stages name only losses that count.

    Raises:
        OptionTypeError: If a value has the wrong type.
        ValueError: If a stage is wrong, or the stages do not fit each other, ``total_iter``, ``scale`` or the losses.
    """
    train = options["train"]
    sections = train.get("stages")
    if not isinstance(sections, list) or not sections:
        raise ValueError(f"train.stages must be a list of at least one stage, got {sections!r}")
    stages = [_parse_stage(section, f"train.stages[{i}]") for i, section in enumerate(sections)]
    _check_scales([stage.scale for stage in stages], options.get("scale"))
    _check_total([stage.iters for stage in stages], train.get("total_iter"))
    _check_losses(stages, train)
    used = [{name: weight for name, weight in stage.weights.items() if weight} for stage in stages]
    return Schedule([replace(stage, weights=weights) for stage, weights in zip(stages, used, strict=True)])


def _parse_stage(section: Any, where: str) -> Stage:
    if not isinstance(section, Mapping):
        raise ValueError(f"{where} must be a section of keys, got {section!r}")
    try:
        return parse_section(Stage, section, where)
    except ValueError as error:
        if str(error).startswith(where):
            raise
        raise ValueError(f"{where}: {error}") from error


def _check_scales(scales: Sequence[int], largest: Any) -> None:
    for i, (before, scale) in enumerate(pairwise(scales), start=1):
        if scale not in (before, 2 * before):
            raise ValueError(f"train.stages[{i}].scale must be {before} or {2 * before}, got {scale}")
    if isinstance(largest, int) and scales[-1] > largest:
        raise ValueError(
            f"train.stages[{len(scales) - 1}].scale must be at most the file's scale ({largest}), got {scales[-1]}"
        )


def _check_total(iters: Sequence[int], total: Any) -> None:
    if total != sum(iters):
        raise ValueError(
            f"train.total_iter must be the sum of the stages' iters, {' + '.join(map(str, iters))} = {sum(iters)}, "
            f"got {total}"
        )


def _check_losses(stages: Sequence[Stage], train: Mapping[str, Any]) -> None:
    known = [str(key).removesuffix("_opt") for key, section in train.items() if str(key).endswith("_opt") and section]
    for i, name in _names(stages):
        if name not in known:
            raise ValueError(
                f"train.stages[{i}].weights has no loss {name!r}{nearest(str(name), known)}. Known: "
                f"{', '.join(known)}, the sections of train whose name ends with _opt"
            )
    idle = sorted(set(known) - {name for _, name in _names(stages)})
    if idle:
        raise ValueError(
            f"train.{idle[0]}_opt must be in the weights of a stage, got it in none. Remove the section or name it."
        )


def _names(stages: Sequence[Stage]) -> Iterator[tuple[int, str]]:
    """Number of the stage and name, of every loss that counts."""
    for i, stage in enumerate(stages):
        yield from ((i, name) for name, weight in stage.weights.items() if weight)
