"""Generator of DIC and DICGAN: key names, official and of mmagic, and constructor arguments (spec section 6).

Official files of DIC have the weights below ``state_dict``, those of DICGAN two networks, ``netG`` and ``netD``. mmagic
has all below ``state_dict``, with the prefixes ``generator.`` and ``discriminator.``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from facesr_plugin.checkpoints.dic_hourglass import MMAGIC, SYSTEM, feedback_args, feedback_rules
from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain, nest
from facesr_plugin.checkpoints.progressive import width_of
from facesr_plugin.checkpoints.sparnet import count_blocks
from facesr_plugin.checkpoints.system_format import OFFICIAL, Dialect, SystemFormat

_ACTIVATED = (Rule("conv", "0"), Rule("act", "1"))


class _Names(NamedTuple):
    """What dialects of the generator call differently."""

    head: str
    compress: str
    up: str
    down: str
    join_small: str
    join_large: str
    join_out: str
    fusion_head: str
    fusion_blocks: str
    tail_up: str
    tail: str
    hourglass: str


_NAMES = {
    OFFICIAL: _Names(
        head="conv_in",
        compress="compress_in",
        up="upBlocks",
        down="downBlocks",
        join_small="uptranBlocks",
        join_large="downtranBlocks",
        join_out="compress_out",
        fusion_head="conv_in",
        fusion_blocks="resnet",
        tail_up="out",
        tail="conv_out.0",
        hourglass="HG",
    ),
    MMAGIC: _Names(
        head="conv_first",
        compress="conv_first",
        up="up_blocks",
        down="down_blocks",
        join_small="lr_blocks",
        join_large="hr_blocks",
        join_out="conv_last",
        fusion_head="conv_first",
        fusion_blocks="body",
        tail_up="conv_last",
        tail="conv_last.2",
        hourglass="hour_glass",
    ),
}


def block_rules(dialect: str) -> tuple[Rule, ...]:
    """Return the table of a recovery block for ``official`` or ``mmagic`` names; the first one has no fusion."""
    names = _NAMES[dialect]
    activated = (
        Rule("compress", names.compress),
        Rule("projections.up.{i}", f"{names.up}.{{i}}"),
        Rule("projections.down.{i}", f"{names.down}.{{i}}"),
        Rule("projections.join_small.{i}", f"{names.join_small}.{{i}}"),
        Rule("projections.join_large.{i}", f"{names.join_large}.{{i}}"),
        Rule("projections.join_out", names.join_out),
    )
    fusion = (
        Rule("head", f"{names.fusion_head}.0"),
        Rule("blocks.{i}.conv1", f"{names.fusion_blocks}.{{i}}.res.0", (1, "i", 0)),
        Rule("blocks.{i}.conv2", f"{names.fusion_blocks}.{{i}}.res.2", (1, "i", 1)),
    )
    return chain(nest(activated, _ACTIVATED), nest([Rule("fusion", "fusion_block")], fusion))


def generator_rules(dialect: str) -> tuple[Rule, ...]:
    """Return the table of DICNet for ``official`` or ``mmagic`` names."""
    names = _NAMES[dialect]
    return chain(
        nest([Rule("head", names.head)], _ACTIVATED),
        nest([Rule("first_block", "first_block"), Rule("block", "block")], block_rules(dialect)),
        nest([Rule("tail_up", names.tail_up)], _ACTIVATED),
        [Rule("tail", names.tail)],
        nest([Rule("hourglass", names.hourglass)], feedback_rules(dialect)),
    )


GENERATOR_KEYS = KeyMap(generator_rules(OFFICIAL))


def generator_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find DICNet's constructor arguments from a state dict with our key names.

    ``num_steps``, ``detach_attention`` and ``whole_contours`` leave no trace in weights: they get the published values.

    Raises:
        UnsupportedCheckpointError: If a layer is missing that shows one.
    """
    hourglass = feedback_args(state_dict, "hourglass.")
    return {
        "num_landmarks": hourglass["num_landmarks"],
        "num_feat": width_of(state_dict, "tail_up.conv.weight"),
        "num_groups": count_blocks(state_dict, "first_block.projections.up"),
        "num_fusion_block": count_blocks(state_dict, "block.fusion.blocks"),
        "hourglass_feat": hourglass["num_feat"],
    }


def below(key: str) -> Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Any]]:
    """Return a function that puts a state dict below ``key``, for ``SystemFormat.wrap``."""
    return lambda tensors, _call: {key: tensors}


def prefixed(prefix: str) -> Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Any]]:
    """Return a function that puts ``prefix`` before the keys, and all below ``state_dict``, as mmagic does."""
    return lambda tensors, _call: {"state_dict": {f"{prefix}{key}": value for key, value in tensors.items()}}


FORMATS = (
    SystemFormat(
        system=SYSTEM,
        arch="DICNet",
        keys=GENERATOR_KEYS,
        infer_args=generator_args,
        exact_args=("num_landmarks", "num_feat", "num_groups", "num_fusion_block", "hourglass_feat"),
        wrap=below("state_dict"),
        others=(Dialect(MMAGIC, KeyMap(generator_rules(MMAGIC)), prefixed("generator.")),),
        parts=(("FeedbackHourglass", "hourglass."),),
    ),
)
