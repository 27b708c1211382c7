from dataclasses import dataclass
from typing import Any, Literal

import pytest

from facesr_plugin.utils.options import parse_section


@dataclass(frozen=True)
class Section:
    path: str
    size: int = 1
    rate: float = 0.5
    on: bool = False
    mode: Literal["a", "b"] | None = None
    pair: tuple[float, float] = (1.0, 2.0)
    names: tuple[str, ...] = ()
    extra: dict | None = None
    either: int | str = 0
    anything: Any = None


def test_parse_section_converts_what_yaml_gives():
    section = {
        "path": "x",
        "rate": 2,
        "mode": "b",
        "pair": [1, 2.5],
        "names": ["u", "v"],
        "extra": {"k": 1},
        "either": "s",
    }
    parsed = parse_section(Section, section, "here")
    assert parsed == Section("x", rate=2.0, mode="b", pair=(1.0, 2.5), names=("u", "v"), extra={"k": 1}, either="s")
    assert isinstance(parsed.rate, float)
    assert section["pair"] == [1, 2.5]


def test_parse_section_names_the_nearest_key():
    with pytest.raises(
        ValueError, match=r"datasets\.train: unknown key 'siez', did you mean 'size'\?.* Known: path, size"
    ):
        parse_section(Section, {"path": "x", "siez": 1}, "datasets.train")


def test_parse_section_names_a_missing_key():
    with pytest.raises(ValueError, match="here: key 'path' is missing"):
        parse_section(Section, {}, "here")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("path", 3, "here.path must be str, got 3"),
        ("path", None, "here.path must be str, got None"),
        ("size", 1.5, "here.size must be int, got 1.5"),
        ("size", True, "here.size must be int, got True"),
        ("rate", "1e-4", r"here.rate must be float, got '1e-4' \(YAML reads 1e-4 and 1.0e4 as text: write 1.0e-4, "),
        ("rate", True, "here.rate must be float, got True"),
        ("on", 1, "here.on must be bool, got 1"),
        ("pair", [1.0], "here.pair must be a list of 2, got"),
        ("pair", [1.0, "x"], r"here.pair\[1\] must be float, got 'x'"),
        ("names", "abc", "here.names must be a list, got 'abc'"),
        ("extra", [1], "here.extra must be dict"),
    ],
)
def test_parse_section_rejects_wrong_types(key, value, text):
    with pytest.raises(TypeError, match=text):
        parse_section(Section, {"path": "x", key: value}, "here")


def test_parse_section_rejects_other_choices():
    with pytest.raises(ValueError, match="here.mode must be one of a, b, got 'c'"):
        parse_section(Section, {"path": "x", "mode": "c"}, "here")
