"""The form of one repair, and the one way to replace a function of BasicSR."""

from __future__ import annotations

import functools
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


def after_options(act: Callable[[dict[str, Any]], None]) -> None:
    """Have something done with the options of every run when ``parse_options``, its first step, has read them.

    Args:
        act: Called with BasicSR's options; may change them.
    """
    import basicsr.utils.options as options

    parse = options.parse_options

    @functools.wraps(parse)
    def parse_options(*args: Any, **kwargs: Any) -> tuple[dict[str, Any], Any]:
        opt, parsed = parse(*args, **kwargs)
        act(opt)
        return opt, parsed

    rebind(parse, parse_options)


def at_end_of_runs(finish: Callable[[], None]) -> None:
    """Have something done whenever a training or test of BasicSR has ended, however.

    It reaches the modules ``basicsr.train`` and ``basicsr.test``; a script among them ends with its process.
    """
    import basicsr.test
    import basicsr.train

    for pipeline in (basicsr.train.train_pipeline, basicsr.test.test_pipeline):
        rebind(pipeline, _with_end(pipeline, finish))


def _with_end(pipeline: Callable[..., None], finish: Callable[[], None]) -> Callable[..., None]:
    @functools.wraps(pipeline)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            pipeline(*args, **kwargs)
        finally:
            finish()

    return run
