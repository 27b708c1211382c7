"""``facesr doctor``: what is installed, what is repaired, and why BasicSR may not know our names."""

from __future__ import annotations

import argparse

from facesr_plugin.utils.cliargs import say


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser("doctor", help="check the installation and say what is wrong")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; 1 if something that training needs is broken."""
    from facesr_plugin.diagnosis import report
    from facesr_plugin.utils.cliargs import EXIT_DONE, EXIT_SOME_FAILED

    lines, healthy = report()
    for line in lines:
        say(line)
    return EXIT_DONE if healthy else EXIT_SOME_FAILED
