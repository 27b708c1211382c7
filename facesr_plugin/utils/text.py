"""Text of files in messages: printable, and never long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MAX_SHOWN = 200
_MAX_LINE = 300
_MAX_NAME = 80


def shown(value: Any) -> str:
    """Return what a value of a file looks like, for messages: at most 200 characters."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def plain_line(text: str, limit: int = _MAX_LINE) -> str:
    """Return text of a file or of a library as one printable line of at most 300 (or ``limit``) characters."""
    line = " ".join(text.split())[:limit]
    return "".join(char if char.isprintable() else "?" for char in line)


def list_names(names: Sequence[str], limit: int = 3) -> str:
    """Return the first few names of a list, each as printable text of at most 80 characters."""
    return ", ".join(plain_line(name[:_MAX_NAME]) for name in names[:limit])
