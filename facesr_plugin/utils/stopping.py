"""Requests to stop a training, from SIGINT (Ctrl-C) and SIGTERM (schedulers), until it can.

A signal is only noted; the training asks between two iterations. Ranks of a distributed run agree, since a signal may
reach them at different times or only one of them: each iteration starts an exchange on the CPU that the next one reads,
so that nobody waits and all stop after the same iteration.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ECHO_S = 1.0  # `timeout`, shells and schedulers may signal a process and its group at once: that is one request


class RunStopped(SystemExit):
    """The run has done what a signal asked for; the exit status is 128 and the signal's number.

    Args:
        signum: Of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return signal.Signals(self.signum).name


class StopRequests:
    """What signals asked of the training in the main thread.

    Attributes:
        first: Iterations that were done before this process.
        saved: The iteration that was saved because of a request; None before.
    """

    def __init__(self) -> None:
        self._active = False
        self._reset()

    def _reset(self) -> None:
        self.first: int | None = None
        self.saved: int | None = None
        self._before: dict[int, Any] = {}
        self._signum, self._since = 0, 0.0
        self._ranks: _Agreement | None = None

    @property
    def active(self) -> bool:
        """Whether a training is being run by this process's main thread, and this is that thread."""
        return self._active and threading.current_thread() is threading.main_thread()

    @property
    def pending(self) -> bool:
        """Whether a signal has reached this process."""
        return self._signum != 0

    def begin(self) -> None:
        """A training is about to be set up in this thread; signals keep their meaning until its first iteration."""
        if threading.current_thread() is threading.main_thread():
            self.end()
            self._active = True

    def end(self) -> None:
        """The training has ended: give signals back their meaning."""
        if self.active:
            for signum, handler in self._before.items():
                signal.signal(signum, handler)
            self._active = False
            self._reset()

    def ask(self, done: int, rank: int, world_size: int) -> int:
        """Say before each iteration whether to stop instead; every rank gets the same answer.

        Args:
            done: Number of the last iteration.
            rank: Of this process.
            world_size: Number of ranks; all must call this.

        Returns:
            Number of the signal, 0 to go on; always 0 in the first call, so that something is learned.
        """
        if not self.active:
            return 0
        if self.first is None:
            self.first = done
            self._pid, self._leads = os.getpid(), rank == 0
            self._before = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
            self._ranks = _Agreement() if world_size > 1 else None
            return 0
        return self._ranks.exchange(self._signum) if self._ranks else self._signum

    def wait_for_ranks(self) -> None:
        """Wait until every rank is here."""
        if self._ranks:
            self._ranks.wait()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a forked child: the request is not meant for it
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif not self._signum:
            self._signum, self._since = signum, time.monotonic()
            self._say(f"{signal.Signals(signum).name}: stopping after this iteration; once more stops at once")
        elif time.monotonic() - self._since > _ECHO_S:
            self._say(f"{signal.Signals(signum).name} once more: stopped at once")
            os._exit(128 + signum)

    def _say(self, text: str) -> None:
        """Write to standard error past Python's buffers, in which the signal may have interrupted a write."""
        if self._leads:
            os.write(2, f"\n{text}\n".encode())


class _Agreement:
    """The exchange among ranks."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self._group = dist.new_group(backend="gloo")
        self._work: Any = None

    def exchange(self, signum: int) -> int:
        """Return the highest number that any rank gave in the call before, 0 in the first; start the next exchange."""
        import torch
        import torch.distributed as dist

        agreed = 0
        if self._work is not None:
            self._work.wait()
            agreed = int(self._number)
        if not agreed:
            self._number = torch.tensor(signum)
            self._work = dist.all_reduce(self._number, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed

    def wait(self) -> None:
        import torch.distributed as dist

        dist.barrier(group=self._group)


STOP = StopRequests()
