"""Flags and output that the commands share; standard library only, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import sys

EXIT_DONE, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_MISSING, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def add_common(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the shared flags named (``device``, ``precision``, ``batch``, ``workers``, ``overwrite``); all by default.

    Args:
        parser: Of one command.
        names: Which of the flags the command honours.
    """
    flags: dict[str, dict] = {
        "device": {"default": "auto", "metavar": "auto|cpu|cuda[:N]", "help": "where to run (default: auto)"},
        "precision": {"default": "fp32", "choices": ["fp32", "bf16", "fp16"], "help": "arithmetic (default: fp32)"},
        "batch": {"type": positive_int, "default": 16, "metavar": "N", "help": "images at a time (default: 16)"},
        "workers": {"type": non_negative_int, "default": 2, "metavar": "N", "help": "helpers (default: 2)"},
        "overwrite": {"action": "store_true", "help": "replace existing output"},
    }
    for name in names or flags:
        parser.add_argument(f"--{name}", **flags[name])


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose the detector of faces: ``detector`` and ``detector_weights``."""
    add = parser.add_argument
    add("--detector", default="resnet50", choices=["resnet50", "mobile0.25"], help="(default: resnet50)")
    add("--detector-weights", metavar="FILE", help="of the detector (default: see facesr weights list)")


def add_heatmaps(parser: argparse.ArgumentParser) -> None:
    """Add the flags that draw landmarks: ``heatmaps``, ``fan_weights`` and ``fan_side``."""
    add = parser.add_argument
    add("--heatmaps", action="store_true", help="write landmarks and their heatmaps to DIR/heatmaps")
    add("--fan-weights", metavar="FILE", help="compressed FAN for --heatmaps (default: see facesr weights list)")
    add("--fan-side", type=positive_int, metavar="N", help="pixels of a face when the FAN sees it (default: 64)")


def positive_int(text: str) -> int:
    """Parse an integer >= 1 for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value


def non_negative_int(text: str) -> int:
    """Parse an integer >= 0 for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {value}")
    return value


def say(text: str) -> None:
    """Write one line to standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
