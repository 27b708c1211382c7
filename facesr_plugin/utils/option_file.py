"""Read BasicSR option files safely, override single values, find the files that ship with the package."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from facesr_plugin.utils.safe_yaml import load_yaml
from facesr_plugin.utils.text import plain_line, shown

_MAX_NAME = 80  # comparing longer ones takes long


def options_dir() -> Path:
    """Folder of the shipped option files: inside the package, or beside it in a source checkout."""
    package = Path(__file__).parents[1]
    inside = package / "options"
    return inside if inside.is_dir() else package.parent / "options"


def shipped_options() -> dict[str, Path]:
    """Shipped option files by name without suffix."""
    return {path.stem: path for path in sorted(options_dir().glob("*.yml"))}


def find_shipped(name: str) -> Path:
    """Return a shipped option file by its name, with or without ``.yml``.

    Raises:
        ValueError: If there is none; the message has the nearest name.
    """
    shipped = shipped_options()
    stem = name.removesuffix(".yml")
    if stem not in shipped:
        raise ValueError(f"no shipped option file {name!r}{nearest(stem, shipped)}. Known: {', '.join(shipped)}")
    return shipped[stem]


def load_option_file(path: str | Path) -> dict[str, Any]:
    """Read an option file with YAML's safe loader.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is a folder, no YAML, no mapping, or has a tag that builds Python objects; see ``load_yaml``.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"option file {path} must be a file, got a folder")
    if not path.is_file():
        raise FileNotFoundError(f"option file {path} does not exist. `facesr options list` shows the shipped ones")
    try:
        options = load_yaml(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"option file {path} is not UTF-8 text: {error.reason}") from error
    except ValueError as error:
        raise ValueError(f"option file {path}: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"option file {path} must be a mapping, got {type(options).__name__}")
    return options


def override(options: dict[str, Any], assignments: Sequence[str]) -> None:
    """Set values in place: ``train.total_iter=100``. The value is read as YAML.

    Args:
        options: Of ``load_option_file``.
        assignments: ``dotted.key=value``; list items by number.

    Raises:
        ValueError: If a key is not in the options (the message has the nearest one), or the value is no YAML.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes key=value, got {shown(assignment)}")
        try:
            value = load_yaml(text)
        except ValueError as error:
            raise ValueError(f"--set {plain_line(assignment)}: {error}") from error
        *parents, last = key.split(".")
        target: Any = options
        for depth, name in enumerate(parents):
            target = target[_member(target, name, ".".join(parents[:depth]))]
        target[_member(target, last, ".".join(parents))] = value


def _member(target: Any, name: str, where: str) -> Any:
    """The key or index ``name`` of ``target``, which must exist."""
    if isinstance(target, list) and name.isdecimal() and len(name) < 10 and int(name) < len(target):
        return int(name)
    known = list(target) if isinstance(target, dict) else []
    if name not in known:
        place = f"section {where!r}" if where else "the options"
        raise ValueError(f"--set: {place} has no key {shown(name)}{nearest(name, known)}. Add it to the file first")
    return name


def nearest(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    """Return ``", did you mean 'x'?"`` or nothing."""
    matches = difflib.get_close_matches(str(name)[:_MAX_NAME], [str(entry)[:_MAX_NAME] for entry in known], n=1)
    return f", did you mean {matches[0]!r}?" if matches else ""


def find_unknown_keys(section: dict[str, Any], known: Sequence[str], where: str) -> Iterator[str]:
    """Name the keys that nobody reads, each with the nearest known one."""
    for key in section:
        if key not in known:
            yield f"{where} has no option {shown(key)}{nearest(key, known)}. Known: {', '.join(sorted(known))}"
