"""What happens to a run's files when the disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from facesr_plugin.utils import files
from helpers.options import hd_model_options
from helpers.training import build_model


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize(
    ("turn", "name"), [(1, "models/net_d_2.pth"), (2, "models/net_g_2.pth"), (3, "states/2.state")]
)
def test_full_disk_stops_with_one_message_and_leaves_the_checkpoint_before(
    tmp_path: Path, turn: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(**hd_model_options(tmp_path))
    model.save(0, 1)
    before, calls = contents(tmp_path), []

    def refuse(handle: int) -> None:
        calls.append(handle)
        if len(calls) >= 2 * turn - 1:  # of each file and of its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left on device") as caught:
        model.save(0, 2)
    assert str(caught.value) == (
        f"the run stops, since it cannot write {tmp_path / name}: No space left on device. Make room (also check quota "
        "and permissions); of the checkpoints, those before are intact: the same command with --auto_resume goes on "
        "from 1.state."
    )
    after = contents(tmp_path)
    assert {key: after[key] for key in before} == before
    assert sorted(after.keys() - before.keys()) == ["net_d_2.pth", "net_g_2.pth"][: turn - 1]


def test_full_disk_at_the_first_checkpoint_says_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(**hd_model_options(tmp_path))

    def refuse(handle: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(OSError, match="Disk quota exceeded.* there is none before it"):
        model.save(0, 1)
    assert contents(tmp_path) == {}
