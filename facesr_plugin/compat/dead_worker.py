"""``dead-worker``: a loader worker that dies ends the training with a trace that says neither why nor what now.

PyTorch raises the error in the training's thread, at any place in it: what is added comes from ``sys.excepthook``.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from facesr_plugin.compat.patch import Patch, after_options
from facesr_plugin.compat.resume import newest_state

logger = logging.getLogger("basicsr.facesr")

_DIED = re.compile(r"DataLoader worker \(pid.*")
_HUNG = re.compile(r"DataLoader timed out after.*")
_WHY_DIED = (
    "Likely causes: the system ran out of memory and killed it (the kernel's log tells: dmesg | grep -i oom), so take "
    "fewer num_worker_per_gpu or a smaller batch_size_per_gpu; a bus error: shared memory is full (df -h /dev/shm; in "
    "Docker --shm-size=8g), or a file of the data was cut off while it was read"
)
_WHY_HUNG = "Likely causes: a disk or a network folder that does not answer; longer is worker_timeout of datasets.train"


def explain(error: BaseException | None, states: Path) -> str | None:
    """Say what an error of the loader's workers means, or None: it is none.

    Args:
        error: That ended the training.
        states: Folder of its training states.
    """
    for part in _chain(error):
        for pattern, why in ((_DIED, _WHY_DIED), (_HUNG, _WHY_HUNG)):
            found = pattern.search(str(part))
            if found:
                return f"The training has ended: {found[0].rstrip('. ')}. {why}. {_go_on(states)}"
        if isinstance(part, (EOFError, ConnectionError)) and _is_of_the_loader(part):
            return f"The training has ended: a DataLoader worker is gone. {_WHY_DIED}. {_go_on(states)}"
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and what led to it, the first one in front: it names the signal."""
    found: list[BaseException] = []
    while error is not None:
        found.insert(0, error)
        error = error.__cause__ or error.__context__
    return found


def _is_of_the_loader(error: BaseException) -> bool:
    """Whether it was met while the loader waited for a worker, whose connection a sudden death cuts."""
    return any(frame.f_code.co_name == "_try_get_data" for frame, _ in traceback.walk_tb(error.__traceback__))


def _go_on(states: Path) -> str:
    newest = newest_state(states)
    if newest is None:
        return "Nothing was saved yet: start again."
    return f"The last save is {newest}: the same command with --auto_resume goes on from there."


def _do_nothing(*_: object) -> None:
    pass


def _hook(states: Path, original: Callable[..., None]) -> Callable[..., None]:
    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        with contextlib.suppress(AttributeError, RuntimeError):  # torch's handler would raise within what is printed
            signal.signal(signal.SIGCHLD, _do_nothing)
        original(kind, error, trace)
        text = explain(error, states)
        if text is not None:
            logger.error(text)
            for worker in multiprocessing.active_children():
                worker.kill()  # one that hangs would hold the end of this process as well

    excepthook.original = original
    return excepthook


def _explain_errors(opt: dict[str, Any]) -> None:
    if opt["is_train"]:
        report = getattr(sys.excepthook, "original", sys.excepthook)  # not that of a run before in this process
        sys.excepthook = _hook(Path(opt["path"]["training_states"]), report)


DEAD_WORKER = Patch(
    name="dead-worker",
    reason="a loader worker that dies ends the training with a trace that says neither why nor how to go on",
    needed=lambda: True,  # no version of BasicSR says it
    apply=lambda: after_options(_explain_errors),
)
