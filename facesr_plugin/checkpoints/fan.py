"""Alignment networks of progressive super-resolution: official key names and arguments (spec sections 2.4 and 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain, nest
from facesr_plugin.checkpoints.progressive import SYSTEM, width_of
from facesr_plugin.checkpoints.system_format import SystemFormat

COMPRESSED_KEYS = KeyMap(
    [
        Rule("head", "conv"),
        Rule("convs.0", "layers.0"),
        Rule("norms.0", "layers.1"),
        Rule("convs.1", "layers.3"),
        Rule("norms.1", "layers.4"),
        Rule("convs.2", "layers.6"),
        Rule("norms.2", "layers.7"),
        Rule("tail", "layers.9"),
    ]
)

_BLOCK = (
    Rule("norm1", "bn1"),
    Rule("conv1", "conv1"),
    Rule("norm2", "bn2"),
    Rule("conv2", "conv2"),
    Rule("norm3", "bn3"),
    Rule("conv3", "conv3"),
    Rule("shortcut.0", "downsample.0"),
    Rule("shortcut.2", "downsample.2"),
)
_STACK_BLOCKS = (
    Rule("stacks.{i}.hourglass.side.{l-1}", "m{i}.b1_{l}", ("i", 0, "-l", 0)),
    Rule("stacks.{i}.hourglass.down.{l-1}", "m{i}.b2_{l}", ("i", 0, "-l", 1)),
    Rule("stacks.{i}.hourglass.bottom", "m{i}.b2_plus_1", ("i", 1)),
    Rule("stacks.{i}.hourglass.up.{l-1}", "m{i}.b3_{l}", ("i", 2, "l")),
    Rule("stacks.{i}.top", "top_m_{i}", ("i", 3)),
)
_STACK_LAYERS = (
    Rule("stacks.{i}.conv", "conv_last{i}", ("i", 4)),
    Rule("stacks.{i}.norm", "bn_end{i}", ("i", 5)),
    Rule("stacks.{i}.heatmaps", "l{i}", ("i", 6)),
    Rule("stacks.{i}.feat_back", "bl{i}", ("i", 7)),
    Rule("stacks.{i}.heatmaps_back", "al{i}", ("i", 8)),
)
TEACHER_KEYS = KeyMap(
    chain(
        [Rule("head", "conv1"), Rule("head_norm", "bn1")],
        nest([Rule("block1", "conv2"), Rule("block2", "conv3"), Rule("block3", "conv4")], _BLOCK),
        [*nest(_STACK_BLOCKS, _BLOCK), *_STACK_LAYERS],
    )
)


def compressed_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find CompressedFAN's constructor arguments from a state dict with our key names.

    Raises:
        UnsupportedCheckpointError: If the first or the last layer is missing.
    """
    return {"num_landmarks": width_of(state_dict, "tail.weight"), "num_feat": width_of(state_dict, "head.weight")}


def teacher_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find TeacherFAN's constructor arguments from a state dict with our key names.

    Raises:
        UnsupportedCheckpointError: If a stack is missing.
    """
    num_stacks = sum(key.startswith("stacks.") and key.endswith(".heatmaps.weight") for key in state_dict)
    if not num_stacks:
        raise UnsupportedCheckpointError("there are no stacks")
    return {"num_stacks": num_stacks, "num_landmarks": width_of(state_dict, "stacks.0.heatmaps.weight")}


FORMATS = (
    SystemFormat(SYSTEM, "CompressedFAN", COMPRESSED_KEYS, compressed_args, exact_args=("num_landmarks", "num_feat")),
    SystemFormat(SYSTEM, "TeacherFAN", TEACHER_KEYS, teacher_args, exact_args=("num_stacks", "num_landmarks")),
)
