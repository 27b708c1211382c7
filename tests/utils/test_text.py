"""Text of files in messages."""

from __future__ import annotations

from facesr_plugin.utils.text import list_names, plain_line, shown


def test_shown_cuts_long_values() -> None:
    assert shown("x" * 1000) == "'" + "x" * 199 + "..."
    assert shown([1, "a\n"]) == "[1, 'a\\n']"


def test_plain_line_is_printable_and_one_line() -> None:
    assert plain_line("a\n  b\x1b[31m\0") == "a b?[31m?"
    assert len(plain_line("x" * 1000)) == 300


def test_list_names_takes_a_few() -> None:
    assert list_names(["a.png", "b\0.png", "c" * 100, "d"]) == f"a.png, b?.png, {'c' * 80}"
