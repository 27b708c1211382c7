"""``stop-signals``: what is saved when a training is stopped, and that loader workers outlive the signal."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from basicsr.models.base_model import BaseModel
from torch.utils.data import DataLoader

from facesr_plugin.compat import stop_signals
from facesr_plugin.utils.resume import POSITION
from facesr_plugin.utils.stopping import SIGNALS, STOP, RunStopped
from helpers.worker_processes import Processes, start_and_die


class Model(BaseModel):
    """Of BasicSR's kind; remembers what it saves."""

    def __init__(self, save_freq: int = 4, total: int = 10) -> None:
        path = {"training_states": "states"}
        super().__init__(
            {"num_gpu": 0, "is_train": True, "rank": 0, "world_size": 1, "path": path}
            | {"logger": {"save_checkpoint_freq": save_freq}, "train": {"total_iter": total}}
        )
        self.files: list[tuple[int, int]] = []

    def save(self, epoch: int, current_iter: int) -> None:
        self.files.append((epoch, current_iter))


@pytest.fixture(autouse=True)
def training() -> Iterator[None]:
    """A training in this thread, in epoch 2."""
    POSITION.start(2)
    STOP.begin()
    yield
    STOP.end()
    POSITION.reset()


def test_repair_is_named_and_finds_the_defect() -> None:
    assert stop_signals.STOP_SIGNALS.name == "stop-signals"
    assert stop_signals._loses_iterations()


@pytest.mark.parametrize(
    ("first", "done", "saved"),
    [(0, 5, [(2, 5)]), (5, 5, []), (0, 4, []), (0, 0, []), (0, 10, [(2, 10)])],
    ids=["between saves", "just resumed", "just saved", "nothing learned", "last iteration"],
)
def test_iteration_is_saved_unless_it_is_there(first: int, done: int, saved: list) -> None:
    model = Model()
    model.update_learning_rate(first + 1)
    stop_signals.keep(model, done)
    stop_signals.keep(model, done)
    assert model.files == saved


def test_signalled_model_stops_before_anything_of_an_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    model, said = Model(), []
    monkeypatch.setattr(stop_signals.logger, "warning", lambda form, *values: said.append(form % values))
    model.update_learning_rate(1)
    model.schedulers = [SimpleNamespace(step=lambda: pytest.fail("a scheduler has moved"))]
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RunStopped):
        model.update_learning_rate(6)
    assert model.files == [(2, 5)]
    assert said == [
        "Stopped by SIGTERM after iteration 5. The same command with --auto_resume goes on from states/5.state."
    ]


def _init(worker_id: int) -> None:
    """Stands for BasicSR's."""


def test_worker_outlives_signals_of_others() -> None:
    loader: DataLoader = DataLoader(
        Processes(), batch_size=None, num_workers=1, worker_init_fn=_init, prefetch_factor=1
    )
    samples: Any = iter(loader)
    worker = next(samples)
    assert loader.worker_init_fn is _init
    for signum in SIGNALS:
        other = os.fork()  # signals of the parent end a worker
        if other == 0:
            os.kill(worker, signum)
            os._exit(0)
        os.waitpid(other, 0)
    assert list(samples) == [worker] * 7


@pytest.mark.parametrize("method", ["fork", pytest.param("forkserver", marks=pytest.mark.process)])
def test_worker_ends_by_its_parent(method: str) -> None:
    settings = {"num_workers": 1, "prefetch_factor": 1, "multiprocessing_context": method}
    samples: Any = iter(DataLoader(Processes(), batch_size=None, **settings))
    next(samples)
    (worker,) = samples._workers
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


@pytest.mark.process
def test_worker_ends_when_its_training_is_killed_while_it_starts() -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    training = context.Process(target=start_and_die, args=(there,))
    training.start()
    there.close()
    worker = here.recv()
    training.join(60)
    assert training.exitcode == -signal.SIGKILL
    assert here.poll(60), f"worker {worker} lives on"
    with pytest.raises(EOFError):
        here.recv()


def test_worker_ends_by_anybody_where_the_sender_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "sigwaitinfo")
    samples: Any = iter(DataLoader(Processes(), batch_size=None, num_workers=1, prefetch_factor=1))
    next(samples)
    (worker,) = samples._workers
    os.kill(worker.pid, signal.SIGINT)
    assert next(samples) == worker.pid
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


def test_mask_of_this_process_is_unchanged_after_a_loaders_start() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    next(iter(DataLoader(Processes(), num_workers=1)))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
