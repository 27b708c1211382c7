"""Requests to stop: noted, asked for between iterations, agreed among ranks, and forgotten at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from facesr_plugin.utils import stopping
from facesr_plugin.utils.stopping import SIGNALS, STOP, RunStopped, StopRequests
from helpers.ranks import run_ranks

BEFORE = tuple(signal.getsignal(signum) for signum in SIGNALS)


@pytest.fixture
def requests() -> Iterator[StopRequests]:
    """Those of a training that is about to begin."""
    made = StopRequests()
    made.begin()
    yield made
    made.end()


def handlers() -> tuple:
    return tuple(signal.getsignal(signum) for signum in SIGNALS)


def test_signals_keep_their_meaning_until_the_first_iteration_and_after_the_end(requests: StopRequests) -> None:
    assert handlers() == BEFORE
    assert requests.ask(0, 0, 1) == 0
    assert handlers() != BEFORE
    requests.end()
    assert handlers() == BEFORE


@pytest.mark.parametrize("signum", SIGNALS)
def test_signal_is_noted_until_somebody_asks(requests: StopRequests, signum: int, capfd: pytest.CaptureFixture) -> None:
    requests.ask(0, 0, 1)
    assert not requests.pending
    os.kill(os.getpid(), signum)
    assert requests.pending
    assert requests.ask(1, 0, 1) == requests.ask(2, 0, 1) == signum
    assert "stopping after this iteration; once more stops at once" in capfd.readouterr().err


def test_echo_of_a_signal_is_no_second_one(requests: StopRequests) -> None:
    requests.ask(0, 0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert requests.ask(1, 0, 1) == signal.SIGTERM


def test_second_signal_ends_at_once(requests: StopRequests, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(stopping.os, "_exit", ended.append)
    monkeypatch.setattr(stopping, "_ECHO_S", 0)
    requests.ask(0, 0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert ended == [128 + signal.SIGINT]


def test_forked_child_dies_of_the_signal(requests: StopRequests) -> None:
    requests.ask(0, 0, 1)
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_training_in_another_thread_leaves_signals_alone() -> None:
    requests, answers = StopRequests(), []
    thread = threading.Thread(target=lambda: (requests.begin(), answers.append(requests.ask(0, 0, 1))))
    thread.start()
    thread.join()
    assert answers == [0]
    assert handlers() == BEFORE


def test_model_outside_a_training_leaves_signals_alone() -> None:
    assert STOP.ask(0, 0, 1) == 0
    assert handlers() == BEFORE


@pytest.mark.parametrize(
    ("signum", "status", "name"), [(signal.SIGINT, 130, "SIGINT"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_run_stopped_is_the_process_status(signum: int, status: int, name: str) -> None:
    code = f"from facesr_plugin.utils.stopping import RunStopped; raise RunStopped({signum})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (status, "")
    assert str(RunStopped(signum)) == name


def ask_each_iteration(rank: int, count: int) -> list[int]:
    """Ask five times; rank 1 gets a signal before its third question."""
    requests, answers = StopRequests(), []
    requests.begin()
    for done in range(5):
        if (rank, done) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)
        answers.append(requests.ask(done, rank, count))
        if answers[-1]:
            break
    requests.wait_for_ranks()
    return answers


@pytest.mark.process
def test_ranks_get_the_same_answer_one_iteration_later(tmp_path: Path) -> None:
    assert run_ranks(2, tmp_path / "ranks", ask_each_iteration) == [[0, 0, 0, signal.SIGTERM]] * 2
