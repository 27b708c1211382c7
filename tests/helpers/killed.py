"""``facesr prepare`` in a process of its own that a test can kill at any moment."""

import functools
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from helpers.forkserver import SERVER


class AnyDetector:
    """Stands for a detector: finds none to three faces in a photo, by its first pixel."""

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, photo: np.ndarray) -> list:
        """Return faces with points about the middle of (H, W, 3)."""
        from facesr_plugin.ops.affine import FFHQ_TEMPLATE
        from facesr_plugin.pipeline.face import Face

        points = np.array(FFHQ_TEMPLATE) / 512 * photo.shape[0]
        return [Face(points * (1 - i / 8) + i, score=0.99) for i in range(photo[0, 0, 0] % 4)]


def start(command: list[str], log: Path) -> BaseProcess:
    """Start ``facesr`` with output to ``log``; it has begun when this returns."""
    process = SERVER.Process(target=_run, args=(command, log))
    process.start()
    deadline = time.monotonic() + 60
    while "ready" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.005)
    return process


def _run(command: list[str], log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from facesr_plugin.cli import main
    from facesr_plugin.data.lmdb_store import LmdbWriter
    from facesr_plugin.utils.journal import Journal

    # A small batch, so that a run of seconds has many commits. The pause makes a whole run of 150 images last three
    # seconds at least: longer than six kills of half a second, however fast the machine is.
    LmdbWriter.put = _slowly(LmdbWriter.put)
    Journal.append = _slowly(Journal.append)
    LmdbWriter.__init__ = functools.partialmethod(LmdbWriter.__init__, batch=8, map_size=65536)
    if "ffhq" in command:
        import facesr_plugin.pipeline.detector

        facesr_plugin.pipeline.detector.FaceDetector = AnyDetector
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.exit(main(command))


def _slowly(method: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def slow(self: Any, value: Any) -> None:
        time.sleep(0.02)
        method(self, value)

    return slow
