"""``option-list``: BasicSR meets a wrong option in the middle of a run, one at a time, after it has made its folders.

For models of this package all that is wrong is said before ``parse_options``, a run's first step, does anything.
"""

from __future__ import annotations

import argparse
import ast
import functools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from facesr_plugin.compat.launch import is_torchruns_rank, working_root
from facesr_plugin.compat.patch import Patch, names_in, rebind
from facesr_plugin.utils.cliargs import EXIT_USAGE, warn
from facesr_plugin.utils.option_file import load_option_file

_WORDS = {"~": None, "none": None, "true": True, "false": False}
_NO_LAUNCHER = "a training or test with several processes must be told so, got no launcher. Add --launcher pytorch"
_settled: list[str] = []  # option files that were checked before BasicSR reads them


@contextmanager
def settled(path: str | Path) -> Iterator[None]:
    """Leave out the check of an option file for a while."""
    _settled.append(str(path))
    try:
        yield
    finally:
        _settled.remove(str(path))


def check_command(root: str | Path, is_train: bool) -> None:
    """Check what the command of one of BasicSR's scripts (``sys.argv``) is to run; other models' runs are left alone.

    Args:
        root: Folder above ``experiments``.
        is_train: A training; else a test.

    Raises:
        SystemExit: With status 2, if it cannot work; all problems have been written to standard error.
    """
    from facesr_plugin.registry import MODEL_REGISTRY  # higher layers, but only when a run starts
    from facesr_plugin.run_check import Start, check_run, has_state, leave_to_first

    command = _read_command()
    if command.opt is None or command.opt in _settled or not Path(command.opt).is_file():
        return  # BasicSR says what it thinks of it
    try:
        options = load_option_file(command.opt)
    except (OSError, ValueError) as error:
        if _model_in(command.opt) in MODEL_REGISTRY:
            _refuse(error)
        return
    if not force(options, command.force_yml or []) or options.get("model_type") not in MODEL_REGISTRY:
        return
    if command.launcher == "none" and is_torchruns_rank():
        leave_to_first(int(os.environ["RANK"]))
        _refuse(_NO_LAUNCHER)
    resumes = command.auto_resume and has_state(working_root(root), options)
    try:
        check_run(options, Start(is_train, command.launcher, resumes))
    except (ImportError, OSError, ValueError) as error:
        _refuse(error)


def _refuse(error: Exception | str) -> NoReturn:
    warn(f"error: {error}")
    raise SystemExit(EXIT_USAGE) from None


def _model_in(path: str) -> str | None:
    """The model that a file names which cannot be read safely."""
    found = re.search(rb"""^["']?model_type["']?\s*:\s*["']?(\w+)""", Path(path).read_bytes(), re.MULTILINE)
    return found[1].decode() if found else None


def _read_command() -> argparse.Namespace:
    """Read what matters here of BasicSR's arguments, without its help and errors."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-opt")
    parser.add_argument("--launcher", default="none")
    parser.add_argument("--auto_resume", action="store_true")
    parser.add_argument("--force_yml", nargs="+")
    try:
        return parser.parse_known_args(sys.argv[1:])[0]
    except argparse.ArgumentError:
        return argparse.Namespace(opt=None)


def force(options: dict[str, Any], entries: Sequence[str]) -> bool:
    """Change options as ``--force_yml`` does, without running it as code.

    Args:
        options: Of the file; changed in place.
        entries: ``section:key=value``.

    Returns:
        Whether BasicSR would understand them all.
    """
    for entry in entries:
        keys, equals, text = entry.partition("=")
        *parents, last = [key.strip() for key in keys.strip().split(":")]
        section: Any = options
        for key in parents:
            section = section.get(key) if isinstance(section, dict) else None
        if not equals or not isinstance(section, dict):
            return False
        section[last] = _read_value(text.strip())
    return True


def _read_value(text: str) -> Any:
    """The value as BasicSR reads it: numbers have digits and at most one point."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    number = text.replace("!!float", "")
    try:
        if text.startswith("!!float"):
            return float(number)
        if text.startswith("["):
            return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    if text.isdecimal():
        return int(text)
    return float(text) if text.replace(".", "", 1).isdecimal() else text


def _options() -> Any:
    import basicsr.utils.options as options

    return options


def _apply() -> None:
    original = _options().parse_options

    @functools.wraps(original)
    def parse_options(root_path: str, is_train: bool = True, **kwargs: Any) -> Any:
        check_command(root_path, is_train)
        return original(root_path, is_train, **kwargs)

    rebind(original, parse_options)


OPTION_LIST = Patch(
    name="option-list",
    reason="wrong options show one at a time, in the middle of a run, after the folder of the last run was renamed",
    needed=lambda: "check_command" not in names_in(_options().parse_options),
    apply=_apply,
)
