"""Numbers and names as a report writes them, and Markdown in which a name cannot do anything but be read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from facesr_plugin.evaluation.pairs import printable

NOTHING = "\u2013"
_MARKUP = re.compile(r"([\\`*_\[\]#!|~$])")


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Return a value with ``digits`` behind the point; a dash if it was not measured."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "\u221e" if value > 0 else "-\u221e"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def interval(low: float | None, high: float | None, digits: int, *, signed: bool = False) -> str:
    """Return both ends, or a dash if there are none."""
    if low is None or high is None:
        return NOTHING
    return f"{number(low, digits, signed=signed)} to {number(high, digits, signed=signed)}"


def counted(count: int, one: str, many: str) -> str:
    """Return ``1 face``, ``2 faces``."""
    return f"{count:,} {one if count == 1 else many}"


def md_text(text: str) -> str:
    """Escape a text of this project for Markdown; one from elsewhere goes into ``md_code``, where nothing is linked."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", text)


def md_code(text: str) -> str:
    """Return a text of any origin as code, in tables too: no markup, link, mention or HTML comes of it."""
    text = printable(text)
    if "|" in text:  # ends a cell of a table even in code
        return f"<code>{''.join(char if char.isalnum() else f'&#{ord(char)};' for char in text)}</code>"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if len(fence) > 1 or text != text.strip() else ""
    return f"{fence}{space}{text}{space}{fence}" if text else ""


def md_table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> list[str]:
    """Return the lines of a table and an empty line; cells are escaped, the last ``numbers`` columns right-aligned."""
    rules = ["---"] * (len(header) - numbers) + ["---:"] * numbers
    return [f"| {' | '.join(row)} |" for row in (header, rules, *rows)] + [""]
