"""Which network a state dict belongs to, whether all of it fits, and conversion from and to key names of others.

A system joins by adding its ``FORMATS`` to the tuple below.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from facesr_plugin.checkpoints import (
    dic,
    dic_discriminators,
    dic_hourglass,
    fan,
    jasrnet,
    progressive,
    sparnet,
    sparnet_discriminator,
)
from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import list_some
from facesr_plugin.checkpoints.spectral_norm import to_legacy_names
from facesr_plugin.checkpoints.system_format import OFFICIAL, OURS, SystemFormat
from facesr_plugin.registry import ARCH_REGISTRY

FORMATS: tuple[SystemFormat, ...] = (
    *sparnet.FORMATS,
    *sparnet_discriminator.FORMATS,
    *progressive.FORMATS,
    *fan.FORMATS,
    *jasrnet.FORMATS,
    *dic.FORMATS,
    *dic_hourglass.FORMATS,
    *dic_discriminators.FORMATS,
)
_MAX_INT = 2**16
_FILLING = ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "fill_", "zero_", "normalize")


class Converted(NamedTuple):
    """A network's registered name, its constructor arguments, and weights that load into it strictly."""

    arch: str
    args: dict[str, Any]
    state_dict: dict[str, Tensor]


class Identified(NamedTuple):
    """The format whose key names a state dict has, and whose names they are: ``facesr`` or those of a dialect."""

    format: SystemFormat
    dialect: str


def from_official(
    system: str, state_dict: Mapping[str, Tensor], args: Mapping[str, Any] | None = None, dialect: str = OFFICIAL
) -> Converted:
    """Convert a state dict of the official release; the inverse of ``to_official``.

    Args:
        system: Name of the system's card.
        state_dict: Official keys, spectral norm in either of torch's forms.
        args: Constructor arguments that keys and shapes do not show, where they are not the published ones.
        dialect: Whose key names they are, if not the official release's.

    Returns:
        The network, with the keys in its own order; the tensors are those of ``state_dict``, not copies.

    Raises:
        ValueError: If ``system`` or ``dialect`` is unknown.
        UnsupportedCheckpointError: If keys or shapes are not those of a network of ``system``; says which.
    """
    state_dict = to_legacy_names(state_dict)
    form = identify(state_dict, system, dialect).format
    renamed = form.dialect(dialect).keys.to_ours(state_dict)
    merged = _infer(form, renamed) | dict(args or {})
    return Converted(form.arch, merged, check_weights(form, merged, renamed))


def to_official(
    system: str, state_dict: Mapping[str, Tensor], args: Mapping[str, Any], dialect: str = OFFICIAL
) -> dict[str, Tensor]:
    """Convert weights with our key names to the official names and their order, or to those of another dialect.

    Raises:
        ValueError: If ``system`` is unknown, or the network has no such dialect.
        UnsupportedCheckpointError: If the weights are not those of the system's network with ``args``.
    """
    form = identify(state_dict, system, OURS).format
    return form.dialect(dialect).keys.to_official(check_weights(form, args, state_dict))


def identify(state_dict: Mapping[str, Any], system: str | None = None, dialect: str | None = None) -> Identified:
    """Find the format of a state dict from its keys; without ``system`` also from the formats' claims.

    Args:
        state_dict: The weights.
        system: Only this system; all known ones by default.
        dialect: Only these key names, ``facesr`` for ours; all by default.

    Raises:
        ValueError: If ``system`` or ``dialect`` is unknown.
        UnsupportedCheckpointError: If no format fits all keys; names the nearest one and the keys that do not fit, or
            the system that the file belongs to.
    """
    if system is not None:
        formats_of(system)
    candidates = [
        Identified(form, name) for form in FORMATS for name in (*form.dialects, OURS) if dialect in (None, name)
    ]
    if not candidates:
        raise ValueError(f"no network has key names of {dialect!r}")
    fitting = [candidate for candidate in candidates if candidate.format.fits(candidate.dialect, state_dict)]
    if not fitting or not state_dict:
        raise UnsupportedCheckpointError(_explain(state_dict, candidates))
    if system is None:
        return next(candidate for candidate in fitting if candidate.format.claims(state_dict))
    for candidate in fitting:
        if candidate.format.system == system:
            return candidate
    form = fitting[0].format
    raise UnsupportedCheckpointError(f"these are weights of {form.system} ({form.arch}), not {system}")


def format_of(system: str, arch: str) -> SystemFormat:
    """Return the format of one network.

    Raises:
        ValueError: If ``system`` is unknown or has no such network.
    """
    formats = {form.arch: form for form in formats_of(system)}
    if arch not in formats:
        raise ValueError(f"arch must be one of {', '.join(formats)} for {system}, got {arch!r}")
    return formats[arch]


def formats_of(system: str) -> tuple[SystemFormat, ...]:
    """Return the formats of a system.

    Raises:
        ValueError: If there are none; lists the known systems.
    """
    found = tuple(form for form in FORMATS if form.system == system)
    if not found:
        raise ValueError(f"system must be one of {_known_systems()}, got {system!r}")
    return found


def check_weights(form: SystemFormat, args: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compare weights with the network that ``args`` give: every key, shape and kind of number.

    Returns:
        The weights in the order of the network's own state dict.

    Raises:
        UnsupportedCheckpointError: If they do not fit strictly; lists what is missing, unexpected or of another shape.
    """
    expected = _network_state(form, args, _infer(form, state_dict))
    problems = _differences(expected, state_dict)
    if problems:
        raise UnsupportedCheckpointError(f"the weights do not fit {form.arch}: {'; '.join(problems)}")
    return {key: state_dict[key] for key in expected}


def _explain(state_dict: Mapping[str, Any], candidates: list[Identified]) -> str:
    misfits = {candidate: candidate.format.misfits(candidate.dialect, state_dict) for candidate in candidates}
    nearest = min(misfits, key=lambda candidate: len(misfits[candidate]))
    wrong = misfits[nearest]
    if len(wrong) == len(state_dict):
        return f"the keys belong to no known system: {list_some(wrong) or 'none'}. Known systems: {_known_systems()}"
    return (
        f"{len(wrong)} of {len(state_dict)} keys fit no known system; nearest is {nearest.format.system} with "
        f"{nearest.dialect} key names, not fitting: {list_some(wrong)}. Known systems: {_known_systems()}"
    )


def _known_systems() -> str:
    return ", ".join(dict.fromkeys(form.system for form in FORMATS))


def _infer(form: SystemFormat, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    try:
        return form.infer_args(state_dict)
    except UnsupportedCheckpointError as error:
        raise UnsupportedCheckpointError(f"the weights do not fit {form.arch}: {error}") from error


def _network_state(form: SystemFormat, args: Mapping[str, Any], inferred: dict[str, Any]) -> dict[str, Tensor]:
    """Return the state dict of the network without memory, after bounding what a file's arguments may ask for."""
    for name in form.exact_args:
        if name in args and args[name] != inferred[name]:
            raise UnsupportedCheckpointError(f"args say {name} {args[name]!r}, the weights have {inferred[name]!r}")
    for name, value in args.items():
        if type(value) not in (int, float, str, bool) or (type(value) is int and not 0 <= value <= _MAX_INT):
            raise UnsupportedCheckpointError(f"args hold {str(name)[:40]} {str(value)[:80]!r}, which is out of range")
    importlib.import_module("facesr_plugin.archs")
    try:
        with torch.device("meta"), _NoFilling():
            return ARCH_REGISTRY.get(form.arch)(**args).state_dict()
    except (TypeError, ValueError) as error:
        raise UnsupportedCheckpointError(f"{form.arch} refuses the arguments: {error}") from error


class _NoFilling(TorchFunctionMode):
    """Leave out initial values: meta tensors have none, and torch takes seconds to import its way of setting them."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        if getattr(func, "__name__", "") in _FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    shared = [key for key in expected if key in found]
    shapes = [
        f"{key} must have {tuple(expected[key].shape)}, got {tuple(found[key].shape)}"
        for key in shared
        if expected[key].shape != found[key].shape
    ]
    kinds = [
        f"{key} is {found[key].dtype}"
        for key in shared
        if expected[key].is_floating_point() != found[key].is_floating_point()
    ]
    groups = {"missing": missing, "unexpected": unexpected, "other shapes": shapes, "other types": kinds}
    return [f"{name} ({len(items)}): {list_some(items)}" for name, items in groups.items() if items]
