"""Everything in the options of a training that no model could work with, found without data and weights.

A model's constructor stops at the first of these; the check before a run has all in one list. Networks, losses,
schedulers and steps say themselves what they refuse: they are built, networks without memory for their weights.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from basicsr.models import lr_scheduler
from basicsr.utils.registry import LOSS_REGISTRY as ALL_LOSSES
from torch import nn
from torch.overrides import TorchFunctionMode

from facesr_plugin.cards import LARGEST_SIZE, SystemCard
from facesr_plugin.models.building import find_network_problems, find_train_problems
from facesr_plugin.models.distributed import find_sync_problems
from facesr_plugin.models.gradient_steps import find_step_problems
from facesr_plugin.models.old_checkpoints import find_keep_problems
from facesr_plugin.models.speed import find_speed_problems
from facesr_plugin.registry import ARCH_REGISTRY, LOSS_REGISTRY
from facesr_plugin.utils.text import plain_line

# of options that a model's constructor checks too
RUN_FINDERS = (find_sync_problems, find_step_problems, find_speed_problems, find_keep_problems)
_SCHEDULERS = {
    "MultiStepLR": lr_scheduler.MultiStepRestartLR,
    "MultiStepRestartLR": lr_scheduler.MultiStepRestartLR,
    "CosineAnnealingRestartLR": lr_scheduler.CosineAnnealingRestartLR,
}
_LEAST = {  # of numbers of iterations
    "train.total_iter": 1,
    "train.warmup_iter": -1,
    "logger.print_freq": 1,
    "logger.save_checkpoint_freq": 1,
    "val.val_freq": 1,
}
_REMEDIES = {
    "train.warmup_iter": ". -1 is for no warm-up",
    "val.val_freq": ". To train without validation remove the section val and its data sets",
}
_MOST_CALLS = 200_000  # of functions on tensors; the largest network that ships takes 5,000
_FILLS = {"normal_", "uniform_", "normalize"}
_READS_FILES = {"weights", "vgg_type"}  # parameters of losses that read a network, which takes its time


def find_model_problems(options: Mapping[str, Any], model: Any) -> list[str]:
    """Say what cannot work in the option file of a training.

    Args:
        options: Of the file; its sections are sections.
        model: Class of the model.

    Returns:
        One text per problem.
    """
    train = options["train"]
    finders: tuple[Callable[[], Iterable[str]], ...] = (
        lambda: find_network_problems(options),
        lambda: find_train_problems(train, model.train_keys, model.own_losses),
        lambda: _find_argument_problems(options),
        lambda: _find_loss_problems(train),
        lambda: _find_scheduler_problems(train),
        *(partial(find, options) for find in RUN_FINDERS),
        lambda: _find_count_problems(options),
        lambda: model.find_problems(options),
    )
    return gather(finders)


def gather(finders: Iterable[Callable[[], Iterable[str]]]) -> list[str]:
    """Return what several finders find, without repetition.

    One may stumble over what another one finds; if none finds anything, its error is the problem.
    """
    problems: dict[str, None] = {}
    stumbled: list[Exception] = []
    for find in finders:
        try:
            for problem in find():
                problems[problem] = None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            stumbled.append(error)
    if stumbled and not problems:
        return [f"options must be of the right kinds, got {type(stumbled[0]).__name__}: {_words(stumbled[0])}"]
    return list(problems)


# Networks


class _Unfilled(TorchFunctionMode):
    """Leaves out what only gives weights their first values: with ``meta`` nothing of it is kept, and it is slow.

    Raises:
        ValueError: From any call, after far more of them than a network has that can be trained.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def __torch_function__(
        self, func: Any, types: Sequence[Any], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._calls += 1
        if self._calls > _MOST_CALLS:
            raise ValueError("its numbers must be those of a network that can be trained, got millions of parts")
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FILLS:
            return (*args, *kwargs.values())[0]
        return func(*args, **kwargs)


def _build_empty(section: Mapping[str, Any]) -> nn.Module:
    arguments = {key: deepcopy(value) for key, value in section.items() if key != "type"}
    with torch.device("meta"), _Unfilled():
        return ARCH_REGISTRY.get(section["type"])(**arguments)


def _own_networks(options: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Sections of networks of this package that have no unknown key."""
    sections = {key: section for key, section in options.items() if key.startswith("network_") and section}
    sound = {key: section for key, section in sections.items() if not any(find_network_problems({key: section}))}
    return {key: section for key, section in sound.items() if section["type"] in ARCH_REGISTRY}


def _find_argument_problems(options: Mapping[str, Any]) -> Iterator[str]:
    for where, section in _own_networks(options).items():
        known = inspect.signature(ARCH_REGISTRY.get(section["type"])).parameters
        large = [key for key in section if key != "type" and _is_larger(section[key], known[key].default)]
        yield from (f"{where}.{key} must be at most {LARGEST_SIZE:,}, got {section[key]:,}" for key in large)
        try:
            if not large:
                _build_empty(section)
        except Exception as error:  # whatever a wrong argument leads to
            yield f"{where}: {_words(error)}"


def _is_larger(value: Any, default: Any) -> bool:
    """Whether a number of pixels, channels or layers is none that anybody trains."""
    return isinstance(value, int) and value > max(LARGEST_SIZE, default if isinstance(default, int) else 0)


def find_size_problems(options: Mapping[str, Any], card: SystemCard) -> Iterator[str]:
    """Say which faces the card does not allow, and whether the network changes their size.

    Args:
        options: Of a training.
        card: Of a system whose network takes images of the ground truth's size.
    """
    scale = options.get("scale", card.scale)
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        yield f"scale must be a whole number, the factor by which faces are reduced, got {scale!r}"
        return
    for phase, section in (options.get("datasets") or {}).items():
        gt_size = section.get("gt_size") or card.gt_size
        if isinstance(gt_size, int):  # else the data set says so
            try:
                card.sized(gt_size, scale)
            except ValueError as error:
                yield f"datasets.{phase}.gt_size with scale {scale}: {error}"
    section = _own_networks(options).get("network_g") or {}
    if section.get("type") == card.arch:
        known = inspect.signature(ARCH_REGISTRY.get(card.arch)).parameters
        sides = [section.get(name, known[name].default) for name in ("in_size", "out_size")]
        if sides[0] != sides[1]:
            yield f"network_g.out_size must be in_size, since faces are enlarged before it, got {sides[1]}, {sides[0]}"


# The section `train`


def _find_loss_problems(train: Mapping[str, Any]) -> Iterator[str]:
    sections = {key: section for key, section in train.items() if str(key).endswith("_opt") and section}
    if not sections:
        yield "train must have at least one loss section such as pixel_opt, got none"
    for key, section in sections.items():
        if section.get("type") not in ALL_LOSSES:
            continue  # reported as an unknown name
        loss, arguments = ALL_LOSSES.get(section["type"]), {name: section[name] for name in section if name != "type"}
        known = inspect.signature(loss).parameters
        builds = section["type"] in LOSS_REGISTRY and not _READS_FILES & set(known)
        try:
            inspect.signature(loss).bind(**arguments)
            if builds:
                loss(**deepcopy(arguments))
        except (TypeError, ValueError) as error:
            yield f"train.{key}: {error}"


def _find_scheduler_problems(train: Mapping[str, Any]) -> Iterator[str]:
    section = train.get("scheduler")
    if not section:
        return
    settings = dict(section)
    kind = settings.pop("type", None)
    if kind not in _SCHEDULERS:
        yield f"train.scheduler.type must be one of {', '.join(_SCHEDULERS)}, got {kind!r}"
        return
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1e-4)
    try:
        _SCHEDULERS[kind](optimizer, **settings)
    except (ArithmeticError, AssertionError, TypeError, ValueError) as error:
        yield f"train.scheduler: {error}"
        return
    total, periods = train.get("total_iter"), settings.get("periods")
    if kind == "CosineAnnealingRestartLR" and isinstance(total, int | float) and sum(periods) < total - 1:
        yield (
            "train.scheduler.periods must have a sum of total_iter or more, since there is no learning rate after it, "
            f"got {sum(periods)} with train.total_iter {total}"
        )


def _find_count_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """Numbers of iterations and images, and the moving average's."""
    train, data = options["train"], (options.get("datasets") or {}).get("train") or {}
    for where, least in _LEAST.items():
        section, key = where.split(".")
        value = (options.get(section) or {}).get(key, least)
        if _is_wrong(value, lambda number, least=least: least <= number < math.inf):
            yield f"{where} must be {least} or more, got {value!r}{_REMEDIES.get(where, '')}"
    decay = train.get("ema_decay") or 0
    if _is_wrong(decay, lambda number: 0 <= number < 1):
        yield f"train.ema_decay must be 0 (off) or more and less than 1, got {decay!r}"
    batch, parts = data.get("batch_size_per_gpu"), train.get("accumulate", 1)
    if not isinstance(batch, int) or batch < 1:
        yield f"datasets.train.batch_size_per_gpu must be a whole number from 1 on, got {batch!r}"
    elif isinstance(parts, int) and parts > 0 and batch % parts:
        yield f"datasets.train.batch_size_per_gpu must be a multiple of train.accumulate ({parts}), got {batch}"


def _is_wrong(value: Any, fits: Callable[[float], bool]) -> bool:
    """Whether a value is no number that fits; text and flags are reported elsewhere."""
    return not isinstance(value, str | bool) and not (isinstance(value, int | float) and fits(value))


def _words(error: Exception) -> str:
    return plain_line(str(error), 500) or type(error).__name__
