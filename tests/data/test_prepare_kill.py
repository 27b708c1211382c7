"""``facesr prepare`` killed at random moments and started again."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facesr_plugin.data.lmdb_store import LmdbReader
from helpers.faces import write_images

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the platform has no SIGKILL"),
]

# A small batch, so that a run of seconds has many commits. The pause makes a whole run of 150 images last three
# seconds at least: longer than six kills of half a second, however fast the machine is.
RUN = """
import functools, sys, time
from facesr_plugin.data import lmdb_store, prepare, prepare_synthetic
original = lmdb_store.LmdbWriter.put
def put(self, images):
    time.sleep(0.02)
    original(self, images)
lmdb_store.LmdbWriter.put = put
lmdb_store.LmdbWriter.__init__ = functools.partialmethod(lmdb_store.LmdbWriter.__init__, batch=8, map_size=65536)
from facesr_plugin.cli import main
print("ready", flush=True)
sys.exit(main(sys.argv[1:]))
"""


def content_of(path) -> dict[str, bytes]:
    reader = LmdbReader(path)
    return {key: reader.get(key) for key in reader.keys}


def processes_of(mark: str) -> list[str]:
    """Processes that have the run's mark in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"FACESR_KILL_TEST={mark}".encode() in file.read_bytes().split(b"\0"):
                found.append(file.parent.name)
    return found


def start(command, mark: str) -> subprocess.Popen:
    environment = {**os.environ, "FACESR_KILL_TEST": mark}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", RUN, *command], env=environment, text=True, **pipes)
    process.stdout.readline()
    return process


def kill_until_it_ends(command, mark: str, rng: random.Random) -> int:
    """Kill the run after a random time, again and again; return how often it was killed."""
    for kills in range(60):
        process = start(command, mark)
        try:
            out, err = process.communicate(timeout=rng.uniform(0.05, 0.5) if kills < 6 else 60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            continue
        assert process.returncode in (0, 1), err
        return kills
    raise AssertionError("the run never ended")


def test_killed_prepare_faces_ends_with_the_same_lmdb(tmp_path):
    write_images(tmp_path / "in", 150)
    for name in ("face_07.png", "face_101.png"):
        os.truncate(tmp_path / "in" / name, 120)
    command = ["prepare", "faces", str(tmp_path / "in"), "--size", "32", "--workers", "2", "--out"]
    assert start([*command, str(tmp_path / "whole.lmdb")], "whole").wait(60) == 1
    kills = kill_until_it_ends([*command, str(tmp_path / "x.lmdb")], "killed", random.Random(0))
    assert kills >= 3
    assert content_of(tmp_path / "x.lmdb") == content_of(tmp_path / "whole.lmdb")
    for name in ("meta_info.txt", "skipped.txt", "prepare.json"):
        assert (tmp_path / "x.lmdb" / name).read_bytes() == (tmp_path / "whole.lmdb" / name).read_bytes()
    assert {path.name for path in (tmp_path / "x.lmdb").iterdir()} == {
        path.name for path in (tmp_path / "whole.lmdb").iterdir()
    }


def test_killed_prepare_faces_loses_at_most_the_last_batch(tmp_path):
    write_images(tmp_path / "in", 150)
    command = [
        "prepare",
        "faces",
        str(tmp_path / "in"),
        "--size",
        "32",
        "--workers",
        "2",
        "--out",
        str(tmp_path / "x.lmdb"),
    ]
    process = start(command, "one")
    seen = 0
    for line in iter(lambda: process.stderr.read(64), ""):
        seen = max([seen, *(int(part.split("/")[0]) for part in line.split() if part.endswith("/150"))])
        if seen >= 64:
            break
    process.kill()
    process.communicate()
    process = start(command, "two")
    first = process.stderr.read(80)
    process.communicate()
    assert process.returncode == 0
    kept = int(first.split("/150")[0].split()[-1])
    assert kept >= seen - 8


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_killed_prepare_leaves_no_worker_behind(tmp_path):
    write_images(tmp_path / "in", 150)
    mark = f"orphans-{os.getpid()}"
    process = start(["prepare", "faces", str(tmp_path / "in"), "--size", "32", "--out", str(tmp_path / "x.lmdb")], mark)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while processes_of(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(mark) == []


def test_killed_prepare_synthetic_ends_with_the_same_lmdb(tmp_path):
    command = ["prepare", "synthetic", "--num", "60", "--size", "32", "--workers", "2", "--out"]
    assert start([*command, str(tmp_path / "whole.lmdb")], "whole").wait(120) == 0
    kills = kill_until_it_ends([*command, str(tmp_path / "x.lmdb")], "killed", random.Random(1))
    assert kills >= 2
    assert content_of(tmp_path / "x.lmdb") == content_of(tmp_path / "whole.lmdb")
    names = ("meta_info.txt", "landmarks.npz")
    assert all((tmp_path / "x.lmdb" / n).read_bytes() == (tmp_path / "whole.lmdb" / n).read_bytes() for n in names)
