"""A training by BasicSR's own loop in a process of the fork server that a test can signal."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import socket
import sys
import time
from pathlib import Path

from helpers.forkserver import SERVER

LIMIT_S = 120
_ITERATION = re.compile(r"epoch: \d+, iter: ([\d,]+)/")


class TrainProcess:
    """One rank of a training; it leads a process group.

    Args:
        options: Option file that prints every iteration.
        root: Folder that gets ``experiments``.
        flags: Further words of the command line.
        largest: Bytes that a file can have, as on a full disk.
        environment: For this process alone.
    """

    def __init__(
        self, options: Path, root: Path, *flags: str, largest: int = resource.RLIM_INFINITY, **environment: str
    ) -> None:
        self._log = root / f"{options.stem}{time.monotonic_ns()}.log"
        self._log.touch()
        self._process = SERVER.Process(target=_train, args=(options, root, self._log, flags, largest, environment))
        self._process.start()

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has written that."""
        deadline = time.monotonic() + LIMIT_S
        while text not in self.output and self._process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert text in self.output, self.output[-3000:]

    def send(self, signum: int, *, group: bool = False) -> None:
        """Signal it, or it and its loader workers."""
        (os.killpg if group else os.kill)(self._process.pid, signum)

    def end(self) -> int:
        """Wait for its end; return its status, that of a shell if a signal has killed it."""
        self._process.join(LIMIT_S)
        if self._process.is_alive():
            os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError(f"still there after {LIMIT_S} s: {self.output[-3000:]}")
        code = self._process.exitcode
        return code if code >= 0 else 128 - code

    def last_iteration(self) -> int:
        """Return the last iteration that was logged."""
        return int(_ITERATION.findall(self.output)[-1].replace(",", ""))


def train(options: Path, root: Path, *flags: str) -> str:
    """Train to the end; return the output.

    Raises:
        AssertionError: If it fails.
    """
    process = TrainProcess(options, root, *flags)
    assert process.end() == 0, process.output[-3000:]
    return process.output


def start_ranks(count: int, options: Path, root: Path, *flags: str) -> list[TrainProcess]:
    """Start a distributed training, as torchrun does; arguments as ``TrainProcess``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [TrainProcess(options, root, "--launcher", "pytorch", *flags, **place, **rank) for rank in ranks]


def _train(
    options: Path, root: Path, log: Path, flags: tuple[str, ...], largest: int, environment: dict[str, str]
) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    multiprocessing.set_start_method("fork", force=True)  # of the workers, as in a script
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server of the processes may ignore it
    os.environ.update(environment)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # in order with errors, as in a terminal
    import facesr_plugin

    facesr_plugin.register()
    from basicsr.train import train_pipeline

    sys.argv = ["train.py", "-opt", str(options), *flags]
    train_pipeline(str(root))
