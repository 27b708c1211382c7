"""Turn a section of an option file into a frozen dataclass, and refuse what does not belong into it.

BasicSR gives data sets and models the raw dictionary, so a misspelt key would be ignored.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from facesr_plugin.utils.option_file import nearest

T = TypeVar("T")


class OptionTypeError(TypeError, ValueError):
    """A value has the wrong type. Also a ValueError: what a user wrote is wrong, and commands say so in one line."""


def parse_section(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Build a dataclass from a section.

    Fields may be ``str``, ``int``, ``float`` (whole numbers are taken), ``bool``, ``dict``, ``Literal``,
    ``tuple[...]`` (from a YAML list) and unions of these with None.

    Args:
        cls: A dataclass; fields without default must be in the section.
        mapping: The section; it is not modified.
        where: Name of the section, for messages: ``datasets.train``.

    Raises:
        OptionTypeError: If a value has the wrong type.
        ValueError: If a key is unknown (the message has the nearest name), is missing, or its value is not allowed.
    """
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in mapping:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{nearest(str(key), known)}. Known: {', '.join(known)}")
    for field in dataclasses.fields(cls):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in mapping:
            raise ValueError(f"{where}: key {field.name!r} is missing")
    return cls(**{key: _convert(value, hints[key], f"{where}.{key}") for key, value in mapping.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(value, typing.get_args(hint), where)
    if origin is Literal:
        if value in typing.get_args(hint):
            return value
        allowed = ", ".join(str(choice) for choice in typing.get_args(hint))
        raise ValueError(f"{where} must be one of {allowed}, got {value!r}")
    if origin is tuple:
        return _convert_tuple(value, typing.get_args(hint), where)
    return _convert_plain(value, origin or hint, where)


def _convert_union(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    others = [choice for choice in choices if choice is not type(None)]
    for choice in others[:-1]:
        try:
            return _convert(value, choice, where)
        except (TypeError, ValueError):
            continue
    return _convert(value, others[-1], where)


def _convert_tuple(value: Any, items: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    endless = len(items) == 2 and items[1] is Ellipsis
    if not isinstance(value, (list, tuple)) or (not endless and len(value) != len(items)):
        count = "" if endless else f" of {len(items)}"
        raise OptionTypeError(f"{where} must be a list{count}, got {value!r}")
    hints = [items[0]] * len(value) if endless else items
    return tuple(_convert(item, hint, f"{where}[{i}]") for i, (item, hint) in enumerate(zip(value, hints, strict=True)))


def _convert_plain(value: Any, kind: type, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    hint = (
        " (YAML reads 1e-4 and 1.0e4 as text: write 1.0e-4, 1.0e+4)" if kind is float and isinstance(value, str) else ""
    )
    raise OptionTypeError(f"{where} must be {kind.__name__}, got {value!r}{hint}")
