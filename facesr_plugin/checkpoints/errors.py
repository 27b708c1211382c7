"""The one exception of this package."""

from __future__ import annotations


class UnsupportedCheckpointError(ValueError):
    """A weight file that cannot be read, or that holds something else than the caller asked for."""
