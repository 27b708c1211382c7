"""Places at which a training can be made to die by SIGKILL, with all its workers.

``arm`` wraps the function at a place, in the process that trains and before it begins, so that its n-th call is the
last one. Nothing is cleaned up, as by the kernel's out-of-memory killer or a power cut.
"""

from __future__ import annotations

import fnmatch
import functools
import io
import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

FILES = {
    "net_g": "net_g_[0-9]*.pth",
    "net_d": "net_d_[0-9]*.pth",
    "state": "[0-9]*.state",
    "best": "net_g_best.pth",
    "latest": "net_g_latest.pth",
}


@dataclass(frozen=True)
class Kill:
    """Where a process dies.

    Args:
        place: A key of ``PLACES``.
        turn: At which call, from 1.
        share: In [0, 1): how much of the file is written, how much of the graph is computed, or, below 0.5, before the
            call and else after it.
        file: A key of ``FILES``, where the place is one of files.
    """

    place: str
    turn: int = 1
    share: float = 0.0
    file: str = ""

    def __str__(self) -> str:
        return f"{self.place} {self.file}".rstrip() + f" #{self.turn} at {self.share:.2f}"


def die() -> None:
    """Kill this process and all of its group, at once."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def arm(kill: Kill) -> None:
    """Make this process die there; BasicSR and the plugin must be imported."""
    PLACES[kill.place](kill)


def _die_around(owner: Any, name: str, kill: Kill, counts: Callable[..., bool] = lambda *_: True) -> None:
    """Die before or after the n-th call of a method that counts."""
    method, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        last = counts(*args) and next(calls) == kill.turn
        if last and kill.share < 0.5:
            die()
        result = method(*args, **kwargs)
        if last:
            die()
        return result

    setattr(owner, name, wrapped)


def _arm_data(kill: Kill) -> None:
    """In a training sample, of this process or of a worker."""
    from facesr_plugin.registry import DATASET_REGISTRY
    from facesr_plugin.utils.resume import SampleIndex

    for _, dataset in DATASET_REGISTRY.items():
        _die_around(dataset, "__getitem__", kill, lambda _self, index: isinstance(index, SampleIndex))


def _arm_backward(kill: Kill) -> None:
    """Inside the graph of a loss."""
    import torch

    backward, calls = torch.Tensor.backward, itertools.count(1)

    def dying(self: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        if next(calls) == kill.turn:
            nodes = _nodes(self)
            nodes[int(kill.share * len(nodes))].register_prehook(lambda _gradients: die())
        backward(self, *args, **kwargs)

    torch.Tensor.backward = dying


def _nodes(loss: Any) -> list[Any]:
    """Nodes of a graph, from the loss on."""
    nodes = [loss.grad_fn]
    seen = set(nodes)
    for node in nodes:
        new = [after for after, _ in node.next_functions if after is not None and after not in seen]
        seen.update(new)
        nodes.extend(dict.fromkeys(new))
    return nodes


def _arm_step(kill: Kill) -> None:
    """Before or after an optimiser's step; what follows (the moving average, the discriminator) is left out."""
    from torch.optim import optimizer

    calls = itertools.count(1)
    register = (optimizer.register_optimizer_step_pre_hook, optimizer.register_optimizer_step_post_hook)
    register[kill.share >= 0.5](lambda *_: die() if next(calls) == kill.turn else None)


def _arm_write(kill: Kill) -> None:
    """When a part of a file is written."""
    from facesr_plugin.models import training_state

    write, calls = training_state.atomic_write, itertools.count(1)

    def dying(path: Path, writer: Callable[[BinaryIO], None]) -> None:
        if not _is_file(path, kill.file) or next(calls) != kill.turn:
            write(path, writer)
            return
        whole = io.BytesIO()
        writer(whole)
        write(path, functools.partial(_write_part, whole.getvalue()[: int(kill.share * whole.tell())]))

    training_state.atomic_write = dying


def _write_part(content: bytes, file: BinaryIO) -> None:
    file.write(content)
    file.flush()
    die()


def _arm_rename(kill: Kill) -> None:
    """Before or after a complete file takes its name."""
    _die_around(Path, "replace", kill, lambda _path, target: _is_file(target, kill.file))


def _arm_prune(kill: Kill) -> None:
    """Before or after an old checkpoint is deleted."""
    _die_around(Path, "unlink", kill, lambda path: path.suffix in (".pth", ".state"))


def _arm_epoch(kill: Kill) -> None:
    """Where an epoch begins."""
    from basicsr.data.data_sampler import EnlargedSampler

    _die_around(EnlargedSampler, "set_epoch", kill)


def _arm_validation(kill: Kill) -> None:
    """Before or after a batch of a validation."""
    from facesr_plugin.models.face_sr_model import FaceSRModel

    _die_around(FaceSRModel, "test", kill)


def _arm_resume(kill: Kill) -> None:
    """Before or after the state is taken up."""
    from facesr_plugin.models.face_sr_model import FaceSRModel

    _die_around(FaceSRModel, "resume_training", kill)


def _is_file(path: str | Path, name: str) -> bool:
    return fnmatch.fnmatch(Path(path).name, FILES[name])


PLACES: dict[str, Callable[[Kill], None]] = {
    "data": _arm_data,
    "backward": _arm_backward,
    "step": _arm_step,
    "write": _arm_write,
    "rename": _arm_rename,
    "validation": _arm_validation,
    "prune": _arm_prune,
    "epoch": _arm_epoch,
    "resume": _arm_resume,
}
