"""Repairs of BasicSR's start: each defect as released, then the repaired behaviour."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from types import ModuleType

import basicsr.utils.options
import pytest

from facesr_plugin.compat import launch
from helpers.pristine import pristine

OPTIONS = """
name: tiny
num_gpu: 0
manual_seed: 7
datasets: {train: {name: faces}}
path: {}
logger: {print_freq: 1}
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command line of train.py with a small option file; tests append to it."""
    (tmp_path / "tiny.yml").write_text(OPTIONS)
    words = ["train.py", "-opt", str(tmp_path / "tiny.yml")]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.chdir(tmp_path)
    return words


@pytest.fixture
def released() -> ModuleType:
    return pristine("basicsr.utils.options")


def test_released_parser_refuses_the_launchers_spelling(released: ModuleType, command: list[str]) -> None:
    command.append("--local-rank=1")
    with pytest.raises(SystemExit):
        released.parse_options("root")


@pytest.mark.parametrize("words", [["--local-rank=1"], ["--local-rank", "1"], ["--local_rank=1"]])
def test_repaired_parser_takes_both_spellings(command: list[str], words: list[str]) -> None:
    assert launch.LOCAL_RANK_ARGUMENT.name == "local-rank-argument"
    command += words
    _, arguments = basicsr.utils.options.parse_options("root")
    assert arguments.local_rank == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"WORLD_SIZE": "2"}, False),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1"}, False),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"}, True),
    ],
)
def test_ranks_of_torchrun_are_known(settings: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert launch.is_torchruns_rank() is expected


@pytest.fixture
def installation(tmp_path: Path) -> str:
    return str(tmp_path / "lib" / "site-packages")


def test_released_root_is_beside_the_installed_package(
    released: ModuleType, command: list[str], installation: str
) -> None:
    opt, _ = released.parse_options(installation)
    assert opt["path"]["experiments_root"].startswith(installation)


def test_repaired_root_is_the_current_folder(
    released: ModuleType, command: list[str], installation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launch.ROOT_PATH.name == "root-path"
    monkeypatch.setattr(launch, "_options", lambda: released)
    rebound = {}
    monkeypatch.setattr(launch, "rebind", lambda old, new: rebound.update(parse_options=new))
    launch.ROOT_PATH.apply()
    opt, _ = rebound["parse_options"](installation)
    opt["root_path"] = installation  # what train_pipeline does next
    assert opt["root_path"] == str(Path.cwd())
    assert opt["path"]["experiments_root"] == str(Path.cwd() / "experiments" / "tiny")


def test_repaired_root_keeps_a_checkout(tmp_path: Path) -> None:
    assert launch.working_root(tmp_path) == tmp_path


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])
def test_rooted_options_can_be_copied(tmp_path: Path, duplicate: object) -> None:
    opt = launch._RootedOptions({"name": "tiny", "path": {"models": "m"}}, tmp_path)
    assert duplicate(opt) == {"name": "tiny", "path": {"models": "m"}, "root_path": str(tmp_path)}
