import pytest

from facesr_plugin.checkpoints import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain, list_some, nest, strip_prefixes

LAYER = (Rule("conv", "conv2d"), Rule("norm", "norm.norm"))
LEVELS = (
    Rule("side.{l-1}", "b1_{l}", (0, "-l", 0)),
    Rule("down.{l-1}", "b2_{l}", (0, "-l", 1)),
    Rule("out", "o.0", (1,)),
)
TABLE = KeyMap(chain(nest([Rule("body.{i}", "res.{i}")], nest(LEVELS, LAYER)), nest([Rule("tail", "out_conv")], LAYER)))
OFFICIAL = [
    "res.0.b1_2.conv2d.weight",
    "res.0.b1_2.norm.norm.weight",
    "res.0.b2_2.conv2d.weight",
    "res.0.b1_1.conv2d.weight",
    "res.0.b2_1.conv2d.weight",
    "res.0.o.0.conv2d.bias",
    "res.0.o.0.conv2d.weight_orig",
    "res.2.o.0.conv2d.weight",
    "res.10.o.0.conv2d.weight",
    "out_conv.conv2d.weight",
    "out_conv.conv2d.bias",
]


def test_keymap_renames_both_ways_in_the_official_order():
    state = dict(zip(OFFICIAL, range(99), strict=False))
    ours = TABLE.to_ours(state)
    assert ours["body.0.side.1.norm.weight"] == 1
    assert ours["body.10.out.conv.weight"] == 8
    shuffled = dict(sorted(ours.items()))
    assert list(TABLE.to_official(shuffled).items()) == list(state.items())


@pytest.mark.parametrize(
    "key",
    [
        "res.0.b1_0.conv2d.weight",  # would be level -1
        "res.00.o.0.conv2d.weight",
        "res.0.b1_+1.conv2d.weight",
        "res.0.o.0.conv2d.other",
        "res.0.o.0.conv2d.weight.",
        "res.0.o_0.conv2d.weight",
        "xres.0.o.0.conv2d.weight",
        "res.٣.o.0.conv2d.weight",
        "res.0.o.0.conv2d.weight\n",
        "res.1234567.o.0.conv2d.weight",
        "",
    ],
)
def test_keymap_lists_keys_without_counterpart(key):
    with pytest.raises(UnsupportedCheckpointError, match="1 keys have no unique counterpart"):
        TABLE.to_ours({key: 0, OFFICIAL[0]: 1})
    assert TABLE.official_misfits([key, OFFICIAL[0]]) == [key]


def test_keymap_refuses_ambiguous_tables():
    table = KeyMap([Rule("a.{i}", "x.{i}"), Rule("b", "x.0")])
    with pytest.raises(UnsupportedCheckpointError, match=r"no unique counterpart: x\.0\.weight"):
        table.to_ours({"x.0.weight": 0})


def test_keymap_refuses_two_keys_for_one_weight():
    table = KeyMap([Rule("a", "x"), Rule("a", "y")])
    with pytest.raises(UnsupportedCheckpointError, match="same weight"):
        table.to_ours({"x.weight": 0, "y.weight": 1})


def test_strip_prefixes_removes_what_all_keys_share():
    assert strip_prefixes({"module.module.a": 1, "module.module.b": 2}, ["module."]) == {"a": 1, "b": 2}
    assert strip_prefixes({"_orig_mod.module.a": 1}, ["module.", "_orig_mod."]) == {"a": 1}
    assert strip_prefixes({"module.a": 1, "b": 2}, ["module."]) == {"module.a": 1, "b": 2}
    assert strip_prefixes({}, ["module."]) == {}


def test_list_some_counts_the_rest():
    assert list_some("abcdefg") == "a, b, c, d, e and 2 more"
