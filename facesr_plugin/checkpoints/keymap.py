"""Tables that rename the keys of official releases to ours and back, exactly.

A table is a tuple of ``Rule``; both directions and the official order of keys are derived from the same rules. In the
table of another dialect of a network (see ``system_format``) that program's names stand for the official ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError

# Creation order inside a layer; spectral norm moves the weight behind the bias.
LEAVES = (
    "weight",
    "bias",
    "weight_orig",
    "weight_u",
    "weight_v",
    "running_mean",
    "running_var",
    "num_batches_tracked",
)
_CACHED_KEYS = 4096
_INTEGER = "(0|[1-9][0-9]{0,5})"
_FIELD = re.compile(r"\{(\w+?)(?:([+-])(\d+))?\}")


@dataclass(frozen=True)
class Rule:
    """Our name and the official one of the same thing.

    Args:
        ours: Pattern; ``{i}`` stands for an index, ``{i-1}`` for one that is smaller than the official ``{i}`` by one.
        official: Pattern with the same index names, plain ``{i}`` only.
        order: Place among its neighbours in the official state dict: numbers and index names (``-i`` for falling).
            The place in the table, then rising indices, unless given.
    """

    ours: str
    official: str
    order: tuple[int | str, ...] | None = None


def nest(prefixes: Iterable[Rule], inner: Iterable[Rule]) -> tuple[Rule, ...]:
    """Put the rules ``inner`` below each of ``prefixes``, joined by a dot."""
    inner = tuple(_ordered(inner))
    return tuple(
        Rule(f"{outer.ours}.{rule.ours}", f"{outer.official}.{rule.official}", outer.order + rule.order)
        for outer in _ordered(prefixes)
        for rule in inner
    )


def chain(*tables: Iterable[Rule]) -> tuple[Rule, ...]:
    """Join tables; every rule of one comes before every rule of the next in the official order."""
    return tuple(
        Rule(rule.ours, rule.official, (place, *rule.order))
        for place, table in enumerate(tables)
        for rule in _ordered(table)
    )


def _ordered(rules: Iterable[Rule]) -> list[Rule]:
    def given(place: int, rule: Rule) -> tuple[int | str, ...]:
        return (place, *(name for name, _, _ in _FIELD.findall(rule.official))) if rule.order is None else rule.order

    return [Rule(rule.ours, rule.official, given(place, rule)) for place, rule in enumerate(rules)]


class _Renamed(NamedTuple):
    key: str
    order: tuple[int, ...]


class KeyMap:
    """Rename whole state dicts with a table of layer names; leaves (``weight``, ``bias``, ...) keep theirs.

    Args:
        rules: One rule per kind of layer.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [_CompiledRule(rule) for rule in _ordered(rules)]
        self._to_ours = lru_cache(_CACHED_KEYS)(self._find_ours)
        self._to_official = lru_cache(_CACHED_KEYS)(self._find_official)

    def to_ours(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Rename official keys to ours.

        Raises:
            UnsupportedCheckpointError: If a key fits no rule or several, or two keys get the same name; lists them.
        """
        return _rename(state_dict, self._to_ours)

    def to_official(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Rename our keys to the official ones, in the official order; the exact inverse of ``to_ours``.

        Raises:
            UnsupportedCheckpointError: As ``to_ours``.
        """
        renamed = _rename(state_dict, self._to_official)
        return dict(sorted(renamed.items(), key=lambda item: self._to_ours(item[0])[0].order))

    def official_misfits(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that fit no official pattern."""
        return [key for key in keys if not self._to_ours(key)]

    def our_misfits(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that fit no pattern of ours."""
        return [key for key in keys if not self._to_official(key)]

    def _find_ours(self, key: str) -> list[_Renamed]:
        return [renamed for rule in self._rules if (renamed := rule.to_ours(key))]

    def _find_official(self, key: str) -> list[_Renamed]:
        return [renamed for rule in self._rules if (renamed := rule.to_official(key))]


class _CompiledRule:
    """A rule as two regular expressions and two templates."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._ours, self._official = _regex(rule.ours), _regex(rule.official)

    def to_ours(self, key: str) -> _Renamed | None:
        """Rename an official key, or return None if it is none of this rule's."""
        return self._convert(key, self._official, self._rule.official, self._rule.ours)

    def to_official(self, key: str) -> _Renamed | None:
        """Rename a key of ours, or return None if it is none of this rule's."""
        return self._convert(key, self._ours, self._rule.ours, self._rule.official)

    def _convert(self, key: str, regex: re.Pattern, source: str, target: str) -> _Renamed | None:
        match = regex.fullmatch(key)
        if match is None:
            return None
        *texts, leaf = match.groups()
        indices = {
            name: int(text) - _shift(sign, amount)
            for (name, sign, amount), text in zip(_FIELD.findall(source), texts, strict=True)
        }
        if any(indices[name] + _shift(sign, amount) < 0 for name, sign, amount in _FIELD.findall(target)):
            return None
        name = _FIELD.sub(lambda field: str(indices[field[1]] + _shift(field[2], field[3])), target)
        return _Renamed(f"{name}.{leaf}", (*self._order(indices), LEAVES.index(leaf)))

    def _order(self, indices: dict[str, int]) -> list[int]:
        return [part if isinstance(part, int) else _signed(part, indices) for part in self._rule.order]


def _signed(name: str, indices: dict[str, int]) -> int:
    return -indices[name[1:]] if name.startswith("-") else indices[name]


def _shift(sign: str | None, amount: str | None) -> int:
    return int(f"{sign}{amount}") if amount else 0


def _regex(pattern: str) -> re.Pattern:
    pieces = _FIELD.split(pattern)  # text, name, sign, amount, text, ...
    return re.compile(_INTEGER.join(re.escape(text) for text in pieces[::4]) + rf"\.({'|'.join(LEAVES)})")


def _rename(state_dict: Mapping[str, Any], convert: Callable[[str], list[_Renamed]]) -> dict[str, Any]:
    found = {key: convert(key) for key in state_dict}
    wrong = [key for key, names in found.items() if len(names) != 1]
    if wrong:
        raise UnsupportedCheckpointError(f"{len(wrong)} keys have no unique counterpart: {list_some(wrong)}")
    renamed = {names[0].key: state_dict[key] for key, names in found.items()}
    if len(renamed) != len(found):
        raise UnsupportedCheckpointError("two keys stand for the same weight")
    return renamed


def list_some(names: Iterable[str], limit: int = 5) -> str:
    """Return the first few names and how many more there are, for messages."""
    names = [str(name)[:120] for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def strip_prefixes(state_dict: Mapping[str, Tensor], prefixes: Iterable[str]) -> dict[str, Tensor]:
    """Remove prefixes that every key has, such as ``module.`` of a parallel wrapper, as often as they occur."""
    stripped = dict(state_dict)
    prefixes = tuple(prefixes)
    while prefix := _common(stripped, prefixes):
        stripped = {key[len(prefix) :]: value for key, value in stripped.items()}
    return stripped


def _common(keys: Iterable[str], prefixes: tuple[str, ...]) -> str | None:
    keys = list(keys)
    return next((prefix for prefix in prefixes if keys and all(key.startswith(prefix) for key in keys)), None)
