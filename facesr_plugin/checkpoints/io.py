"""Load weights of any origin into our key names, and save them.

A file of ours has, beside ``params`` (and ``params_ema``), a plain record ``facesr: {system, arch, args, format: 1}``,
with ``call`` if the network is called with more than images; safetensors carry it as JSON in their metadata. BasicSR
ignores the record, so the same file serves its options.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from facesr_plugin.checkpoints.detect import check_weights, format_of, formats_of, from_official, identify, to_official
from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import list_some, strip_prefixes
from facesr_plugin.checkpoints.module_file import MODULE_STUBS, module_state_dict
from facesr_plugin.checkpoints.reader import Content, read_content
from facesr_plugin.checkpoints.rebuild import Stub
from facesr_plugin.checkpoints.spectral_norm import to_legacy_names
from facesr_plugin.checkpoints.system_format import OFFICIAL, OURS
from facesr_plugin.registry import ARCH_REGISTRY
from facesr_plugin.utils.files import atomic_write

FORMAT_VERSION = 1
RECORD = "facesr"
SUFFIXES = (".pth", ".pt", ".safetensors")
_KINDS = ("params", "params_ema")
# Outer keys of training programs, in the order in which the official loaders look for them.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# Outer keys, or beginnings of keys, of each network of a file with several; the first is taken unless told otherwise.
_NETWORKS = ("netG", "net_g", "generator", "netD", "net_d", "discriminator")
_PREFIXES = ("module.", "_orig_mod.")
_MAX_WRAPPERS = 3


class Weights(NamedTuple):
    """Weights with all that is needed to rebuild their network.

    Args:
        system: Name of the system's card.
        arch: Registered name of the network.
        args: Its constructor arguments.
        state_dict: Our key names; loads strictly.
        kind: Where they came from: ``params``, ``params_ema``, or the program whose key names they had (``official``).
        path: The file.
        call: Arguments with which the network is called beside the images.
    """

    system: str
    arch: str
    args: dict[str, Any]
    state_dict: dict[str, Tensor]
    kind: str
    path: Path
    call: Mapping[str, Any] = MappingProxyType({})


class _Found(NamedTuple):
    """Contents of a file before its system is known: weights, the record (if any), the outer key, what is beside it."""

    tensors: dict[str, Tensor]
    record: Any
    kind: str
    beside: dict[str, Any]


def load_weights(
    path: str | os.PathLike,
    *,
    system: str | None = None,
    prefer: str = "params_ema",
    args: Mapping[str, Any] | None = None,
    arch: str | None = None,
) -> Weights:
    """Read a weight file: ours, BasicSR's, an official release or one in another dialect; nothing in it is executed.

    Args:
        path: ``.pth``/``.pt``, ``.safetensors`` or ``.npz``.
        system: What the file must belong to; found from the file by default.
        prefer: ``params_ema`` or ``params``, for files that have both.
        args: Constructor arguments of files without a record that their shapes do not show (see the system's module).
        arch: Registered name of the network that it must hold; of a file with several, the generator by default.

    Returns:
        The weights on the CPU, in our key names, complete and of the right shapes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If ``prefer`` or ``system`` is unknown.
        UnsupportedCheckpointError: If the file cannot be read, or its weights are not those of a known network.
    """
    if prefer not in _KINDS:
        raise ValueError(f"prefer must be params or params_ema, got {prefer!r}")
    if system is not None:
        formats_of(system)
    content = read_content(path, stubs=MODULE_STUBS)
    try:
        found = _choose(_find_networks(content, prefer), system, arch)
        weights = _interpret(found, system, dict(args or {}), Path(path))
        if arch not in (None, weights.arch):
            raise UnsupportedCheckpointError(f"it holds weights of {weights.system} ({weights.arch}), not of {arch}")
    except UnsupportedCheckpointError as error:
        raise UnsupportedCheckpointError(f"cannot use {str(path)!r}: {error}") from error
    return weights


def build_network(weights: Weights, arch: str) -> nn.Module:
    """Build a network with its weights, strictly.

    Args:
        weights: From ``load_weights``.
        arch: Registered name of the network that they have to be of.

    Raises:
        UnsupportedCheckpointError: If they are of another one.
    """
    if weights.arch != arch:
        raise UnsupportedCheckpointError(f"{weights.path} must hold weights of {arch}, got {weights.arch}")
    network = ARCH_REGISTRY.get(arch)(**weights.args)
    network.load_state_dict(weights.state_dict)
    return network


def save_weights(path: str | os.PathLike, weights: Weights) -> None:
    """Write weights with their record, atomically: ``.pth``/``.pt`` (which BasicSR reads too) or ``.safetensors``.

    Raises:
        ValueError: If the suffix is another one.
        UnsupportedCheckpointError: If the weights do not fit ``weights.arch`` with ``weights.args``.
        OSError: If the file cannot be written; an older one is then unchanged.
    """
    suffix = _suffix(path)
    form = format_of(weights.system, weights.arch)
    tensors = _compact(check_weights(form, weights.args, weights.state_dict))
    record = make_record(weights.system, weights.arch, weights.args, weights.call)
    kind = weights.kind if weights.kind in _KINDS else "params"
    if suffix == ".safetensors":
        metadata = {"format": "pt", RECORD: json.dumps(record), "kind": kind}
        atomic_write(path, _bytes_writer(safetensors_bytes(tensors, metadata)))
    else:
        atomic_write(path, _torch_writer({kind: tensors, RECORD: record}))


def save_official(path: str | os.PathLike, weights: Weights, dialect: str = OFFICIAL) -> None:
    """Write weights as the official program saves them: its key names in its order, and what it has beside them.

    A pickled module becomes a flat state dict, and so does any ``.safetensors``.

    Args:
        path: The file.
        weights: Of any origin.
        dialect: As which program, if not the official one.

    Raises:
        ValueError: If the suffix is neither ``.pth``, ``.pt`` nor ``.safetensors``, or the last where the program needs
            more than a state dict; if the network has no such dialect.
        UnsupportedCheckpointError: As ``save_weights``.
        OSError: As ``save_weights``.
    """
    suffix = _suffix(path)
    form = format_of(weights.system, weights.arch)
    wrap = form.dialect(dialect).wrap
    tensors = _compact(to_official(weights.system, weights.state_dict, weights.args, dialect))
    if suffix != ".safetensors":
        atomic_write(path, _torch_writer(wrap(tensors, form.read_call(weights.call))))
    elif not form.call_names:
        atomic_write(path, _bytes_writer(safetensors_bytes(tensors, {"format": "pt"})))
    else:
        raise ValueError(
            f"output must end in .pth or .pt for official files of {weights.arch}, which hold "
            f"{' and '.join(form.call_names)} too, got {str(path)!r}"
        )


def make_record(
    system: str, arch: str, args: Mapping[str, Any], call: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Return the plain record that a file of ours carries under ``facesr``."""
    record = {"system": system, "arch": arch, "args": dict(args), "format": FORMAT_VERSION}
    return {**record, "call": dict(call)} if call else record


def _find_networks(content: Content, prefer: str) -> list[_Found]:
    """Return the networks of a file, the generator first."""
    record = _metadata_record(content.metadata)
    if isinstance(content.data, dict) and RECORD in content.data:
        record = content.data[RECORD]
    order = (prefer, *(kind for kind in _KINDS if kind != prefer), *_WRAPPERS)
    found = []
    for data, kind, beside in _unwrap(content.data, content.metadata.get("kind", "params"), {}, order, _MAX_WRAPPERS):
        if kind not in _KINDS:
            raise UnsupportedCheckpointError(f"its kind must be params or params_ema, got {kind[:40]!r}")
        tensors = _state_dict(module_state_dict(data) if isinstance(data, Stub) else data)
        found += [_Found(to_legacy_names(part), record, kind, beside) for part in _split(tensors)]
    return found


def _unwrap(
    data: Any, kind: str, beside: dict[str, Any], order: tuple[str, ...], depth: int
) -> list[tuple[Any, str, dict[str, Any]]]:
    """Return what lies below the outer keys, with its kind and all that is beside it; several networks if there are."""
    inner = [key for key in order if isinstance(data, dict) and isinstance(data.get(key), dict)][:1]
    inner = inner or [key for key in _NETWORKS if isinstance(data, dict) and isinstance(data.get(key), dict)]
    if not inner or not depth:
        return [(data, kind, beside)]
    beside = beside | data
    parts = (_unwrap(data[key], key if key in _KINDS else kind, beside, order, depth - 1) for key in inner)
    return [item for part in parts for item in part]


def _split(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the networks of a state dict whose keys begin with their names; what else it has belongs to losses."""
    tensors = strip_prefixes(tensors, _PREFIXES)
    parts = [{key: value for key, value in tensors.items() if key.startswith(f"{name}.")} for name in _NETWORKS]
    prefixes = (*_PREFIXES, *(f"{name}." for name in _NETWORKS))
    return [strip_prefixes(part, prefixes) for part in parts if part] or [tensors]


def _choose(found: list[_Found], system: str | None, arch: str | None) -> _Found:
    """Return the network that is an ``arch``, or the first one."""
    if arch is None or len(found) == 1:
        return found[0]
    return next((item for item in found if _arch_of(item, system) == arch), found[0])


def _arch_of(found: _Found, system: str | None) -> str | None:
    try:
        return identify(found.tensors, system).format.arch
    except UnsupportedCheckpointError:
        return None


def _state_dict(data: Any) -> dict[str, Tensor]:
    if not isinstance(data, dict):
        raise UnsupportedCheckpointError(f"it holds a {type(data).__name__}, not a state dict")
    odd = [key for key, value in data.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if odd or not data:
        raise UnsupportedCheckpointError(
            f"it holds no state dict: {f'not tensors: {list_some(odd)}' if odd else 'it is empty'}. "
            f"Weights are looked for under {', '.join((*_KINDS, *_WRAPPERS))}, or flat"
        )
    return data


def _metadata_record(metadata: Mapping[str, str]) -> Any:
    if RECORD not in metadata:
        return None
    try:
        return json.loads(metadata[RECORD])
    except (ValueError, RecursionError) as error:
        raise UnsupportedCheckpointError(f"its {RECORD} record is not JSON") from error


def _interpret(found: _Found, system: str | None, args: dict[str, Any], path: Path) -> Weights:
    if found.record is not None:
        return _with_record(found, system, args, path)
    form, dialect = identify(found.tensors, system)
    call = form.read_call({name: found.beside[name] for name in form.call_names if name in found.beside})
    if not form.claims(found.tensors):
        owner = identify(found.tensors).format
        raise UnsupportedCheckpointError(f"these are weights of {owner.system} ({owner.arch}), not {system}")
    if dialect != OURS:
        converted = from_official(form.system, found.tensors, args, dialect)
        return Weights(form.system, form.arch, converted.args, converted.state_dict, dialect, path, call)
    merged = form.infer_args(found.tensors) | args
    return Weights(form.system, form.arch, merged, check_weights(form, merged, found.tensors), found.kind, path, call)


def _with_record(found: _Found, system: str | None, args: dict[str, Any], path: Path) -> Weights:
    stated_system, arch, stated = _checked_record(found.record)
    if system not in (None, stated_system):
        raise UnsupportedCheckpointError(f"these are weights of {stated_system} ({arch}), not {system}")
    if args and {**stated, **args} != stated:
        raise UnsupportedCheckpointError(f"its record states other arguments than those given: {stated}")
    try:
        form = format_of(stated_system, arch)
        tensors = check_weights(form, stated, found.tensors)
        call = form.read_call(_call_of(found.record))
    except UnsupportedCheckpointError as error:
        raise UnsupportedCheckpointError(f"its record and its weights disagree: {error}") from error
    return Weights(stated_system, arch, stated, tensors, found.kind, path, call)


def _call_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    call = record.get("call", {})
    if not isinstance(call, dict):
        raise UnsupportedCheckpointError(f"call must be a table of arguments, got {str(call)[:40]!r}")
    return call


def _checked_record(record: Any) -> tuple[str, str, dict[str, Any]]:
    if not isinstance(record, dict) or type(record.get("format")) is not int or record["format"] < 1:
        raise UnsupportedCheckpointError(f"its {RECORD} record must have system, arch, args and a format number")
    if record["format"] > FORMAT_VERSION:
        raise UnsupportedCheckpointError(
            f"its {RECORD} record has format {record['format']}, this version reads up to {FORMAT_VERSION}. "
            "Update facesr-plugin"
        )
    system, arch, args = (record.get(name) for name in ("system", "arch", "args"))
    if not isinstance(system, str) or not isinstance(arch, str) or not isinstance(args, dict):
        raise UnsupportedCheckpointError(f"its {RECORD} record must have system, arch and args")
    if any(not isinstance(name, str) for name in args):
        raise UnsupportedCheckpointError(f"its {RECORD} record has an argument whose name is no text")
    try:
        format_of(system, arch)
    except ValueError as error:
        raise UnsupportedCheckpointError(
            f"its {RECORD} record names an unknown network: {error}. Update facesr-plugin"
        ) from error
    return system, arch, args


def _suffix(path: str | os.PathLike) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"output must end in {', '.join(SUFFIXES)}, got {str(path)!r}")
    return suffix


def _compact(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every tensor contiguous memory of its own, so that a file holds what the tensors show and no more."""
    compact, seen = {}, set()
    for key, tensor in state_dict.items():
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        if not whole or tensor.data_ptr() in seen or tensor.device.type != "cpu" or tensor.requires_grad:
            tensor = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)  # noqa: PLW2901
        seen.add(tensor.data_ptr())
        compact[key] = tensor
    return compact


def _torch_writer(data: Any) -> Any:
    return lambda file: torch.save(data, file)


def _bytes_writer(data: bytes) -> Any:
    def write(file: BinaryIO) -> None:
        file.write(data)

    return write
