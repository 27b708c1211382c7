"""``stop-signals``: Ctrl-C or a scheduler's SIGTERM loses all iterations since the last save.

With it the training finishes its iteration, saves and ends with status 130 or 143. The place to stop is
``update_learning_rate``, a model's first call of each iteration: nothing of that iteration has happened yet.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

from facesr_plugin.compat.patch import Patch, after_options, at_end_of_runs, names_in
from facesr_plugin.utils.resume import POSITION
from facesr_plugin.utils.stopping import SIGNALS, STOP, RunStopped

logger = logging.getLogger("basicsr.facesr")


def _loses_iterations() -> bool:
    import basicsr.train

    return "signal" not in names_in(basicsr.train.train_pipeline)


def _apply() -> None:
    from basicsr.models.base_model import BaseModel

    update = BaseModel.update_learning_rate

    @functools.wraps(update)
    def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
        signum = STOP.ask(current_iter - 1, self.opt["rank"], self.opt["world_size"])
        if signum:
            stop(self, current_iter - 1, signum)
        update(self, current_iter, warmup_iter)

    after_options(_begin)
    BaseModel.update_learning_rate = update_learning_rate
    at_end_of_runs(STOP.end)
    _guard_workers()


def _begin(opt: dict[str, Any]) -> None:
    if opt["is_train"]:
        STOP.begin()


def stop(model: Any, done: int, signum: int) -> None:
    """Save and end the run.

    Args:
        model: Of BasicSR's kind.
        done: Number of the last iteration.
        signum: Of the signal that asked for it.

    Raises:
        RunStopped: Always.
    """
    keep(model, done)
    STOP.wait_for_ranks()  # a launcher that sees one rank end ends the others
    stopped = RunStopped(signum)
    logger.warning(
        "Stopped by %s after iteration %d. The same command with --auto_resume goes on from %s.",
        stopped,
        done,
        Path(model.opt["path"]["training_states"]) / f"{done}.state",
    )
    raise stopped


def keep(model: Any, done: int) -> None:
    """Save networks and state of an iteration, unless that is done."""
    if done not in (STOP.first, STOP.saved) and done % model.opt["logger"]["save_checkpoint_freq"]:
        model.save(POSITION.epoch or 0, done)
        STOP.saved = done


def _guard_workers() -> None:
    """Let loader workers of a training live on when a signal is sent to all its processes.

    A terminal's Ctrl-C, launchers and schedulers do that; a worker that dies takes the run with it. SIGINT stays
    blocked in them, SIGTERM is heeded if the training sends it.
    """
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter as Workers

    if not hasattr(signal, "pthread_sigmask"):
        return
    start = Workers.__init__

    @functools.wraps(start)
    def start_guarded(self: Any, loader: Any) -> None:
        if not STOP.active:
            start(self, loader)
            return
        initialise = loader.worker_init_fn
        loader.worker_init_fn = functools.partial(_initialise_guarded, initialise)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # workers inherit it from their first moment on
        try:
            start(self, loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            loader.worker_init_fn = initialise

    Workers.__init__ = start_guarded


def _initialise_guarded(initialise: Any, worker_id: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # Python's fork server hands its own mask on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_end_by_parent, daemon=True).start()
    else:  # macOS does not say who sent a signal
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    if initialise is not None:
        initialise(worker_id)


def _end_with_parent() -> None:
    """End this worker when the training is killed; torch looks too late for that if a worker was still starting."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _end_by_parent() -> None:
    """End this worker at its parent's SIGTERM, and at nobody else's."""
    parent = multiprocessing.parent_process()  # not who forked it: that may be Python's fork server
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
        pass
    os._exit(0)


STOP_SIGNALS = Patch(
    name="stop-signals",
    reason="Ctrl-C or a scheduler's SIGTERM loses all iterations since the last save",
    needed=_loses_iterations,
    apply=_apply,
)
