"""``facesr options``: list the shipped option files, or copy one to edit."""

from __future__ import annotations

import argparse
from pathlib import Path

from facesr_plugin.utils.cliargs import say


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser("options", help="list or copy the shipped option files")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="name and first line of each").set_defaults(func=run_list)
    copy = actions.add_parser("copy", help="copy option files to edit them")
    copy.add_argument("name", help="for instance sparnet; `all` for all")
    copy.add_argument("folder", nargs="?", default=".", help="where to (default: the current folder)")
    copy.add_argument("--overwrite", action="store_true", help="replace existing files")
    copy.set_defaults(func=run_copy)


def run_list(args: argparse.Namespace) -> int:
    """Print each file's name and first comment line."""
    from facesr_plugin.utils.option_file import shipped_options

    for name, path in shipped_options().items():
        say(f"{name:24s} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
    return 0


def run_copy(args: argparse.Namespace) -> int:
    """Copy one file or all."""
    from facesr_plugin.utils.files import atomic_write_text
    from facesr_plugin.utils.option_file import find_shipped, shipped_options

    sources = list(shipped_options().values()) if args.name == "all" else [find_shipped(args.name)]
    targets = [Path(args.folder) / source.name for source in sources]
    existing = [str(target) for target in targets if target.exists()]
    if existing and not args.overwrite:
        raise ValueError(f"{', '.join(existing)} exists already. Give --overwrite to replace it")
    for source, target in zip(sources, targets, strict=True):
        atomic_write_text(target, source.read_text(encoding="utf-8"))
        say(str(target))
    return 0
