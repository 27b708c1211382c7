"""The ``facesr`` command."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
from collections.abc import Sequence

from facesr_plugin import commands
from facesr_plugin.utils.cliargs import EXIT_INTERRUPTED, EXIT_USAGE, warn
from facesr_plugin.version import __version__


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with one sub-command per module of ``facesr_plugin.commands``.

    A module ``COMMAND_KIND`` is a part of ``COMMAND``, which adds it.
    """
    parser = argparse.ArgumentParser(
        prog="facesr",
        description="Face super-resolution on BasicSR: train, test, restore, convert.",
        epilog="exit status: 0 all done, 1 some inputs failed, 2 wrong usage, 3 a metric is missing (eval --strict), "
        "130 interrupted, 143 terminated (a training has then saved its state)",
    )
    parser.add_argument("--version", action="version", version=f"facesr-plugin {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    names = sorted(info.name for info in pkgutil.iter_modules(commands.__path__))
    for name in (name for name in names if "_" not in name):
        importlib.import_module(f"{commands.__name__}.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    args = build_parser().parse_args(argv)
    try:
        return args.func(args)
    except (ValueError, OSError, ImportError) as error:
        warn(f"error: {_one_line(error)}")
        return EXIT_USAGE
    except KeyboardInterrupt:
        warn("interrupted; the same command continues where it stopped")
        return EXIT_INTERRUPTED


def _one_line(error: BaseException) -> str:
    """The error's text; file errors of the system get their path, those of loader workers lose their traceback."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    text = str(error) or type(error).__name__
    if re.match(r"Caught \w+ in DataLoader worker process", text):
        text = text.rstrip().rpartition("\n")[2].partition(": ")[2] or text
    return text


if __name__ == "__main__":
    sys.exit(main())
