"""What conversion has to know of one network of one system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from facesr_plugin.checkpoints.keymap import KeyMap


def always(_state_dict: Mapping[str, Tensor]) -> bool:
    """Claim any weights."""
    return True


@dataclass(frozen=True)
class SystemFormat:
    """Key table and argument rule of one network.

    Args:
        system: Name of the system's card.
        arch: Registered name of the network.
        keys: Our key names and the official ones.
        infer_args: Constructor arguments from a state dict with our key names; raises UnsupportedCheckpointError.
        exact_args: Arguments that keys and shapes determine completely.
        claims: Whether weights with these key names can be this system's; systems may share a network.
    """

    system: str
    arch: str
    keys: KeyMap
    infer_args: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    exact_args: tuple[str, ...] = ()
    claims: Callable[[Mapping[str, Tensor]], bool] = always
