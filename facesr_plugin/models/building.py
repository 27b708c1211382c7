"""Check and build what the option file of a training names: networks, losses, optimisers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils.registry import ARCH_REGISTRY as ALL_NETWORKS
from torch import nn

from facesr_plugin.archs.arch_util import check_int
from facesr_plugin.registry import ARCH_REGISTRY
from facesr_plugin.utils.option_file import check_keys, nearest

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
