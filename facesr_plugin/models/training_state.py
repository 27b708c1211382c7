"""What a training run has to remember to go on exactly where it stopped, and how it is written.

Randomness needs no stored generator: every iteration of every rank starts from a seed derived from
(``manual_seed``, rank, iteration), and every sample from (``manual_seed``, epoch, position). So the state holds the
seed and the position; nothing that happens between two iterations (a validation, a loader's start) can shift a draw.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facesr_plugin.cards import SystemCard
from facesr_plugin.utils.files import atomic_write, torch_writer
from facesr_plugin.utils.resume import POSITION
from facesr_plugin.utils.seeding import seed_generators

FORMAT = 1


def seed_iteration(seed: int, rank: int, iteration: int) -> None:
    """Start Python's, NumPy's and torch's generators (all devices) for one training iteration."""
    seed_generators(seed, rank, iteration)


def network_record(system: str, network_opt: dict[str, Any], net: nn.Module) -> dict[str, Any]:
    """Describe a network for its checkpoint: ``{system, arch, args, format}``, all arguments spelt out.

    Args:
        system: Name of the system card.
        network_opt: Its option section, ``type`` and arguments.
        net: The bare network; its constructor has the defaults.
    """
    signature = inspect.signature(type(net).__init__)
    known = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    given = {name: value for name, value in network_opt.items() if name != "type"}
    return {"system": system, "arch": type(net).__name__, "args": {**known, **given}, "format": FORMAT}


def stated_faces(opt: dict[str, Any], card: SystemCard) -> dict[str, int | str]:
    """Return ``gt_size``, ``scale`` and ``framing`` of a training's faces, where its options state them.

    A data set that cuts faces out frames them by the box of their points; ready faces are not framed so.
    """
    train = (opt.get("datasets") or {}).get("train") or {}
    kind = train.get("type")
    ready = "loose" if kind and card.framing == "box" else None
    framing = "box" if kind == "FaceCropDataset" else ready
    stated = {"gt_size": train.get("gt_size"), "scale": opt.get("scale"), "framing": framing}
    return {name: value for name, value in stated.items() if value is not None}


def save_torch(path: str | Path, content: dict[str, Any]) -> None:
    """Write a torch file atomically.

    Raises:
        OSError: If it cannot be written (a full disk); an older file of that name is unchanged.
    """
    atomic_write(path, torch_writer(content))


def cpu_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """The network's state on the CPU, without wrappers' prefixes, each tensor with storage of its own size."""
    form = torch.contiguous_format
    return {key: value.detach().cpu().clone(memory_format=form) for key, value in net.state_dict().items()}


def plain_scheduler_state(scheduler: Any) -> dict[str, Any]:
    """A scheduler's state with plain dictionaries: BasicSR keeps a ``Counter``, which older safe loaders refuse."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in scheduler.state_dict().items()}


def pack_run(seed: int, world_size: int, best_metrics: dict, system_state: dict) -> dict[str, Any]:
    """The part of a ``.state`` file that BasicSR does not know; plain types only."""
    return {
        "format": FORMAT,
        "manual_seed": seed,
        "epoch": POSITION.epoch,
        "samples": POSITION.samples * world_size,
        "best_metrics": {
            name: {key: dict(entry) for key, entry in best.items()} for name, best in best_metrics.items()
        },
        "system_state": system_state,
    }


def restore_position(state: dict[str, Any], world_size: int) -> None:
    """Make the sampler continue inside the epoch of the state.

    A run that continues with smaller batches, or fewer ranks, has fewer epochs than before: it goes on in the last one.

    Args:
        state: Training state with what ``pack_run`` made; its ``epoch`` becomes that in which BasicSR's loop begins.
        world_size: Number of ranks now; the samples of all ranks are divided among them.
    """
    run = state["facesr"]
    if run["epoch"] is not None:
        last = run["epoch"] if POSITION.last_epoch is None else POSITION.last_epoch
        state["epoch"] = min(run["epoch"], last)
        POSITION.resume(state["epoch"], run["samples"] // world_size)
