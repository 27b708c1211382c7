"""``run-lock``: the defect as released, then that a run takes the lock of its folder and gives it back."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import basicsr.train
import basicsr.utils.options
import pytest

from facesr_plugin.compat import run_lock
from facesr_plugin.utils.run_lock import release_run_locks, take_run_lock

OPTIONS = "name: run\nnum_gpu: 0\nmanual_seed: 0\ndatasets: {}\npath: {}\nlogger: {}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run of the options of ``sys.argv`` writes."""
    (tmp_path / "run.yml").write_text(OPTIONS)
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(tmp_path / "run.yml")])
    return tmp_path / "experiments" / "run"


def is_free(folder: Path) -> bool:
    """Whether another thread could take the lock."""
    refused = []

    def attempt() -> None:
        try:
            take_run_lock(folder)
        except OSError as error:
            refused.append(error)
        release_run_locks()

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return not refused


def test_repair_is_named_and_finds_the_defect() -> None:
    assert run_lock.RUN_LOCK.name == "run-lock"
    assert run_lock._renames_unasked()


def test_released_run_renames_the_folder_of_another(folder: Path) -> None:
    folder.mkdir(parents=True)
    basicsr.utils.make_exp_dirs({"is_train": True, "path": {"experiments_root": str(folder)}})
    assert len(list(folder.parent.glob("run_archived_*"))) == 1


@pytest.mark.parametrize(("is_train", "kind"), [(True, "experiments"), (False, "results")])
def test_repaired_run_takes_the_lock_of_its_folder(folder: Path, is_train: bool, kind: str) -> None:
    basicsr.utils.options.parse_options(str(folder.parents[1]), is_train=is_train)
    taken = folder.parents[1] / kind / "run"
    assert not is_free(taken)
    release_run_locks()
    assert is_free(taken)


def test_repaired_run_gives_the_lock_back_when_it_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(opt: dict) -> None:
        assert not is_free(folder)
        raise ValueError("no")

    monkeypatch.setattr(basicsr.train, "make_exp_dirs", refuse)
    with pytest.raises(ValueError, match="no"):
        basicsr.train.train_pipeline(str(folder.parents[1]))
    assert is_free(folder)
