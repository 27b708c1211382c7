"""YAML of others: what PyYAML's safe loader lets pass, or answers with an error of Python's."""

from __future__ import annotations

import pytest

from facesr_plugin.utils.safe_yaml import load_yaml


def bomb(levels: int, *, merge: bool = False) -> str:
    """Each line holds the one before ten times."""
    lines = ["a0: &a0 {x: 1}"]
    for i in range(1, levels):
        parts = ", ".join([f"*a{i - 1}"] * 10)
        lines.append(f"a{i}: &a{i} {{<<: [{parts}]}}" if merge else f"a{i}: &a{i} [{parts}]")
    return "\n".join(lines)


def test_load_yaml_takes_aliases_and_merged_sections() -> None:
    text = "base: &base {lr: 1, betas: [0.9, 0.99]}\ng: *base\nd: {<<: *base, lr: 2}"
    assert load_yaml(text)["d"] == {"lr": 2, "betas": [0.9, 0.99]}


@pytest.mark.parametrize("merge", [False, True])
def test_load_yaml_refuses_alias_bombs(merge: bool) -> None:
    with pytest.raises(ValueError, match="there are more than 50000 values, with all aliases at line"):
        load_yaml(bomb(20, merge=merge))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1, *a]", "a value contains itself at line 1"),
        ("a: 1\nb: 2\na: 3", "the key 'a' is 2 times in one section at line 1"),
        ("[" * 60 + "]" * 60, "it nests more than 40 levels deep"),
        ("{a: " * 5000, "it nests more than 40 levels deep"),
        ("a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30, "it nests more than 40 levels deep"),
        ("x" * 300_000, "it must have at most 262144 characters, got 300000"),
        ("a: !!int ''", "'' is no valid int at line 1"),
        ("a: !!bool x", "'x' is no valid bool"),
        ("a: !!timestamp x", "'x' is no valid timestamp"),
        ("a: 2020-99-99", "'2020-99-99' is no valid timestamp"),
        ("a: " + "9" * 5000, r"'9{199}\.\.\. is no valid int"),
        ("a: !!python/name:os.system", "Tags that build Python objects are refused"),
        ("? {a: 1}\n: 2", "found unhashable key at line 1$"),
        ("a: \0", "it is not valid YAML"),
        ('a: "\\U99999999"', "it is not valid YAML"),
    ],
)
def test_load_yaml_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_yaml(text)


def test_load_yaml_shows_no_control_characters() -> None:
    with pytest.raises(ValueError, match="not valid YAML") as caught:
        load_yaml("a: [\u0085\ue000")
    assert str(caught.value).isprintable()
