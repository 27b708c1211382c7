"""JASRNet: official key names and constructor arguments (spec section 6).

Official files are flat state dicts. They hold the constants that shift the input's colours twice; the second copy,
``sub_mean_cpm``, is used by nothing. It is not kept, and written from the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain
from facesr_plugin.checkpoints.progressive import width_of
from facesr_plugin.checkpoints.system_format import SystemFormat

_COPY = "sub_mean_cpm."
_MEAN_OVER_STD = 0.485 / 0.229  # of red
_RANGES = (1.0, 255.0)


class JASRNetKeyMap(KeyMap):
    """A table whose official side has the constants of the input's shift twice."""

    def to_ours(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Rename official keys to ours, as ``KeyMap``, and leave out the copy."""
        return super().to_ours({key: value for key, value in state_dict.items() if not key.startswith(_COPY)})

    def to_official(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Rename our keys to the official ones, as ``KeyMap``, and put the copy first."""
        renamed = super().to_official(state_dict)
        constants = {key: value for key, value in renamed.items() if key.startswith("sub_mean.")}
        return {key.replace("sub_mean.", _COPY): value for key, value in constants.items()} | renamed

    def official_misfits(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that fit no official pattern."""
        return super().official_misfits(key for key in keys if key not in (f"{_COPY}weight", f"{_COPY}bias"))


def _sequence(ours: str, official: str, *indices: str) -> tuple[Rule, ...]:
    """Return the rules of layers that are numbered alike: residual blocks and single convolutions."""
    place = ".".join(f"{{{name}}}" for name in (*indices, "j"))
    order = (*indices, "j")
    return (
        Rule(f"{ours}.{place}.conv1", f"{official}.{place}.body.0", (*order, 0)),
        Rule(f"{ours}.{place}.conv2", f"{official}.{place}.body.2", (*order, 1)),
        Rule(f"{ours}.{place}", f"{official}.{place}", (*order, 2)),
    )


KEYS = JASRNetKeyMap(
    chain(
        [Rule("shift_in", "sub_mean"), Rule("shift_out", "add_mean")],
        _sequence("skip", "long_connection"),
        _sequence("encoder1", "encoder_a"),
        [Rule("down1", "encoder_a_downsample.0")],
        _sequence("encoder2", "encoder_b1"),
        [Rule("down2", "encoder_b1_downsample.0")],
        _sequence("encoder3", "encoder_c1"),
        [Rule("down3", "encoder_c1_downsample.0")],
        _sequence("encoder4", "encoder_c2"),
        [Rule("head", "head.0")],
        _sequence("body", "features"),
        _sequence("sr_body", "sr_feature"),
        [Rule("sr_up.{j}", "sr_tail.0.{j}"), Rule("sr_tail", "sr_tail.1")],
        _sequence("landmark_body", "CPM_feature"),
        _sequence("stages", "stages", "i"),
    )
)


def network_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find JASRNet's constructor arguments from a state dict with our key names.

    Raises:
        UnsupportedCheckpointError: If a layer that shows one is missing or of an impossible size.
    """
    blocks = {key.split(".")[1] for key in state_dict if key.startswith("body.")}
    return {
        "num_landmarks": width_of(state_dict, "stages.0.4.weight") - 1,
        "num_feat": width_of(state_dict, "head.weight"),
        "num_block": len(blocks),
        "upscale": _upscale(state_dict),
        "rgb_range": _rgb_range(state_dict),
    }


def _upscale(state_dict: Mapping[str, Tensor]) -> int:
    doublings = sum(key.startswith("sr_up.") and key.endswith(".weight") for key in state_dict)
    growth = width_of(state_dict, "sr_up.0.weight") / width_of(state_dict, "head.weight")
    return 3 if growth == 9 else 2**doublings


def _rgb_range(state_dict: Mapping[str, Tensor]) -> float:
    width_of(state_dict, "shift_in.bias")
    found = -float(state_dict["shift_in.bias"].flatten()[0]) / _MEAN_OVER_STD
    if not (math.isfinite(found) and found > 0):
        raise UnsupportedCheckpointError(f"shift_in.bias must be negative, got {state_dict['shift_in.bias'].tolist()}")
    # weights may be stored with half precision
    return next((value for value in _RANGES if math.isclose(value, found, rel_tol=0.01)), round(found, 3))


FORMATS = (
    SystemFormat(
        system="jasrnet",
        arch="JASRNet",
        keys=KEYS,
        infer_args=network_args,
        exact_args=("num_landmarks", "num_feat", "num_block", "upscale", "rgb_range"),
    ),
)
