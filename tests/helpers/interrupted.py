"""Commands of the package in processes that a test interrupts."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path


def start_facesr(folder: Path, *words: str) -> subprocess.Popen:
    """Start ``facesr`` in ``folder``, its output piped, as from a terminal: jobs in the background ignore SIGINT."""
    return subprocess.Popen(
        [sys.executable, "-m", "facesr_plugin.cli", *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=listen_to_interrupts,
    )  # fmt: skip


def listen_to_interrupts() -> None:
    """Give SIGINT its meaning back, for ``preexec_fn``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
