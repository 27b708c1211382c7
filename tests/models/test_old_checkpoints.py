"""Which checkpoints ``logger.keep_checkpoints`` removes, and that a kill in between does no harm."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from facesr_plugin.compat.resume import find_states
from facesr_plugin.models.old_checkpoints import find_keep_problems, remove_old_checkpoints
from helpers.options import hd_model_options, model_options
from helpers.training import build_model

LABELS = ["net_g", "net_d"]
FOREIGN = [
    "net_g_best.pth", "net_g_latest.pth", "net_g_4.pth.bak", "net_g_4_mine.pth", "net_vgg_19.pth", "notes.txt",
    "old_net_g_4.pth",
]  # fmt: skip


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Networks and states of iterations 4, 8, 12 and 16, and files of others."""
    models, states = tmp_path / "models", tmp_path / "states"
    for folder in (models, states):
        folder.mkdir()
    for iteration in (4, 8, 12, 16):
        for label in LABELS:
            (models / f"{label}_{iteration}.pth").touch()
        (states / f"{iteration}.state").touch()
    for name in FOREIGN:
        (models / name).touch()
    (states / "best.state").touch()
    return models, states


def kept(models: Path) -> list[int]:
    """Iterations of which a network is there."""
    return sorted(
        {int(path.stem.split("_")[2]) for path in models.glob("net_[gd]_[0-9]*.pth") if path.stem.count("_") == 2}
    )


def test_networks_that_a_kill_left_are_removed(folders: tuple[Path, Path]) -> None:
    models, states = folders
    for iteration in (4, 8):
        (states / f"{iteration}.state").unlink()
    remove_old_checkpoints(models, states, LABELS, keep=2, newest=16)
    assert kept(models) == [12, 16]


@pytest.mark.parametrize(
    ("keep", "newest", "states", "networks"),
    [
        (1, 16, [16], [16]),
        (3, 16, [8, 12, 16], [8, 12, 16]),
        (4, 16, [4, 8, 12, 16], [4, 8, 12, 16]),
        (9, 16, [4, 8, 12, 16], [4, 8, 12, 16]),
        (1, 8, [8, 12, 16], [8, 12, 16]),
    ],
    ids=["one", "three", "as many", "more", "after an earlier one was named to go on from"],
)
def test_last_checkpoints_stay(
    folders: tuple[Path, Path], keep: int, newest: int, states: list[int], networks: list[int]
) -> None:
    remove_old_checkpoints(*folders, LABELS, keep=keep, newest=newest)
    assert list(find_states(folders[1])) == states
    assert kept(folders[0]) == networks
    assert {path.name for path in folders[0].iterdir()} >= set(FOREIGN)
    assert (folders[1] / "best.state").exists()


@pytest.mark.parametrize("deaths", range(7))
def test_kill_in_between_leaves_every_state_its_networks(
    folders: tuple[Path, Path], deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, states = folders
    removed, unlink = [], Path.unlink

    def dying(path: Path, **options: Any) -> None:
        if len(removed) == deaths:
            raise KeyboardInterrupt
        removed.append(path)
        unlink(path, **options)

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(Path, "unlink", dying)
        remove_old_checkpoints(*folders, LABELS, keep=2, newest=16)
    assert len(removed) == deaths
    assert all((models / f"{label}_{iteration}.pth").exists() for label in LABELS for iteration in find_states(states))
    for label in LABELS:
        (models / f"{label}_20.pth").touch()
    (states / "20.state").touch()
    remove_old_checkpoints(*folders, LABELS, keep=2, newest=20)
    assert kept(models) == list(find_states(states)) == [16, 20]


@pytest.mark.parametrize("keep", [0, -1, 2.0, True, "5"])
def test_wrong_number_is_refused(keep: Any, tmp_path: Path) -> None:
    text = rf"logger\.keep_checkpoints must be a whole number from 1 on, or ~ to keep all, got {keep!r}"
    options = model_options(tmp_path) | {"logger": {"keep_checkpoints": keep}}
    with pytest.raises(ValueError, match=text):
        build_model(**options)
    assert len(list(find_keep_problems(options))) == 1


def test_model_keeps_the_last_checkpoints_of_all_its_networks(tmp_path: Path) -> None:
    model = build_model(**hd_model_options(tmp_path) | {"logger": {"keep_checkpoints": 2}})
    for iteration in (1, 2, 3):
        model.save(0, iteration)
    model.save(-1, -1)
    names = {path.name for path in tmp_path.rglob("*.*")}
    assert names == {"2.state", "3.state"} | {f"net_{net}_{place}.pth" for net in "gd" for place in (2, 3, "latest")}


def test_model_keeps_all_checkpoints_without_the_option(tmp_path: Path) -> None:
    model = build_model(**model_options(tmp_path))
    for iteration in (1, 2, 3):
        model.save(0, iteration)
    assert list(find_states(tmp_path / "states")) == [1, 2, 3]
