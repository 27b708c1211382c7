"""Train with BasicSR's loop from anywhere: ``facesr train``, or ``torchrun -m facesr_plugin.train``.

The option file is read safely, overrides are applied, and BasicSR's own ``train_pipeline`` runs with the result, which
it also copies into the experiment's folder. Experiments go below the current folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

import facesr_plugin
from facesr_plugin.compat.launch import is_torchruns_rank
from facesr_plugin.compat.option_list import settled
from facesr_plugin.compat.process_group import told_to_launcher
from facesr_plugin.run_check import Start, check_run, has_state
from facesr_plugin.utils.option_file import load_option_file, override

NO_BASICSR = (
    "BasicSR is not installed. It has no release that builds on Python 3.13 or newer: use Python 3.10 to 3.12 there. "
    "Then: pip install torch torchvision cython && pip install --no-build-isolation basicsr"
)


def run_training(opt: str | Path, overrides: Sequence[str] = (), flags: Sequence[str] = ()) -> None:
    """Run BasicSR's training.

    Args:
        opt: Option file.
        overrides: ``key=value`` as in ``facesr train --set``.
        flags: Further arguments of BasicSR's train.py (``--auto_resume``, ``--launcher slurm`` ...). A process that
            torchrun started takes ``--launcher pytorch`` by itself.

    Raises:
        FileNotFoundError: If the option file does not exist.
        ImportError: If BasicSR is not installed.
        ValueError: If an option is wrong.
    """
    _run("basicsr.train", "train_pipeline", opt, overrides, flags)


def run_test(opt: str | Path, overrides: Sequence[str] = (), flags: Sequence[str] = ()) -> None:
    """Run BasicSR's test; arguments and errors as ``run_training``."""
    _run("basicsr.test", "test_pipeline", opt, overrides, flags)


def _run(module: str, function: str, opt: str | Path, overrides: Sequence[str], flags: Sequence[str]) -> None:
    options = load_option_file(opt)
    override(options, overrides)
    if "--launcher" not in flags and is_torchruns_rank():
        flags = [*flags, "--launcher", "pytorch"]
    if importlib.util.find_spec("basicsr") is None:
        raise ImportError(NO_BASICSR)
    facesr_plugin.register()
    is_train = function == "train_pipeline"
    check_run(options, _start(options, is_train, flags))
    pipeline = getattr(importlib.import_module(module), function)
    with tempfile.TemporaryDirectory(prefix="facesr-") as folder:
        merged = Path(folder) / Path(opt).name
        merged.write_text(yaml.safe_dump(options, sort_keys=False, allow_unicode=True), encoding="utf-8")
        with _arguments(["-opt", str(merged), *flags]), settled(merged), told_to_launcher():
            pipeline(str(Path.cwd()))


def _start(options: dict, is_train: bool, flags: Sequence[str]) -> Start:
    launcher = flags[flags.index("--launcher") + 1] if "--launcher" in flags else "none"
    return Start(is_train, launcher, "--auto_resume" in flags and has_state(Path.cwd(), options))


@contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    """Give BasicSR, which reads ``sys.argv``, other arguments for a while."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


if __name__ == "__main__":
    from facesr_plugin.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
