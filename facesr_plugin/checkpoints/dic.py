"""DIC and DICGAN: official key names of the generator and of the landmark networks (spec section 6)."""

from __future__ import annotations

from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain, nest

_ACTIVATED = (Rule("conv", "0"), Rule("act", "1"))
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
    Rule("side.{i-1}", "res{i}_1", (0, "-i", 0)),
    Rule("down.{i-1}", "res{i}_2", (0, "-i", 1)),
    Rule("bottom", "res_center", (1,)),
    Rule("up.{i-1}", "res{i}_3", (2, "i")),
)
_BLOCK = nest(
    (
        Rule("compress", "compress_in"),
        Rule("projections.up.{i}", "upBlocks.{i}"),
        Rule("projections.down.{i}", "downBlocks.{i}"),
        Rule("projections.join_small.{i}", "uptranBlocks.{i}"),
        Rule("projections.join_large.{i}", "downtranBlocks.{i}"),
        Rule("projections.join_out", "compress_out"),
    ),
    _ACTIVATED,
)
_FUSION = chain(
    [Rule("head", "conv_in.0")],
    nest([Rule("blocks.{i}", "resnet.{i}")], [Rule("conv1", "res.0"), Rule("conv2", "res.2")]),
)
_HOURGLASS = chain(
    [Rule("head", "pre_conv_block.0")],
    nest(
        (
            Rule("block1", "pre_conv_block.2"),
            Rule("block2", "pre_conv_block.4"),
            Rule("block3", "pre_conv_block.5"),
        ),
        _PLAIN_RESIDUAL,
    ),
    [Rule("compress", "compress_in")],
    nest([Rule("hourglass", "hg")], nest(_LEVELS, _PLAIN_RESIDUAL)),
    nest([Rule("top", "hg_conv_out.0")], _PLAIN_RESIDUAL),
    [Rule("conv", "hg_conv_out.1.conv_block.0"), Rule("heatmaps", "hg_conv_out.2")],
)
HOURGLASS_KEYS = KeyMap(_HOURGLASS)
GENERATOR_KEYS = KeyMap(
    chain(
        nest([Rule("head", "conv_in")], _ACTIVATED),
        nest([Rule("first_block", "first_block")], _BLOCK),
        nest([Rule("block", "block")], chain(_BLOCK, nest([Rule("fusion", "fusion_block")], _FUSION))),
        nest([Rule("tail_up", "out")], _ACTIVATED),
        [Rule("tail", "conv_out.0")],
        nest([Rule("hourglass", "HG")], _HOURGLASS),
    )
)
_STACK = (
    *nest([Rule("stacks.{s}.hourglass", "hg{s}", ("s", 0))], nest(_LEVELS, _NORM_RESIDUAL)),
    *nest([Rule("stacks.{s}.top", "hg{s}_res1", ("s", 1))], _NORM_RESIDUAL),
    Rule("stacks.{s}.conv", "hg{s}_lin1.conv_block.0", ("s", 2)),
    Rule("stacks.{s}.norm", "hg{s}_lin1.conv_block.1", ("s", 3)),
    Rule("stacks.{s}.heatmaps", "hg{s}_conv_pred", ("s", 4)),
    Rule("stacks.{s}.join", "compress_step{s}", ("s", 5)),
    Rule("stacks.{s}.feat_back", "hg{s}_conv1", ("s", 6)),
    Rule("stacks.{s}.heatmaps_back", "hg{s}_conv2", ("s", 7)),
)
STACKED_KEYS = KeyMap(
    chain(
        [Rule("head", "pre_conv_block.0"), Rule("head_norm", "pre_conv_block.1")],
        nest(
            (
                Rule("block1", "pre_conv_block.3"),
                Rule("block2", "pre_conv_block.5"),
                Rule("block3", "pre_conv_block.6"),
            ),
            _NORM_RESIDUAL,
        ),
        _STACK,
    )
)
