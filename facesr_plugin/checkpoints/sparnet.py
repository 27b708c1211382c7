"""SPARNet and SPARNetHD: official key names and constructor arguments (spec section 6; release v0.1.0 of Face-SPARNet).

Official files are flat state dicts. Our constructor has the official argument names, so only keys are translated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain, list_some, nest
from facesr_plugin.checkpoints.system_format import SystemFormat, always

CONV_LAYER = (Rule("conv", "conv2d"), Rule("act", "relu.func"), Rule("norm", "norm.norm"))
_ATTENTION = (
    Rule("lateral.{l-1}", "b1_{l}", (0, "-l", 0)),
    Rule("down.{l-1}", "b2_{l}", (0, "-l", 1)),
    Rule("bottleneck", "b2_plus_1", (1,)),
    Rule("up.{l-1}", "b3_{l}", (2, "l")),
    Rule("out", "out_block.0", (3,)),
)
_UNIT = chain(
    nest([Rule("shortcut", "shortcut_func")], CONV_LAYER),
    [Rule("norm", "preact_func.0.norm"), Rule("act", "preact_func.1.func")],
    nest([Rule("conv1", "conv1"), Rule("conv2", "conv2")], CONV_LAYER),
    nest([Rule("attention", "att_func")], nest(_ATTENTION, CONV_LAYER)),
)
_UNITS = (Rule("encoder.{i}", "encoder.{i}"), Rule("body.{i}", "res_layers.{i}"), Rule("decoder.{i}", "decoder.{i}"))
GENERATOR_KEYS = KeyMap(
    chain(
        nest([Rule("encoder.0", "encoder.0")], CONV_LAYER),
        nest(_UNITS, _UNIT),
        nest([Rule("tail", "out_conv")], CONV_LAYER),
    )
)

_NOMINAL_SIZE = 64  # of the rule for the attention's depth; does not follow in_size
_PUBLISHED_SIZES = {(3, 3): (128, 128, 16), (4, 4): (512, 512, 32)}  # halvings, doublings: in, out, min_feat_size
_PUBLISHED_MIN_CH = 32
_MAX_STEPS = 10


def generator_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find SPARNet's constructor arguments from a state dict with our key names.

    Keys and shapes fix the numbers of halvings, doublings and blocks, the widths, the attention and spectral norm. What
    they leave open gets the published value where that fits: ``in_size``, ``out_size`` and ``min_feat_size`` (only
    their ratios matter), ``min_ch`` (if no width reaches it), ``leakyrelu`` (any activation but PReLU), ``in`` rather
    than ``gn``, ``none`` rather than ``pixel``. Pass other values to ``from_official``.

    Raises:
        UnsupportedCheckpointError: If a block is missing or the widths are not those of any SPARNet.
    """
    halvings = count_blocks(state_dict, "encoder") - 1
    body, doublings = count_blocks(state_dict, "body"), count_blocks(state_dict, "decoder")
    if not 0 <= halvings <= _MAX_STEPS or doublings > _MAX_STEPS:
        raise UnsupportedCheckpointError(f"SPARNet has no {halvings} halvings and {doublings} doublings")
    default = (16 << halvings, 16 << doublings, 16)
    in_size, out_size, min_feat_size = _PUBLISHED_SIZES.get((halvings, doublings), default)
    min_ch, max_ch = _channel_limits(state_dict, halvings, doublings)
    return {
        "min_ch": min_ch,
        "max_ch": max_ch,
        "in_size": in_size,
        "out_size": out_size,
        "min_feat_size": min_feat_size,
        "res_depth": body + halvings - 3,
        "relu_type": relu_type(state_dict),
        "norm_type": norm_type(state_dict),
        "att_name": _attention_type(state_dict),
        "bottleneck_size": _bottleneck_size(state_dict, halvings),
        "spectral_norm": has_spectral_norm(state_dict),
    }


def count_blocks(state_dict: Mapping[str, Tensor], stage: str) -> int:
    """Return how many blocks ``<stage>.0``, ``<stage>.1`` ... there are.

    Raises:
        UnsupportedCheckpointError: If some are missing in between.
    """
    found = {int(key.removeprefix(f"{stage}.").split(".")[0]) for key in state_dict if key.startswith(f"{stage}.")}
    if found != set(range(len(found))):
        gaps = sorted(set(range(max(found))) - found)
        raise UnsupportedCheckpointError(f"blocks are missing: {list_some(f'{stage}.{i}' for i in gaps)}")
    return len(found)


def conv_shape(state_dict: Mapping[str, Tensor], layer: str) -> tuple[int, ...]:
    """Return the shape (out, in, 3, 3) of the convolution of a ConvLayer.

    Raises:
        UnsupportedCheckpointError: If it is missing or no convolution weight.
    """
    for leaf in ("weight", "weight_orig"):
        if f"{layer}.conv.{leaf}" in state_dict:
            shape = tuple(state_dict[f"{layer}.conv.{leaf}"].shape)
            if len(shape) == 4 and max(shape) <= 2**16:
                return shape
            raise UnsupportedCheckpointError(f"{layer}.conv.{leaf} must be a convolution weight, got shape {shape}")
    raise UnsupportedCheckpointError(f"{layer}.conv.weight is missing")


def _channel_limits(state_dict: Mapping[str, Tensor], halvings: int, doublings: int) -> tuple[int, int]:
    """Return (min_ch, max_ch) that give the widths of the file: the published ones if they do."""
    down = [conv_shape(state_dict, "encoder.0")[0]]
    down += [conv_shape(state_dict, f"encoder.{i}.conv1")[0] for i in range(1, halvings + 1)]
    up = [conv_shape(state_dict, f"decoder.{i}.conv1")[0] for i in range(doublings)]
    smallest, widest = min(down + up), down[-1]
    for max_ch, min_ch in product(range(widest, widest + 2**halvings), (_PUBLISHED_MIN_CH, smallest)):
        if min_ch <= max_ch and widths(min_ch, max_ch, halvings, doublings) == (down, up):
            return min_ch, max_ch
    raise UnsupportedCheckpointError(f"the widths {down} (down) and {up} (up) are those of no SPARNet")


def widths(min_ch: int, max_ch: int, halvings: int, doublings: int) -> tuple[list[int], list[int]]:
    """Return the channels after the first convolution and each halving, and after each doubling."""

    def limit(count: int) -> int:
        return min(max(count, min_ch), max_ch)

    first = limit(max_ch // (halvings + 1))
    down = [limit(first << i) for i in range(halvings + 1)]
    return down, [limit((first << halvings) >> i) for i in range(1, doublings + 1)]


def norm_type(state_dict: Mapping[str, Tensor]) -> str:
    """Return ``bn``, ``in`` (or ``gn``, which looks the same) or ``none`` (or ``pixel``)."""
    leaves = {key.rsplit(".", 1)[1] for key in state_dict if key.split(".")[-2] == "norm"}
    if not leaves:
        return "none"
    return "bn" if "running_mean" in leaves else "in"


def relu_type(state_dict: Mapping[str, Tensor]) -> str:
    """Return ``prelu``, or ``leakyrelu`` for every activation without parameters."""
    return "prelu" if any(key.endswith(".act.weight") for key in state_dict) else "leakyrelu"


def _attention_type(state_dict: Mapping[str, Tensor]) -> str:
    outputs = {len(value) for key, value in state_dict.items() if key.endswith(".attention.out.conv.bias")}
    return "spar" if outputs <= {1} else "spar3d"


def _bottleneck_size(state_dict: Mapping[str, Tensor], halvings: int) -> int:
    """Return the largest size that gives the attention depths of the file.

    The depth rises by one per doubling and falls by one per halving; any block with attention shows it.
    """
    laterals = [key.split(".") for key in state_dict if ".attention.lateral." in key]
    offsets = {"encoder": -1, "body": halvings - 1, "decoder": halvings - 2}
    depths: dict[tuple[str, str], int] = {}
    for stage, index, _, _, level, *_ in laterals:
        depths[stage, index] = max(depths.get((stage, index), 0), int(level) + 1)
    for (stage, index), depth in depths.items():
        step = {"encoder": int(index), "body": 0, "decoder": -int(index)}[stage]
        first_depth = depth + offsets[stage] + step
        if 0 <= first_depth <= 6:
            return _NOMINAL_SIZE >> first_depth
        raise UnsupportedCheckpointError(f"{stage}.{index} has attention of depth {depth}, which no SPARNet has there")
    return min(_NOMINAL_SIZE, 2 * _NOMINAL_SIZE >> halvings)


def has_spectral_norm(state_dict: Mapping[str, Tensor]) -> bool:
    """Return whether any weight is divided by its spectral norm."""
    return any(key.endswith(".weight_orig") for key in state_dict)


def _has_no_spectral_norm(state_dict: Mapping[str, Tensor]) -> bool:
    return not has_spectral_norm(state_dict)


_GENERATOR = SystemFormat(
    system="sparnet",
    arch="SPARNet",
    keys=GENERATOR_KEYS,
    infer_args=generator_args,
    exact_args=("res_depth", "spectral_norm"),
    claims=_has_no_spectral_norm,
)
# Both systems are one network: spectral norm tells SPARNetHD. Weights whose spectral norm was folded can be of either,
# and count as SPARNet's unless their record or the caller says otherwise.
FORMATS = (_GENERATOR, replace(_GENERATOR, system="sparnethd", claims=always))
