"""``facesr weights``: what weights of other projects are here, download them, check them."""

from __future__ import annotations

import argparse
from typing import Any

from facesr_plugin.utils.cliargs import EXIT_DONE, EXIT_SOME_FAILED, say, warn

_DESCRIPTION = """\
Weights of other projects that training and detection use. They are looked for in FACESR_HOME/weights (default:
~/.cache/facesr/weights) and in torch's download folder; fetch puts them into the former.

Every download is checked by its sha256. Where its authors publish none, fetch shows the one it computed and keeps the
file apart; compare it with a source that you trust, then give --accept, which remembers the hash for later checks.
Files without an address of their own are taken from their authors' page by hand; list says which."""


def add_parser(subparsers: Any) -> None:
    """Add the command to the ``facesr`` parser."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "weights", help="list, fetch or verify weights", description=_DESCRIPTION, formatter_class=raw
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="what is known and what is here").set_defaults(func=run_list)
    fetch = actions.add_parser("fetch", help="download what is not here")
    fetch.add_argument("names", metavar="NAME", nargs="+", help="as listed")
    fetch.add_argument("--accept", action="store_true", help="trust the computed hash where none is published")
    fetch.set_defaults(func=run_fetch)
    verify = actions.add_parser("verify", help="compare what is here with its hashes")
    verify.add_argument("names", metavar="NAME", nargs="*", help="as listed (default: all that are here)")
    verify.set_defaults(func=run_verify)


def run_list(args: argparse.Namespace) -> int:
    """Print each entry and the folders."""
    from facesr_plugin.utils.weights import WEIGHTS, expected_sha256, find_weights, search_folders

    for name, entry in WEIGHTS.items():
        say(f"{name}: {entry.use}")
        remedy = (
            f"facesr weights fetch {name}" if entry.url else f"to be put into {search_folders()[0]} as {entry.file}"
        )
        say(f"  {find_weights(name) or f'not here: {remedy}'}")
        say(f"  {entry.source}")
        say(f"  {_describe_hash(entry.sha256, expected_sha256(name))}; {entry.licence}")
    say("looked for in " + ", ".join(map(str, search_folders())))
    return EXIT_DONE


def _describe_hash(published: str | None, expected: str | None) -> str:
    if published is not None:
        return f"sha256 {published}" + ("" if len(published) == 64 else "... (first digits)")
    return f"sha256 {expected} (accepted here)" if expected else "sha256 not published"


def run_fetch(args: argparse.Namespace) -> int:
    """Download files; 1 if one failed or waits to be accepted."""
    from facesr_plugin.utils.weights import fetch_weights, known_weights

    for name in args.names:
        known_weights(name)  # a wrong name is noticed before anything is downloaded
    failed = False
    for name in args.names:
        try:
            path, sha256, accepted = fetch_weights(name, accept=args.accept)
        except (OSError, ValueError) as error:
            warn(f"{name}: {error}")
            failed = True
            continue
        say(f"{name}: {path}, sha256 {sha256}")
        if not accepted:
            warn(f"{name}: no hash is published. If you trust this one: facesr weights fetch {name} --accept")
            failed = True
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def run_verify(args: argparse.Namespace) -> int:
    """Compare files with their hashes; 1 if one differs or a named one is missing."""
    from facesr_plugin.utils.weights import WEIGHTS, find_weights

    names = args.names or [name for name in WEIGHTS if find_weights(name)]
    results = [_verify(name) for name in names]
    if not names:
        say("no weights are here: facesr weights list")
    return EXIT_DONE if all(results) else EXIT_SOME_FAILED


def _verify(name: str) -> bool:
    from facesr_plugin.utils.download import file_sha256
    from facesr_plugin.utils.weights import expected_sha256, find_weights

    path, expected = find_weights(name), expected_sha256(name)
    if path is None:
        warn(f"{name}: not here")
        return False
    actual = file_sha256(path)
    if expected is None:
        say(f"{name}: {path}: no hash is known; this file has sha256 {actual}")
        return True
    if not actual.startswith(expected):
        warn(f"{name}: {path}: WRONG, sha256 {actual} instead of {expected}")
        return False
    say(f"{name}: {path}: ok" + ("" if len(expected) == 64 else f" (first {len(expected)} digits)"))
    return True
