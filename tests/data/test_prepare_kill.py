"""``facesr prepare`` killed at random moments and started again."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.data.lmdb_store import LmdbReader
from facesr_plugin.ops.affine import FFHQ_TEMPLATE
from helpers.faces import write_images
from helpers.killed import start

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the platform has no SIGKILL"),
]


def content_of(path) -> dict[str, bytes]:
    reader = LmdbReader(path)
    return {key: reader.get(key) for key in reader.keys}


def kill_until_it_ends(command: list[str], log: Path, rng: random.Random) -> int:
    """Kill the run after a random time, again and again; return how often it was killed."""
    for kills in range(60):
        process = start(command, log)
        process.join(rng.uniform(0.05, 0.5) if kills < 6 else 60)
        if process.exitcode is not None:
            assert process.exitcode in (0, 1), log.read_text()
            return kills
        process.kill()
        process.join()
    raise AssertionError("the run never ended")


def write_source(folder: Path) -> list[str]:
    """Write 150 images, two of them cut off."""
    names = write_images(folder, 150)
    for name in ("face_07.png", "face_101.png"):
        os.truncate(folder / name, 120)
    return names


def faces(folder: Path) -> list[str]:
    write_source(folder / "in")
    return ["faces", str(folder / "in"), "--size", "32"]


def ffhq_by_landmarks(folder: Path) -> list[str]:
    names = write_source(folder / "in")
    points = np.repeat(np.array([FFHQ_TEMPLATE], np.float32) / 16, len(names), axis=0)
    write_landmarks(folder / "points.npz", Landmarks(tuple(names), points))
    return ["ffhq", str(folder / "in"), "--size", "32", "--landmarks", str(folder / "points.npz")]


def ffhq_by_detector(folder: Path) -> list[str]:
    write_source(folder / "in")
    (folder / "detector.pth").write_bytes(b"not read")
    return ["ffhq", str(folder / "in"), "--size", "16", "--detector-weights", str(folder / "detector.pth")]


def synthetic(folder: Path) -> list[str]:
    return ["synthetic", "--num", "60", "--size", "32"]


@pytest.mark.parametrize("kind", [faces, ffhq_by_landmarks, ffhq_by_detector, synthetic])
def test_killed_prepare_ends_with_the_same_lmdb(tmp_path, kind):
    command = ["prepare", *kind(tmp_path), "--workers", "2", "--out"]
    whole = start([*command, str(tmp_path / "whole.lmdb")], tmp_path / "log")
    whole.join(120)
    assert whole.exitcode == int(kind is not synthetic)  # 1: images were left out
    kills = kill_until_it_ends([*command, str(tmp_path / "x.lmdb")], tmp_path / "log", random.Random(0))
    assert kills >= (2 if kind is synthetic else 3)
    assert content_of(tmp_path / "x.lmdb") == content_of(tmp_path / "whole.lmdb")
    names = {path.name for path in (tmp_path / "whole.lmdb").iterdir()}
    assert {path.name for path in (tmp_path / "x.lmdb").iterdir()} == names
    for name in names - {"data.mdb", "lock.mdb"}:
        assert (tmp_path / "x.lmdb" / name).read_bytes() == (tmp_path / "whole.lmdb" / name).read_bytes()


def progress_of(log: Path) -> list[int]:
    """Numbers that the progress bar showed."""
    return [int(part.split("/")[0]) for part in log.read_text().split() if part.endswith("/150")]


def test_killed_prepare_faces_loses_at_most_the_last_batch(tmp_path):
    write_images(tmp_path / "in", 150)
    command = ["prepare", "faces", str(tmp_path / "in"), "--size", "32", "--out", str(tmp_path / "x.lmdb")]
    process = start(command, tmp_path / "log")
    while max(progress_of(tmp_path / "log"), default=0) < 32:
        assert process.is_alive(), (tmp_path / "log").read_text()
        time.sleep(0.01)
    process.kill()
    process.join()
    seen = max(progress_of(tmp_path / "log"))
    process = start(command, tmp_path / "log")
    process.join(60)
    assert process.exitcode == 0
    assert 150 > progress_of(tmp_path / "log")[0] >= seen - 8


def processes_with(log: Path) -> list[str]:
    """Processes that write to a file."""
    found = []
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        with suppress(OSError):
            if output.readlink() == log:
                found.append(output.parts[2])
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_killed_prepare_leaves_no_worker_behind(tmp_path):
    write_images(tmp_path / "in", 150)
    log = tmp_path / "log"
    process = start(["prepare", "faces", str(tmp_path / "in"), "--size", "32", "--out", str(tmp_path / "x.lmdb")], log)
    while len(processes_with(log)) < 3:  # itself and two workers
        assert process.is_alive(), log.read_text()
        time.sleep(0.01)
    process.kill()
    process.join()
    deadline = time.monotonic() + 10
    while processes_with(log) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_with(log) == []
