"""The form of one repair, and the one way to replace a function of BasicSR."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Patch:
    """One repair.

    Args:
        name: Short name for ``FACESR_COMPAT`` and ``facesr doctor``.
        reason: What breaks without it, in one line.
        needed: Whether the defect is present here.
        apply: Repair it; called once, after BasicSR is imported.
    """

    name: str
    reason: str
    needed: Callable[[], bool]
    apply: Callable[[], None]


def rebind(old: Any, new: Any) -> None:
    """Replace a function in every module of BasicSR that holds it (``from x import f`` copies names).

    Args:
        old: The object to replace.
        new: What to put in its place.
    """
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "basicsr" or name == "__main__":
            for key in [key for key, value in vars(module).items() if value is old]:
                setattr(module, key, new)


def names_in(function: Callable) -> tuple[str, ...]:
    """Global and attribute names that a Python function uses; empty for anything else."""
    code = getattr(function, "__code__", None)
    return code.co_names if code else ()
