"""Trainings by BasicSR's own loop that die where a test wants, and what they leave behind.

A run's numbers must not depend on the number of workers or on prefetching, so that every start may have others.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from basicsr.utils import get_time_str

from facesr_plugin.checkpoints import read_checkpoint
from helpers.faults import FILES, PLACES, Kill, arm
from helpers.forkserver import SERVER
from helpers.kill_systems import GANS, Variant, write_options
from helpers.runs import same

LIMIT_S = 300  # of one start, on a machine that may have other work
LOADERS = ((0, "~"), (0, "cpu"), (2, "~"), (2, "cpu"))


@dataclass
class Campaign:
    """A training of one system that is killed and continued.

    Attributes:
        done: The kills that struck, in order.
    """

    system: str
    variant: Variant
    data: Path
    root: Path
    done: list[Kill] = field(default_factory=list)

    def start(self, kill: Kill | None = None, loader: tuple[int, str] = LOADERS[0]) -> bool:
        """Train on from the last state; return whether the kill struck before the end.

        Raises:
            AssertionError: If the training fails; the message has the end of its output.
        """
        path = write_options(self.root / "run.yml", self.system, self.data, self.variant, *loader)
        log = self.root / f"start{len(self.done)}.log"
        self._await_archive_name()
        process = SERVER.Process(target=_train, args=(path, self.root, log, kill))
        process.start()
        process.join(LIMIT_S)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGUSR1)  # all show where they hang
            time.sleep(2)
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        expected = (0,) if kill is None else (0, -signal.SIGKILL)
        assert process.exitcode in expected, f"exit code {process.exitcode}:\n{log.read_text()[-5000:]}"
        if process.exitcode:
            self.done.append(kill)
        return process.exitcode != 0

    def _await_archive_name(self) -> None:
        """Wait for a new second, by which BasicSR names the folder of a run that has saved nothing."""
        while list(self.folder.parent.glob(f"run_archived_{get_time_str()}")):
            time.sleep(0.02)

    def plan(self, kills: list[Kill], rng: random.Random) -> None:
        """Die at each of these places, then go on to the end.

        Raises:
            AssertionError: As ``start``.
        """
        for kill in kills:
            self.start(kill, rng.choice(LOADERS))
        self.start(loader=rng.choice(LOADERS))

    @property
    def folder(self) -> Path:
        """Of the experiment."""
        return self.root / "experiments" / "run"

    def contents(self) -> dict[str, Path]:
        """Networks and states by name, and what is left of unfinished ones."""
        files = [path for kind in ("models", "training_states") for path in (self.folder / kind).rglob("*")]
        return {path.name: path for path in files}


def differences(one: Campaign, other: Campaign) -> list[str]:
    """Names of files that only one of two finished runs has, or that differ in a bit."""
    left, right = one.contents(), other.contents()
    alike = {name for name in left.keys() & right.keys() if same(*map(read_checkpoint, (left[name], right[name])))}
    return sorted((left.keys() | right.keys()) - alike)


_SOON = {"data": 6, "backward": 5, "step": 5, "validation": 3, "prune": 3, "write": 2, "rename": 2, "epoch": 2}


def draw_kill(rng: random.Random, system: str, place: str) -> Kill:
    """Draw a moment at a place that a start of the system's run reaches soon."""
    files = [name for name in FILES if name != "net_d" or system in GANS]
    file = rng.choice(files) if place in ("write", "rename") else ""
    return Kill(place, 1 if file == "latest" else rng.randint(1, _SOON.get(place, 1)), rng.random(), file)


def draw_kills(rng: random.Random, system: str, number: int) -> list[Kill]:
    """Draw moments at different places, one at the very end as the last."""
    kills = [draw_kill(rng, system, place) for place in rng.sample(list(PLACES), number)]
    return sorted(kills, key=lambda kill: kill.file == "latest")


def _train(options: Path, root: Path, log: Path, kill: Kill | None) -> None:
    """Train in a process of its own, which leads its group."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # of loader workers, as in a training of one's own
    with _output(log):
        faulthandler.register(signal.SIGUSR1)
        import facesr_plugin

        facesr_plugin.register()
        from basicsr.train import train_pipeline

        if kill is not None:
            arm(kill)
        sys.argv = ["train.py", "-opt", str(options), "--auto_resume"]
        train_pipeline(str(root))


@contextlib.contextmanager
def _output(log: Path) -> Iterator[None]:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        yield
