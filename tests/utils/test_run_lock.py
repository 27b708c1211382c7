"""The lock of a run's folder: against other processes, other threads, and forked children that outlive the run."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from facesr_plugin.utils.run_lock import lock_file, release_run_locks, take_run_lock

fcntl = pytest.importorskip("fcntl")
TAKE = "import sys; from facesr_plugin.utils.run_lock import take_run_lock; take_run_lock(sys.argv[1])"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "experiments" / "run"
    release_run_locks()


def take_elsewhere(folder: Path) -> str:
    """Take the lock in another process; return its errors."""
    done = subprocess.run([sys.executable, "-c", TAKE, folder], capture_output=True, text=True, timeout=60)
    return done.stderr


def test_lock_keeps_other_processes_out_and_names_this_one(folder: Path) -> None:
    take_run_lock(folder)
    owner = rf"process {os.getpid()} on {re.escape(socket.gethostname())}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\."
    assert re.search(rf"{re.escape(str(folder))} must be free of other runs, got one in it: {owner}",
                     take_elsewhere(folder))  # fmt: skip
    release_run_locks()
    assert take_elsewhere(folder) == ""


def test_lock_ends_with_the_process_even_if_a_child_lives_on(folder: Path) -> None:
    code = f"{TAKE}; import os; print(os.fork() and os._exit(0) or os.getpid(), flush=True); os.read(0, 1)"
    command = [sys.executable, "-c", code, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.wait(timeout=60)
        take_run_lock(folder)
        assert os.kill(child, 0) is None
        parent.stdin.close()


def test_lock_keeps_other_threads_out_while_the_first_lives(folder: Path) -> None:
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        take_run_lock(folder)
        taken.set()
        done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(60)
    with pytest.raises(OSError, match=rf"another thread of this process \({os.getpid()}\)"):
        take_run_lock(folder)
    release_run_locks()  # of this thread, which has none
    with pytest.raises(OSError, match="another thread"):
        take_run_lock(folder)
    done.set()
    thread.join()
    take_run_lock(folder)
    take_run_lock(folder)  # an earlier run of this thread is over


def test_lock_of_one_folder_leaves_others_free(folder: Path) -> None:
    take_run_lock(folder)
    take_run_lock(folder.with_name("other"))
    assert lock_file(folder).name == ".run.lock"
    assert take_elsewhere(folder.with_name("third")) == ""


def test_lock_does_without_where_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    take_run_lock(folder)
