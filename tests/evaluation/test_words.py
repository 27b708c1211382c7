import pytest

from facesr_plugin.evaluation.words import counted, interval, md_code, md_table, md_text, number

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [(1.005, False, "1.00"), (2, True, "+2.00"), (-0.001, False, "0.00"), (-0.001, True, "0.00"), (-3, True, "-3.00")]
    + [(INF, False, "\u221e"), (-INF, True, "-\u221e"), (NAN, False, "\u2013"), (None, False, "\u2013")],
)
def test_number_is_rounded_and_has_no_negative_zero(value: float | None, signed: bool, text: str) -> None:
    assert number(value, 2, signed=signed) == text


def test_interval_has_both_ends_or_none() -> None:
    assert interval(1, 2.5, 1) == "1.0 to 2.5"
    assert interval(None, None, 1) == "\u2013"


def test_counted_agrees_with_the_number() -> None:
    assert (counted(1, "face", "faces"), counted(1234, "face", "faces")) == ("1 face", "1,234 faces")


@pytest.mark.parametrize(
    ("name", "code"),
    [("a_b*", "`a_b*`"), ("``", "``` `` ```"), (" a", "`  a `"), ("<b>", "`<b>`"), ("", "")]
    + [("a|<b", "<code>a&#124;&#60;b</code>"), ("a\nb", r"`a\nb`"), ("\udcff", r"`\udcff`")],
)
def test_md_code_shows_any_name(name: str, code: str) -> None:
    assert md_code(name) == code


def test_md_text_is_no_markup() -> None:
    assert md_text("a_b [c](d) <e> & `f` | g") == r"a\_b \[c\](d) &lt;e&gt; &amp; \`f\` \| g"


def test_md_table_aligns_numbers() -> None:
    assert md_table(("a", "b"), [("x", "1")], numbers=1) == ["| a | b |", "| --- | ---: |", "| x | 1 |", ""]
