"""The one exception of this package."""

from __future__ import annotations


class UnsupportedCheckpointError(ValueError):
    """A weight file that cannot be read, or that holds something else than the caller asked for.

    Args:
        message: One line; text from the file cannot break it, nor reach the terminal as control characters.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(char if char.isprintable() else "?" for char in message))
