"""What loader workers run in tests; started processes can import it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

from torch.utils.data import Dataset

from facesr_plugin.compat import stop_signals


class Processes(Dataset):
    """Each sample is the worker's process."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return os.getpid()


def start_and_die(report: Any) -> None:
    """A training that is killed while its worker starts."""
    worker = multiprocessing.get_context("spawn").Process(target=_start_late, args=(report,))
    worker.start()
    report.send(worker.pid)
    os.kill(os.getpid(), signal.SIGKILL)


def _start_late(report: Any) -> None:
    """A worker of that training; the pipe's end closes with it."""
    stop_signals._initialise_guarded(None, 0)
    time.sleep(600)
