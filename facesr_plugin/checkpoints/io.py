"""Load weights of any origin into our key names, and save them.

A file of ours has, beside ``params`` (and ``params_ema``), a plain record ``facesr: {system, arch, args, format: 1}``,
with ``call`` if the network is called with more than images, and ``faces`` (``gt_size``, ``scale``, ``framing``) if the
training stated them; safetensors carry it as JSON in their metadata. BasicSR ignores the record, so the same file
serves its options.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from facesr_plugin.cards import FRAMINGS, LARGEST_SIZE
from facesr_plugin.checkpoints.detect import check_weights, format_of, formats_of, from_official, identify, to_official
from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.module_file import MODULE_STUBS
from facesr_plugin.checkpoints.reader import read_content
from facesr_plugin.checkpoints.system_format import OFFICIAL, OURS
from facesr_plugin.checkpoints.wrapping import KINDS, RECORD, Found, find_networks
from facesr_plugin.registry import ARCH_REGISTRY
from facesr_plugin.utils.files import atomic_write, torch_writer

FORMAT_VERSION = 1
SUFFIXES = (".pth", ".pt", ".safetensors")
_FACE_FIELDS = ("gt_size", "scale", "framing")


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
        faces: ``gt_size`` in pixels, ``scale`` and ``framing`` of the faces that it was trained for, where the file
            states them.
    """

    system: str
    arch: str
    args: dict[str, Any]
    state_dict: dict[str, Tensor]
    kind: str
    path: Path
    call: Mapping[str, Any] = MappingProxyType({})
    faces: Mapping[str, int | str] = MappingProxyType({})


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
        arch: Registered name of the network that it must hold, also as a part of another one; of a file with several,
            the generator by default.

    Returns:
        The weights on the CPU, in our key names, complete and of the right shapes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If ``prefer`` or ``system`` is unknown.
        UnsupportedCheckpointError: If the file cannot be read, or its weights are not those of a known network.
    """
    if prefer not in KINDS:
        raise ValueError(f"prefer must be params or params_ema, got {prefer!r}")
    if system is not None:
        formats_of(system)
    content = read_content(path, stubs=MODULE_STUBS)
    try:
        found = _choose(find_networks(content, prefer), system, arch)
        weights = _interpret(found, system, dict(args or {}), Path(path))
        return weights if arch is None else _take(weights, arch)
    except UnsupportedCheckpointError as error:
        raise UnsupportedCheckpointError(f"cannot use {str(path)!r}: {error}") from error


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
    record = make_record(weights.system, weights.arch, weights.args, weights.call, weights.faces)
    kind = weights.kind if weights.kind in KINDS else "params"
    if suffix == ".safetensors":
        metadata = {"format": "pt", RECORD: json.dumps(record), "kind": kind}
        atomic_write(path, _bytes_writer(safetensors_bytes(tensors, metadata)))
    else:
        atomic_write(path, torch_writer({kind: tensors, RECORD: record}))


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
        atomic_write(path, torch_writer(wrap(tensors, form.read_call(weights.call))))
    elif not form.call_names:
        atomic_write(path, _bytes_writer(safetensors_bytes(tensors, {"format": "pt"})))
    else:
        raise ValueError(
            f"output must end in .pth or .pt for official files of {weights.arch}, which hold "
            f"{' and '.join(form.call_names)} too, got {str(path)!r}"
        )


def make_record(
    system: str,
    arch: str,
    args: Mapping[str, Any],
    call: Mapping[str, Any] = MappingProxyType({}),
    faces: Mapping[str, int | str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the plain record that a file of ours carries under ``facesr``."""
    record = {"system": system, "arch": arch, "args": dict(args), "format": FORMAT_VERSION}
    return record | {name: dict(value) for name, value in {"call": call, "faces": faces}.items() if value}


def _choose(networks: Iterator[Found], system: str | None, arch: str | None) -> Found:
    """Return the network that is or has an ``arch``, else the first one."""
    first = next(networks)
    if arch is None:
        return first
    return next((found for found in (first, *networks) if arch in _archs_of(found, system)), first)


def _archs_of(found: Found, system: str | None) -> list[str]:
    try:
        form = identify(found.tensors, system).format
    except UnsupportedCheckpointError:
        return []
    return [form.arch, *dict(form.parts)]


def _take(weights: Weights, arch: str) -> Weights:
    """Return the weights of the network that is wanted: all of them, or those of a part."""
    if weights.arch == arch:
        return weights
    prefix = dict(format_of(weights.system, weights.arch).parts).get(arch)
    if prefix is None:
        raise UnsupportedCheckpointError(f"these are weights of {weights.system} ({weights.arch}), not of {arch}")
    tensors = {key.removeprefix(prefix): value for key, value in weights.state_dict.items() if key.startswith(prefix)}
    args = format_of(weights.system, arch).infer_args(tensors)
    return weights._replace(arch=arch, args=args, state_dict=tensors, call=MappingProxyType({}))


def _interpret(found: Found, system: str | None, args: dict[str, Any], path: Path) -> Weights:
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


def _with_record(found: Found, system: str | None, args: dict[str, Any], path: Path) -> Weights:
    stated_system, arch, stated = _checked_record(found.record)
    if system not in (None, stated_system):
        raise UnsupportedCheckpointError(f"these are weights of {stated_system} ({arch}), not {system}")
    if args and {**stated, **args} != stated:
        raise UnsupportedCheckpointError(f"its record states other arguments than those given: {stated}")
    try:
        form = format_of(stated_system, arch)
        tensors = check_weights(form, stated, found.tensors)
        call = form.read_call(_call_of(found.record))
        faces = _faces_of(found.record)
    except UnsupportedCheckpointError as error:
        raise UnsupportedCheckpointError(f"its record and its weights disagree: {error}") from error
    return Weights(stated_system, arch, stated, tensors, found.kind, path, call, faces)


def _faces_of(record: Mapping[str, Any]) -> Mapping[str, int | str]:
    faces = record.get("faces", {})
    if not isinstance(faces, dict) or not faces.keys() <= set(_FACE_FIELDS):
        raise UnsupportedCheckpointError(f"faces must be a table of {', '.join(_FACE_FIELDS)}, got {str(faces)[:80]}")
    for name, value in faces.items():
        if name == "framing":
            if value not in FRAMINGS:
                raise UnsupportedCheckpointError(
                    f"framing of the faces must be one of {', '.join(FRAMINGS)}, got {str(value)[:40]}"
                )
        elif type(value) is not int or not 1 <= value <= LARGEST_SIZE:
            raise UnsupportedCheckpointError(f"{name} of the faces must be 1 to {LARGEST_SIZE}, got {str(value)[:40]}")
    return faces


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


def _bytes_writer(data: bytes) -> Any:
    def write(file: BinaryIO) -> None:
        file.write(data)

    return write
