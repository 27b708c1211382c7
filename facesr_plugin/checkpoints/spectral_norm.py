"""Spectral norm in state dicts: its two spellings in torch, and folding it into plain weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError

# torch.nn.utils.parametrizations.spectral_norm -> torch.nn.utils.spectral_norm
_PARAMETRISATION = {
    ".parametrizations.weight.original": ".weight_orig",
    ".parametrizations.weight.0._u": ".weight_u",
    ".parametrizations.weight.0._v": ".weight_v",
}


def to_legacy_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of torch's newer, parametrisation-based spectral norm to ``weight_orig, weight_u, weight_v``.

    Eval results are the same; in train mode the newer form updates u before v, the official code v before u.
    """
    renamed = {}
    for key, value in state_dict.items():
        new = key
        for suffix, legacy in _PARAMETRISATION.items():
            if key.endswith(suffix):
                new = key.removesuffix(suffix) + legacy
        renamed[new] = value
    if len(renamed) != len(state_dict):
        raise UnsupportedCheckpointError("the file has the same spectrally normalised weight in both of torch's forms")
    return renamed


def fold_spectral_norm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace every ``weight_orig, weight_u, weight_v`` by the ``weight`` in use in eval mode, weight_orig / (u^T W v).

    Args:
        state_dict: With our key names or official ones; left as it is.

    Returns:
        A new dict, in which the folded weight precedes its layer's bias, as in a network without spectral norm. Eval
        outputs are bit-identical.

    Raises:
        UnsupportedCheckpointError: If a ``weight_orig`` lacks its vectors or these do not fit it.
    """
    folded: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        layer, _, leaf = key.rpartition(".")
        if leaf == "bias" and f"{layer}.weight_orig" in state_dict:
            folded[f"{layer}.weight"] = _folded_weight(state_dict, layer)
        if leaf == "weight_orig":
            folded.setdefault(f"{layer}.weight", _folded_weight(state_dict, layer))
        elif leaf not in ("weight_u", "weight_v"):
            folded[key] = value
    return folded


def _folded_weight(state_dict: Mapping[str, Tensor], layer: str) -> Tensor:
    weight = state_dict[f"{layer}.weight_orig"]
    u, v = state_dict.get(f"{layer}.weight_u"), state_dict.get(f"{layer}.weight_v")
    if u is None or v is None or u.shape != weight.shape[:1] or v.numel() * len(u) != weight.numel() or v.dim() != 1:
        raise UnsupportedCheckpointError(f"{layer}: weight_u and weight_v are missing or do not fit weight_orig")
    return weight / torch.dot(u, torch.mv(weight.flatten(1), v))
