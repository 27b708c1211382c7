"""Progressive face super-resolution: official key names and constructor arguments (spec section 6.1).

Official files are dictionaries of ``step``, ``alpha``, ``iteration`` (within the step) and ``model_state_dict``. The
first two are kept, as arguments of the call; the third is where the official training goes on, and is written as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain, nest
from facesr_plugin.checkpoints.system_format import SystemFormat

SYSTEM = "progressive"
_LAST_STEP = 3
_CALL_NAMES = ("step", "alpha")

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


def read_call(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``step`` and ``alpha`` of the networks' call: by default those of the finished training, 3 and 1.

    Raises:
        UnsupportedCheckpointError: If ``step`` is not 1, 2 or 3, ``alpha`` no finite number, or there is anything else.
    """
    step, alpha = stated.get("step", _LAST_STEP), stated.get("alpha", 1.0)
    odd = sorted(str(name)[:40] for name in stated if name not in _CALL_NAMES)
    if odd:
        raise UnsupportedCheckpointError(f"the networks are called with step and alpha, got also {', '.join(odd)}")
    if type(step) is not int or not 1 <= step <= _LAST_STEP:
        raise UnsupportedCheckpointError(f"step must be 1, 2 or 3, got {str(step)[:40]}")
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise UnsupportedCheckpointError(f"alpha must be a finite number, got {str(alpha)[:40]}")
    return {"step": step, "alpha": float(alpha)}


def _wrap(tensors: dict[str, Tensor], call: Mapping[str, Any]) -> dict[str, Any]:
    return {**call, "iteration": 0, "model_state_dict": tensors}


_GENERATOR = SystemFormat(
    system=SYSTEM,
    arch="ProgressiveFSRNet",
    keys=GENERATOR_KEYS,
    infer_args=generator_args,
    exact_args=("num_feat",),
    call_names=_CALL_NAMES,
    read_call=read_call,
    wrap=_wrap,
)
_CRITIC = replace(_GENERATOR, arch="ProgressiveFSRDiscriminator", keys=CRITIC_KEYS, infer_args=critic_args)
FORMATS = (_GENERATOR, _CRITIC)
