"""Landmark networks of DIC: key names, official and of mmagic, and arguments (spec sections 2.6, 2.7 and 6).

Official files are flat state dicts. In mmagic the recurrent network exists as part of the generator only; a file of it
alone has the keys without the generator's prefix. All residual blocks of an hourglass have one shape, so that only
results show whether their names were exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain, nest
from facesr_plugin.checkpoints.progressive import width_of
from facesr_plugin.checkpoints.system_format import OFFICIAL, Dialect, SystemFormat

SYSTEM = "dic"
MMAGIC = "mmagic"
_DEPTH = 4

_PLAIN_RESIDUAL = (
    Rule("conv1", "conv_block.0"),
    Rule("conv2", "conv_block.2"),
    Rule("conv3", "conv_block.3"),
    Rule("shortcut", "skip_layer"),
)
_NORM_RESIDUAL = (
    Rule("conv1", "conv_block.0"),
    Rule("norm1", "conv_block.1"),
    Rule("conv2", "conv_block.3"),
    Rule("norm2", "conv_block.4"),
    Rule("conv3", "conv_block.6"),
    Rule("norm3", "conv_block.7"),
    Rule("shortcut.{j}", "skip_layer.{j}"),
)
_LEVELS = (
    Rule("side.{l-1}", "res{l}_1", (0, "-l", 0)),
    Rule("down.{l-1}", "res{l}_2", (0, "-l", 1)),
    Rule("bottom", "res_center", (1,)),
    Rule("up.{l-1}", "res{l}_3", (2, "l")),
)


def _nested_levels() -> tuple[Rule, ...]:
    """Return the levels as mmagic names them: ``low2`` of a level is the next smaller one."""
    rules = [Rule("bottom", ".".join(["low2"] * _DEPTH), (1,))]
    for level in range(_DEPTH):
        place = "low2." * (_DEPTH - 1 - level)
        rules += [
            Rule(f"side.{level}", f"{place}up1", (0, -level, 0)),
            Rule(f"down.{level}", f"{place}low1", (0, -level, 1)),
            Rule(f"up.{level}", f"{place}low3", (2, level)),
        ]
    return tuple(rules)


class _Names(NamedTuple):
    """What dialects of the recurrent hourglass call differently."""

    compress: str
    levels: tuple[Rule, ...]
    top: str
    conv: str
    heatmaps: str


_NAMES = {
    OFFICIAL: _Names("compress_in", _LEVELS, "hg_conv_out.0", "hg_conv_out.1.conv_block.0", "hg_conv_out.2"),
    MMAGIC: _Names("first_conv", _nested_levels(), "last.0", "last.1", "last.3"),
}


def feedback_rules(dialect: str) -> tuple[Rule, ...]:
    """Return the table of FeedbackHourglass for ``official`` or ``mmagic`` names."""
    names = _NAMES[dialect]
    blocks = (Rule(f"block{i}", f"pre_conv_block.{place}") for i, place in ((1, 2), (2, 4), (3, 5)))
    return chain(
        [Rule("head", "pre_conv_block.0")],
        nest(blocks, _PLAIN_RESIDUAL),
        [Rule("compress", names.compress)],
        nest([Rule("hourglass", "hg")], nest(names.levels, _PLAIN_RESIDUAL)),
        nest([Rule("top", names.top)], _PLAIN_RESIDUAL),
        [Rule("conv", names.conv), Rule("heatmaps", names.heatmaps)],
    )


_STACK_LAYERS = (
    Rule("stacks.{i}.conv", "hg{i}_lin1.conv_block.0", ("i", 2)),
    Rule("stacks.{i}.norm", "hg{i}_lin1.conv_block.1", ("i", 3)),
    Rule("stacks.{i}.heatmaps", "hg{i}_conv_pred", ("i", 4)),
    Rule("stacks.{i}.join", "compress_step{i}", ("i", 5)),
    Rule("stacks.{i}.feat_back", "hg{i}_conv1", ("i", 6)),
    Rule("stacks.{i}.heatmaps_back", "hg{i}_conv2", ("i", 7)),
)
HOURGLASS_KEYS = KeyMap(feedback_rules(OFFICIAL))
STACKED_KEYS = KeyMap(
    chain(
        [Rule("head", "pre_conv_block.0"), Rule("head_norm", "pre_conv_block.1")],
        nest(
            [Rule(f"block{i}", f"pre_conv_block.{place}") for i, place in ((1, 3), (2, 5), (3, 6))],
            _NORM_RESIDUAL,
        ),
        [
            *nest([Rule("stacks.{i}.hourglass", "hg{i}", ("i", 0))], nest(_LEVELS, _NORM_RESIDUAL)),
            *nest([Rule("stacks.{i}.top", "hg{i}_res1", ("i", 1))], _NORM_RESIDUAL),
            *_STACK_LAYERS,
        ],
    )
)


def feedback_args(state_dict: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """Find FeedbackHourglass's constructor arguments from a state dict with our key names that begin with ``prefix``.

    Raises:
        UnsupportedCheckpointError: If the first or the last layer is missing.
    """
    return {
        "num_landmarks": width_of(state_dict, f"{prefix}heatmaps.weight"),
        "num_feat": width_of(state_dict, f"{prefix}conv.weight"),
    }


def stacked_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find StackedHourglass's constructor arguments from a state dict with our key names.

    With one stack nothing shows ``connect``, and nothing depends on it.

    Raises:
        UnsupportedCheckpointError: If a stack is missing.
    """
    num_stacks = sum(key.startswith("stacks.") and key.endswith(".heatmaps.weight") for key in state_dict)
    if not num_stacks:
        raise UnsupportedCheckpointError("there are no stacks")
    return {
        **feedback_args(state_dict, "stacks.0."),
        "num_stacks": num_stacks,
        "connect": "cat" if "stacks.0.join.weight" in state_dict else "mean",
    }


FORMATS = (
    SystemFormat(
        SYSTEM,
        "FeedbackHourglass",
        HOURGLASS_KEYS,
        feedback_args,
        exact_args=("num_landmarks", "num_feat"),
        others=(Dialect(MMAGIC, KeyMap(feedback_rules(MMAGIC))),),
    ),
    SystemFormat(
        SYSTEM,
        "StackedHourglass",
        STACKED_KEYS,
        stacked_args,
        exact_args=("num_landmarks", "num_feat", "num_stacks"),
    ),
)
