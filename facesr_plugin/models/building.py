"""Check and build what the option file of a training names: networks, losses, optimisers."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterator
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils.registry import ARCH_REGISTRY as ALL_NETWORKS
from torch import nn

from facesr_plugin.archs.arch_util import check_int
from facesr_plugin.registry import ARCH_REGISTRY
from facesr_plugin.utils.option_file import check_keys, nearest

_ALIKE = 0.8  # allign and align; not alignment and align
_OPTIMIZERS = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def check_networks(opt: dict[str, Any]) -> None:
    """Refuse unknown networks, and arguments that ours do not take, before anything is built.

    Raises:
        ValueError: If a ``network_*`` section is wrong.
    """
    for where in (key for key in opt if key.startswith("network_")):
        kind = (opt[where] or {}).get("type")
        if kind not in ALL_NETWORKS:
            raise ValueError(
                f"{where}.type must be a registered network, got {kind!r}{nearest(kind, ALL_NETWORKS.keys())}"
            )
        if kind in ARCH_REGISTRY:
            check_keys(opt[where], ["type", *inspect.signature(ARCH_REGISTRY.get(kind)).parameters], where)


def check_train(train: dict[str, Any], keys: Collection[str], own_losses: frozenset[str]) -> None:
    """Refuse keys of ``train`` that nobody reads, and misspelt losses.

    Args:
        train: Section of the option file.
        keys: That the model reads, beside the sections of losses.
        own_losses: See ``find_misspelt_losses``.

    Raises:
        ValueError: If there is one.
    """
    check_keys(train, [*keys, *(key for key in train if key.endswith("_opt"))], "train")
    for problem in find_misspelt_losses(train, own_losses):
        raise ValueError(problem)


def find_misspelt_losses(train: dict[str, Any], own_losses: frozenset[str]) -> Iterator[str]:
    """Report losses whose names are nearly one that the model knows: it would compare something else with them.

    Args:
        train: Section of the option file.
        own_losses: Names, without ``_opt``, that decide what a loss compares. Such a name with more behind a digit or
            an underscore (``pixel_2``) is another name.
    """
    sections = [str(key) for key, section in train.items() if section]
    for name in (key.removesuffix("_opt") for key in sections if key.endswith("_opt")):
        if not own_losses & {name, re.split(r"[\d_]", name)[0]}:
            for near in difflib.get_close_matches(name, own_losses, 1, _ALIKE):
                yield (
                    f"train.{name}_opt must not be so like {near}_opt, whose name decides what it compares. Did you "
                    f"mean {near}_opt? Or choose a name such as {near}_2_opt."
                )


def find_wrong_int(name: str, value: Any, least: int) -> Iterator[str]:
    """Say that an option is no int of at least ``least``."""
    try:
        check_int(name, value, least)
    except (TypeError, ValueError) as error:
        yield str(error)


def build_criteria(train_opt: dict[str, Any]) -> dict[str, nn.Module]:
    """Build a loss from every ``<name>_opt`` section that is not empty, by name.

    Raises:
        ValueError: If there is none, or an argument is misspelt or missing.
    """
    criteria = {
        key.removesuffix("_opt"): _build_loss(section, f"train.{key}")
        for key, section in train_opt.items()
        if key.endswith("_opt") and section
    }
    if not criteria:
        raise ValueError("train must have at least one loss section such as pixel_opt, got none")
    return criteria


def _build_loss(section: dict[str, Any], where: str) -> nn.Module:
    try:
        return build_loss(section)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def build_optimizer(optim_type: str, params: Any, lr: float, **settings: Any) -> torch.optim.Optimizer:
    """Build an optimiser by name.

    Raises:
        ValueError: If there is no such optimiser or setting.
    """
    if optim_type not in _OPTIMIZERS:
        raise ValueError(f"optimizer type must be one of {', '.join(_OPTIMIZERS)}, got {optim_type!r}")
    if "betas" in settings:
        settings["betas"] = tuple(map(float, settings["betas"]))  # torch refuses a 0 beside a 0.99
    try:
        return _OPTIMIZERS[optim_type](params, lr, **settings)
    except TypeError as error:
        raise ValueError(f"optimizer {optim_type}: {error}") from error
