"""``facesr train`` and ``facesr test``: BasicSR's loops with safe options, from anywhere."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add both commands."""
    for name, text in (("train", "train a network"), ("test", "run and measure a network on test data")):
        parser = subparsers.add_parser(
            name, help=text, description=f"{text.capitalize()} with BasicSR. Output goes below the current folder."
        )
        parser.add_argument("-opt", required=True, metavar="FILE", help="option file (see `facesr options list`)")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="change one option, e.g. --set train.total_iter=100; may be repeated",
        )
        parser.add_argument(
            "--launcher",
            choices=["none", "pytorch", "slurm"],
            help="distributed run (default: pytorch if torchrun starts it, else none)",
        )
        parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
        if name == "train":
            parser.add_argument("--auto-resume", "--auto_resume", action="store_true", help="go on from the last state")
            parser.add_argument("--debug", action="store_true", help="BasicSR's debug mode: log and validate often")
        parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Start BasicSR's pipeline."""
    from facesr_plugin.train import run_test, run_training

    flags = ["--launcher", args.launcher] if args.launcher else []
    if args.command == "train":
        flags += ["--auto_resume"] if args.auto_resume else []
        flags += ["--debug"] if args.debug else []
    start = run_training if args.command == "train" else run_test
    start(args.opt, args.set, flags)
    return 0
