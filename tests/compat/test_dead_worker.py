"""``dead-worker``: what is said of a training whose loader worker died, and of no other error."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import basicsr.utils.options as options
import pytest
from torch.utils.data import DataLoader, Dataset

from facesr_plugin.compat import dead_worker, patch

DIED = "DataLoader worker (pid 7) is killed by signal: Killed. "


def test_a_dead_worker_is_explained(tmp_path: Path) -> None:
    assert dead_worker.DEAD_WORKER.name == "dead-worker"
    error = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    error.__cause__ = RuntimeError(DIED)
    (tmp_path / "8.state").touch()
    (tmp_path / "16.state").touch()
    text = dead_worker.explain(error, tmp_path)
    assert text.startswith(
        "The training has ended: DataLoader worker (pid 7) is killed by signal: Killed. Likely causes"
    )
    assert "ran out of memory" in text
    assert text.endswith(
        f"The last save is {tmp_path / '16.state'}: the same command with --auto_resume goes on from there."
    )


def test_a_worker_that_hangs_is_explained(tmp_path: Path) -> None:
    text = dead_worker.explain(RuntimeError("DataLoader timed out after 60 seconds"), tmp_path)
    assert re.search(
        r"timed out after 60 seconds\. Likely .* worker_timeout .* Nothing was saved yet: start again", text
    )


@pytest.mark.parametrize(
    "error", [ValueError("image 'a' is damaged"), RuntimeError("out of memory"), KeyboardInterrupt()]
)
def test_other_errors_are_left_alone(tmp_path: Path, error: BaseException) -> None:
    assert dead_worker.explain(error, tmp_path) is None


@pytest.mark.parametrize("kind", [EOFError, ConnectionResetError])
def test_a_connection_that_a_worker_cut_is_explained(tmp_path: Path, kind: type[Exception]) -> None:
    def _try_get_data() -> None:
        raise kind

    with pytest.raises(kind) as caught:
        _try_get_data()
    assert "a DataLoader worker is gone. Likely causes" in dead_worker.explain(caught.value, tmp_path)
    assert dead_worker.explain(kind(), tmp_path) is None


@pytest.fixture
def handler() -> Iterator[None]:
    """Put the handler of dead children back."""
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before)


class Deadly(Dataset):
    """Kills the worker that asks for a sample."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_error_of_torch_is_recognised(
    tmp_path: Path, handler: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("basicsr"), "handlers", [caplog.handler])
    monkeypatch.setattr(logging.getLogger("basicsr"), "propagate", False)
    shown = []
    hook = dead_worker._hook(tmp_path, lambda *error: shown.append(error))
    with pytest.raises(RuntimeError) as caught:
        next(iter(DataLoader(Deadly(), num_workers=1)))
    with caplog.at_level(logging.ERROR, "basicsr.facesr"):
        hook(caught.type, caught.value, caught.tb)
        hook(ValueError, ValueError("other"), None)
    assert [error[0] for error in shown] == [RuntimeError, ValueError]
    assert [re.search("is killed by signal: Killed", record.getMessage()) is not None for record in caplog.records] == [
        True
    ]
    assert sys.excepthook is not hook


def test_hooks_that_parsing_sets_are_kept_and_those_of_an_earlier_run_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    opt = {"is_train": True, "path": {"training_states": str(tmp_path)}}

    def parse_options() -> tuple[dict, None]:
        monkeypatch.setattr(sys, "excepthook", lambda *_error: shown.append("group"))
        return opt, None

    made: list = []
    monkeypatch.setattr(options, "parse_options", parse_options)
    monkeypatch.setattr(patch, "rebind", lambda _old, new: made.append(new))
    dead_worker.DEAD_WORKER.apply()
    made[0]()
    monkeypatch.setattr(options, "parse_options", lambda: (opt, None))
    dead_worker.DEAD_WORKER.apply()
    made[1]()
    sys.excepthook(ValueError, ValueError("other"), None)
    assert shown == ["group"]
    assert sys.excepthook.original.__name__ == "<lambda>"
