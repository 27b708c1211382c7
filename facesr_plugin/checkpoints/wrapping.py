"""What lies inside a weight file: the outer keys of training programs, prefixes, and files of several networks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import list_some, strip_prefixes
from facesr_plugin.checkpoints.module_file import module_state_dict
from facesr_plugin.checkpoints.reader import Content
from facesr_plugin.checkpoints.rebuild import Stub
from facesr_plugin.checkpoints.spectral_norm import to_legacy_names

RECORD = "facesr"
KINDS = ("params", "params_ema")
# Outer keys of training programs, in the order in which the official loaders look for them.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# Outer keys, or beginnings of keys, of each network of a file with several; the first is taken unless told otherwise.
_NETWORKS = ("netG", "net_g", "generator", "netD", "net_d", "discriminator")
_PREFIXES = ("module.", "_orig_mod.")
_MAX_WRAPPERS = 3


class Found(NamedTuple):
    """Contents of a file before its system is known: weights, the record (if any), the outer key, what is beside it."""

    tensors: dict[str, Tensor]
    record: Any
    kind: str
    beside: dict[str, Any]


def find_networks(content: Content, prefer: str) -> Iterator[Found]:
    """Return the networks of a file, the generator first.

    Args:
        content: Of the file.
        prefer: ``params_ema`` or ``params``, for files that have both.

    Raises:
        UnsupportedCheckpointError: If there is no state dict where one must be.
    """
    record = _metadata_record(content.metadata)
    if isinstance(content.data, dict) and RECORD in content.data:
        record = content.data[RECORD]
    order = (prefer, *(kind for kind in KINDS if kind != prefer), *_WRAPPERS)
    for data, kind, beside in _unwrap(content.data, content.metadata.get("kind", "params"), {}, order, _MAX_WRAPPERS):
        if kind not in KINDS:
            raise UnsupportedCheckpointError(f"its kind must be params or params_ema, got {kind[:40]!r}")
        tensors = _state_dict(module_state_dict(data) if isinstance(data, Stub) else data)
        for part in _split(tensors):
            yield Found(to_legacy_names(part), record, kind, beside)


def _unwrap(
    data: Any, kind: str, beside: dict[str, Any], order: tuple[str, ...], depth: int
) -> list[tuple[Any, str, dict[str, Any]]]:
    """Return what lies below the outer keys, with its kind and all that is beside it; several networks if there are."""
    inner = [key for key in order if isinstance(data, dict) and isinstance(data.get(key), dict)][:1]
    inner = inner or [key for key in _NETWORKS if isinstance(data, dict) and isinstance(data.get(key), dict)]
    if not inner or not depth:
        return [(data, kind, beside)]
    beside = beside | data
    parts = (_unwrap(data[key], key if key in KINDS else kind, beside, order, depth - 1) for key in inner)
    return [item for part in parts for item in part]


def _split(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the networks of a state dict whose keys begin with their names; what else it has belongs to losses."""
    tensors = strip_prefixes(tensors, _PREFIXES)
    parts = [{key: value for key, value in tensors.items() if key.startswith(f"{name}.")} for name in _NETWORKS]
    prefixes = (*_PREFIXES, *(f"{name}." for name in _NETWORKS))
    return [strip_prefixes(part, prefixes) for part in parts if part] or [tensors]


def _state_dict(data: Any) -> dict[str, Tensor]:
    if not isinstance(data, dict):
        raise UnsupportedCheckpointError(f"it holds a {type(data).__name__}, not a state dict")
    odd = [key for key, value in data.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if odd or not data:
        raise UnsupportedCheckpointError(
            f"it holds no state dict: {f'not tensors: {list_some(odd)}' if odd else 'it is empty'}. "
            f"Weights are looked for under {', '.join((*KINDS, *_WRAPPERS, *_NETWORKS))}, or flat"
        )
    return data


def _metadata_record(metadata: Mapping[str, str]) -> Any:
    if RECORD not in metadata:
        return None
    try:
        return json.loads(metadata[RECORD])
    except (ValueError, RecursionError) as error:
        raise UnsupportedCheckpointError(f"its {RECORD} record is not JSON") from error
