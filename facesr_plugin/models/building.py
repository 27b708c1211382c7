"""Check and build what the option file of a training names: networks, losses, optimisers."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils.registry import ARCH_REGISTRY as ALL_NETWORKS
from torch import Tensor, nn

from facesr_plugin.archs.arch_util import check_int
from facesr_plugin.registry import ARCH_REGISTRY
from facesr_plugin.utils.option_file import find_unknown_keys, nearest

_ALIKE = 0.8  # allign and align; not alignment and align
_WAYS = {"foreach", "fused", "differentiable"}
_OPTIMIZERS = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def check_networks(opt: dict[str, Any]) -> None:
    """Refuse unknown networks, and arguments that ours do not take, before anything is built.

    Raises:
        ValueError: If a ``network_*`` section is wrong.
    """
    for problem in find_network_problems(opt):
        raise ValueError(problem)


def find_network_problems(opt: dict[str, Any]) -> Iterator[str]:
    """Say which ``network_*`` sections name no network, or have keys that ours do not take."""
    for where in (key for key in opt if key.startswith("network_")):
        kind = (opt[where] or {}).get("type")
        if not isinstance(kind, str) or kind not in ALL_NETWORKS:
            yield f"{where}.type must be a registered network, got {kind!r}{nearest(str(kind), ALL_NETWORKS.keys())}"
        elif kind in ARCH_REGISTRY:
            known = ["type", *inspect.signature(ARCH_REGISTRY.get(kind)).parameters]
            yield from find_unknown_keys(opt[where], known, where)


def check_train(train: dict[str, Any], keys: Collection[str], own_losses: frozenset[str]) -> None:
    """Refuse keys of ``train`` that nobody reads, and misspelt losses.

    Raises:
        ValueError: If there is one; see ``find_train_problems``.
    """
    for problem in find_train_problems(train, keys, own_losses):
        raise ValueError(problem)


def find_train_problems(train: dict[str, Any], keys: Collection[str], own_losses: frozenset[str]) -> Iterator[str]:
    """Say which keys of ``train`` nobody reads, and which losses are misspelt.

    Args:
        train: Section of the option file.
        keys: That the model reads, beside the sections of losses.
        own_losses: See ``find_misspelt_losses``.
    """
    losses = (key for key in map(str, train) if key.endswith("_opt"))
    yield from find_unknown_keys(train, [*keys, *losses], "train")
    yield from find_misspelt_losses(train, own_losses)


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
    """Build an optimiser by name; it keeps its way of computing (``fused``, ``foreach``) when it takes a state.

    On a GPU it is fused unless ``settings`` choose: only then can a step be left out without waiting for the device.

    Raises:
        ValueError: If there is no such optimiser or setting, or the setting does not work here.
    """
    if optim_type not in _OPTIMIZERS:
        raise ValueError(f"optimizer type must be one of {', '.join(_OPTIMIZERS)}, got {optim_type!r}")
    if "betas" in settings:
        settings["betas"] = tuple(map(float, settings["betas"]))  # torch refuses a 0 beside a 0.99
    params = list(params)
    if not _WAYS & settings.keys() and all(map(_is_on_gpu, params)):
        settings["fused"] = True
    try:
        optimizer = _OPTIMIZERS[optim_type](params, lr, **settings)
    except (IndexError, RuntimeError, TypeError) as error:
        remedy = ". Remove fused" if settings.get("fused") else ""
        reason = str(error).rstrip(".")
        raise ValueError(f"optimizer {optim_type}: {reason}{remedy}") from error
    way = {name: optimizer.defaults[name] for name in ("foreach", "fused", "capturable")}
    optimizer.register_load_state_dict_post_hook(partial(_keep_way, way))
    return optimizer


def _is_on_gpu(parameters: Tensor | dict[str, Any]) -> bool:
    """Whether a parameter, or each one of a group, is on a GPU."""
    tensors = parameters["params"] if isinstance(parameters, dict) else [parameters]
    return all(tensor.is_cuda for tensor in tensors)


def _keep_way(way: dict[str, bool | None], optimizer: torch.optim.Optimizer) -> None:
    """Undo what a state says of the way: it may have been written with other options, on another device."""
    on_device = way["fused"] or way["capturable"]
    for group in optimizer.param_groups:
        group.update(way)
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if "step" in state:
                state["step"] = state["step"].to(parameter.device if on_device else "cpu")
