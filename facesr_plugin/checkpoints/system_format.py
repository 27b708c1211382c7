"""What conversion has to know of one network of one system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import KeyMap


def no_call(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Accept no arguments.

    Raises:
        UnsupportedCheckpointError: If there are some.
    """
    if stated:
        raise UnsupportedCheckpointError(f"the network is called with images only, got also {sorted(map(str, stated))}")
    return {}


def flat(tensors: dict[str, Tensor], _call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict as it is."""
    return tensors


def always(_state_dict: Mapping[str, Tensor]) -> bool:
    """Claim any weights."""
    return True


OURS = "facesr"
OFFICIAL = "official"


class Dialect(NamedTuple):
    """How another program writes a network.

    Args:
        name: Of the program, for users.
        keys: Our key names and, as the official ones, its own.
        wrap: Content of a file of its from a state dict and the call.
    """

    name: str
    keys: KeyMap
    wrap: Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Any]] = flat


@dataclass(frozen=True)
class SystemFormat:
    """Key tables and argument rule of one network.

    Args:
        system: Name of the system's card.
        arch: Registered name of the network.
        keys: Our key names and the official ones.
        infer_args: Constructor arguments from a state dict with our key names; raises UnsupportedCheckpointError.
        exact_args: Arguments that keys and shapes determine completely.
        claims: Whether weights with these key names can be this system's; systems may share a network.
        call_names: What the network is called with beside images, and official files state beside the weights.
        read_call: The arguments of the call from those that a file states, published ones where it states none;
            raises UnsupportedCheckpointError.
        wrap: Content of an official file from its state dict and the call.
        others: Further programs that have the network under other names.
        parts: Networks of the system that it contains: registered name, and what our key names of theirs begin with.
    """

    system: str
    arch: str
    keys: KeyMap
    infer_args: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    exact_args: tuple[str, ...] = ()
    claims: Callable[[Mapping[str, Tensor]], bool] = always
    call_names: tuple[str, ...] = ()
    read_call: Callable[[Mapping[str, Any]], dict[str, Any]] = no_call
    wrap: Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Any]] = flat
    others: tuple[Dialect, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    @property
    def dialects(self) -> dict[str, Dialect]:
        """All foreign ones by name, the official one first."""
        return {dialect.name: dialect for dialect in (Dialect(OFFICIAL, self.keys, self.wrap), *self.others)}

    def dialect(self, name: str) -> Dialect:
        """Return one.

        Raises:
            ValueError: If there is none of that name.
        """
        if name not in self.dialects:
            raise ValueError(f"key names of {self.arch} must be {' or '.join([OURS, *self.dialects])}, got {name!r}")
        return self.dialects[name]

    def misfits(self, dialect: str, keys: Iterable[str]) -> list[str]:
        """Return the keys that are none of a dialect, or of ours if it is ``facesr``."""
        if dialect == OURS:
            return self.keys.our_misfits(keys)
        return self.dialect(dialect).keys.official_misfits(keys)

    def fits(self, dialect: str, keys: Iterable[str]) -> bool:
        """Return whether there are no misfits; looks no further than the first one."""
        return not any(self.misfits(dialect, [key]) for key in keys)
