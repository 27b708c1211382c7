"""The form of a training state: what BasicSR's loop and this package's models rely on when they take one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from facesr_plugin.utils.text import plain_line, shown

_LARGEST = 2**62


def check_state(state: Any) -> None:
    """Refuse what is no training state of BasicSR, or has a record of this package that is not as it writes it.

    Raises:
        ValueError: If a part is missing or of another kind; the first one is named.
    """
    if not isinstance(state, dict) or any(key not in state for key in _STATE):
        raise ValueError(f"it must hold {', '.join(_STATE)} as BasicSR's training states do")
    problem = next(_find_problems(state, _STATE, ""), None) or next(_record_problems(state.get("facesr")), None)
    if problem is not None:
        raise ValueError(problem)


@contextmanager
def named_misfits(path: Any) -> Iterator[None]:
    """Name the state in what BasicSR's and torch's ``load_state_dict`` raise for one of another run.

    Args:
        path: Of the state, for the message.

    Raises:
        ValueError: If anything in the block fails so.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = plain_line(str(error)) or "it lacks a part"
        raise ValueError(
            f"training state {path} does not fit this run, or is damaged: {reason}. Use the option file that it "
            "was made with, or another state"
        ) from error


def _record_problems(record: Any) -> Iterator[str]:
    if record is None:
        return
    if not isinstance(record, dict):
        yield f"facesr must be a section, got {shown(record)}"
        return
    yield from _find_problems(record, {key: kind for key, kind in _RECORD.items() if key in record}, "facesr.")


def _find_problems(section: dict, form: dict[str, tuple[str, Callable[[Any], bool]]], where: str) -> Iterator[str]:
    for key, (kind, fits) in form.items():
        if not fits(section[key]):
            yield f"{where}{key} must be {kind}, got {shown(section[key])}"


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _is_count_or_none(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_section(value: Any) -> bool:
    return isinstance(value, dict)


def _are_sections(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)


def _are_optimizers(value: Any) -> bool:
    return _are_sections(value) and all(
        _is_nested(part.get("state"), 2) and _are_sections(part.get("param_groups")) for part in value
    )


def _is_nested(value: Any, levels: int) -> bool:
    """Whether it is a section, of sections if there are two ``levels``."""
    return isinstance(value, dict) and (levels == 1 or all(_is_nested(part, levels - 1) for part in value.values()))


_COUNT = ("a count", _is_count)
_SECTION = ("a section", _is_section)
_STATE = {
    "epoch": _COUNT,
    "iter": _COUNT,
    "optimizers": ("states of optimisers", _are_optimizers),
    "schedulers": ("states of schedulers", _are_sections),
}
_RECORD = {
    "format": _COUNT,
    "manual_seed": _COUNT,
    "epoch": ("a count or none", _is_count_or_none),
    "samples": _COUNT,
    "best_metrics": ("sections of sections", lambda value: _is_nested(value, 2)),
    "system_state": _SECTION,
    "scaler": _SECTION,
    "skipped": _COUNT,
    "skipped_in_all": _COUNT,
    "skipped_images": _SECTION,
    "validations_due": _COUNT,
}
