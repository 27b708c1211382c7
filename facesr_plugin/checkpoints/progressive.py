"""Progressive face super-resolution: official key names and constructor arguments (spec section 6.1).

Official files are dictionaries of ``step``, ``alpha``, ``iteration`` and ``model_state_dict``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain, nest
from facesr_plugin.checkpoints.system_format import SystemFormat

SYSTEM = "progressive"

_BLOCK = (
    Rule("conv1", "conv.0.conv"),
    Rule("norm1", "conv.1"),
    Rule("conv2", "conv.3.conv"),
    Rule("norm2", "conv.4"),
)


def _generator_stage(ours: str, official: str, first: int) -> tuple[Rule, ...]:
    """Return the rules of one stage, whose residual block is ``<official>.<first>``."""
    return chain(
        nest([Rule(f"{ours}.block", f"{official}.{first}")], _BLOCK),
        [Rule(f"{ours}.up", f"{official}.{first + 1}"), Rule(f"{ours}.norm", f"{official}.{first + 2}")],
    )


GENERATOR_KEYS = KeyMap(
    chain(
        [Rule("to_rgb.{i}", "to_rgb.{i}"), Rule("head", "step1.0"), Rule("head_norm", "step1.1")],
        _generator_stage("stages.0", "step1", 3),
        _generator_stage("stages.1", "step2", 0),
        _generator_stage("stages.2", "step3", 0),
    )
)
CRITIC_KEYS = KeyMap(
    chain(
        [Rule("from_rgb.{i}", "from_rgb.{i}")],
        nest(
            [Rule("stages.{i-1}", "step{i}")],
            [Rule("conv1", "0.conv.0.conv"), Rule("conv2", "0.conv.2.conv")],
        ),
        [Rule("mix", "equal_conv.conv"), Rule("linear1", "linear"), Rule("linear2", "linear2")],
    )
)


def width_of(state_dict: Mapping[str, Tensor], key: str) -> int:
    """Return the first size of a weight.

    Raises:
        UnsupportedCheckpointError: If it is missing or a scalar.
    """
    if key not in state_dict or not state_dict[key].dim():
        raise UnsupportedCheckpointError(f"{key} is missing or has no sizes")
    return len(state_dict[key])


def generator_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find ProgressiveFSRNet's constructor arguments from a state dict with our key names.

    Raises:
        UnsupportedCheckpointError: If the first layer is missing.
    """
    return {"num_feat": width_of(state_dict, "head.weight")}


def critic_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find ProgressiveFSRDiscriminator's constructor arguments from a state dict with our key names.

    Raises:
        UnsupportedCheckpointError: If the last convolution is missing.
    """
    return {"num_feat": width_of(state_dict, "mix.weight_orig")}


FORMATS = (
    SystemFormat(SYSTEM, "ProgressiveFSRNet", GENERATOR_KEYS, generator_args, exact_args=("num_feat",)),
    SystemFormat(SYSTEM, "ProgressiveFSRDiscriminator", CRITIC_KEYS, critic_args, exact_args=("num_feat",)),
)
