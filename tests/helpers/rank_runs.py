"""Trainings of tiny models on one rank or several, each rank on its own part of a batch; for ``helpers.ranks``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from facesr_plugin.checkpoints import read_checkpoint
from helpers.tiny_systems import SYSTEMS

SHARE = 2  # faces of a rank


def make_batch(system: str, seed: int, number: int) -> dict[str, Tensor]:
    """Random faces of a tiny system, an even number."""
    pairs = [SYSTEMS[system].batch(100 * seed + pair) for pair in range(number // 2)]
    names = [name for name, value in pairs[0].items() if isinstance(value, Tensor)]
    return {name: torch.cat([pair[name] for pair in pairs]) for name in names}


def build(system: str, folder: Path, rank: int, count: int, dist: bool = True, **train: Any) -> Any:
    """A model on a rank; others than rank 0 begin with weights of their own, as after BasicSR's seeds."""
    import facesr_plugin

    facesr_plugin.register()
    from basicsr.models import build_model

    place = {"dist": dist, "rank": rank, "world_size": count}
    own = folder / str(rank)
    own.mkdir(parents=True, exist_ok=True)
    options = SYSTEMS[system].options(own, **train) | place
    for name in ("models", "training_states"):
        options["path"][name] = str(folder / name)
    torch.manual_seed(rank if dist else 0)
    model = build_model(options)
    for net in networks(model).values():
        net.to(torch.get_default_dtype())  # constants are float32
    return model


def networks(model: Any) -> dict[str, torch.nn.Module]:
    """Bare ones by name, the average too."""
    names = [name for name in ("net_g", "net_g_ema", "net_d") if hasattr(model, name)]
    return {name: model.get_bare_model(getattr(model, name)) for name in names}


def step(model: Any, system: str, iteration: int, rank: int, count: int) -> None:
    """One iteration on a rank's part of a batch for all."""
    batch = make_batch(system, iteration, count * SHARE)
    part = slice(rank * SHARE, (rank + 1) * SHARE)
    model.feed_data({name: values[part] for name, values in batch.items()})
    for name, value in list(vars(model).items()):
        if isinstance(value, Tensor):
            setattr(model, name, value.to(torch.get_default_dtype()))  # images come as float32
    model.optimize_parameters(iteration)


def gradients(model: Any) -> dict[str, Tensor]:
    """What the last iteration left, by network and parameter."""
    return {
        f"{name}.{key}": value.grad.clone()
        for name, net in networks(model).items()
        for key, value in net.named_parameters()
        if value.grad is not None
    }


def rank_gradients(rank: int, count: int, system: str, folder: Path, train: dict[str, Any]) -> dict[str, Tensor]:
    """Gradients of one iteration in float64."""
    torch.set_default_dtype(torch.float64)
    model = build(system, folder, rank, count, **train)
    step(model, system, 1, rank, count)
    return gradients(model)


def weights(model: Any) -> dict[str, Tensor]:
    """Parameters of all networks, the averages too."""
    return {
        f"{name}.{key}": value.detach().clone()
        for name, net in networks(model).items()
        for key, value in net.named_parameters()
    }


def digest(model: Any) -> str:
    """Of all weights."""
    found = hashlib.sha256()
    for value in weights(model).values():
        found.update(value.numpy().tobytes())
    return found.hexdigest()


class Moment(NamedTuple):
    """After an iteration: digest of the weights, log, and parts of networks that got gradients (``net_g.head``)."""

    digest: str
    log: dict[str, float]
    parts: set[str]


def trained_parts(model: Any) -> set[str]:
    """Parts of the networks with gradients."""
    return {".".join(key.split(".")[:2]) for key in gradients(model)}


def rank_course(
    rank: int, count: int, system: str, folder: Path, iterations: int, train: dict[str, Any]
) -> list[Moment]:
    """Train, and note every iteration."""
    model = build(system, folder, rank, count, **train)
    course = []
    for iteration in range(1, iterations + 1):
        step(model, system, iteration, rank, count)
        course.append(Moment(digest(model), model.get_current_log(), trained_parts(model)))
    return course


def rank_halves(rank: int, count: int, system: str, folder: Path) -> tuple[str, str]:
    """Digests after six iterations, and after three that a second run continues from files."""
    whole = build(system, folder, rank, count)
    for iteration in range(1, 7):
        step(whole, system, iteration, rank, count)
        if iteration == 3:
            whole.save(0, iteration)
            dist.barrier()
    halves = build(system, folder, rank, count)
    for name, net in networks(halves).items():
        halves.load_network(net, str(folder / "models" / f"{name.removesuffix('_ema')}_3.pth"))
    halves.resume_training(read_checkpoint(folder / "training_states" / "3.state"))
    for iteration in range(4, 7):
        step(halves, system, iteration, rank, count)
    return digest(whole), digest(halves)


def rank_means(rank: int, count: int, folder: Path) -> tuple[dict[str, float], int]:
    """What a rank logs of losses that it met in an order of its own; messages of an iteration that is not logged."""
    model, messages = build("sparnet", folder, rank, count), []
    original = dist.all_reduce
    dist.all_reduce = lambda *words, **more: messages.append(words) or original(*words, **more)
    step(model, "sparnet", 1, rank, count)
    silent = len(messages)
    names = ["first", "second"] if rank else ["second", "first"]
    return model.reduce_loss_dict({name: torch.tensor(len(name) + 10.0 * rank) for name in names}), silent
