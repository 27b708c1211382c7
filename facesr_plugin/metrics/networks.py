"""The frozen networks of metrics: weights of other projects read strictly, and full precision while they run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor, nn

from facesr_plugin.checkpoints import UnsupportedCheckpointError, read_checkpoint

N = TypeVar("N", bound=nn.Module)

_COUNTER = "num_batches_tracked"  # not in files of before torch 0.4.1, and without effect here


class MissingLibraryError(ImportError):
    """A library that a metric needs and that is not installed; the message has the command that installs it."""


def import_library(name: str, use: str, command: str) -> ModuleType:
    """Import an optional library.

    Raises:
        MissingLibraryError: If it cannot be imported; says what uses it, and the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(f"{use} needs {name.partition('.')[0]} ({error}): {command}") from error


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return the device, or for None the current GPU if there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def read_state(path: str | os.PathLike, what: str) -> dict[str, Tensor]:
    """Read a state dict; the prefix of DataParallel is taken off.

    Args:
        path: The file: a state dict, or one under ``state_dict``.
        what: Whose weights it must hold, for messages.

    Raises:
        UnsupportedCheckpointError: If the file cannot be read or is no state dict.
    """
    content = read_checkpoint(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UnsupportedCheckpointError(f"weights must be a state dict of {what}, got {str(path)!r}")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def fill_network(network: N, state: Mapping[str, Tensor], path: str | os.PathLike, what: str) -> N:
    """Give a network built on ``meta`` its weights, and freeze it.

    Args:
        network: With no other value on ``meta`` than those of its state dict.
        state: All of its values but BatchNorm's counters, and no others.
        path: Where they are from, for messages.
        what: Name of the network, for messages.

    Raises:
        UnsupportedCheckpointError: If a value is missing, foreign, or of another shape.
    """
    wanted = network.state_dict()
    counters = {key: torch.tensor(0) for key in wanted if key.endswith(_COUNTER)}
    state = {**counters, **state}
    problem = _find_problem(wanted, state)
    if problem:
        raise UnsupportedCheckpointError(f"weights must be those of {what}, got {str(path)!r}: {problem}")
    network.load_state_dict(
        {key: value if key.endswith(_COUNTER) else value.float() for key, value in state.items()}, assign=True
    )
    return network.requires_grad_(False).eval()


def _find_problem(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    for key, value in wanted.items():
        if key not in state:
            return f"{key!r} is missing"
        if state[key].shape != value.shape:
            return f"{key!r} has shape {tuple(state[key].shape)} instead of {tuple(value.shape)}"
    foreign = next((key for key in state if key not in wanted), None)
    return foreign and f"it has no place for {foreign!r}"


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute without gradients and without TF32, so that a number does not depend on the GPU's generation."""
    flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), flags:
        yield
