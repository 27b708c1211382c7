"""``facesr prepare landmarks`` killed while it works and started again."""

import os
import signal
import time
from pathlib import Path

import pytest

from helpers.faces import write_images
from helpers.killed import start
from helpers.landmarks import save_compressed_fan

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the platform has no SIGKILL"),
]


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_prepare_landmarks_ends_with_the_same_file(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 100)
    os.truncate(tmp_path / "in/face_07.png", 99)
    weights = save_compressed_fan(tmp_path / "fan.pth")
    command = ["prepare", "landmarks", str(tmp_path / "in"), "--model", "compressed_fan", "--aligned"]
    command += ["--weights", str(weights), "--out"]
    whole = start([*command, str(tmp_path / "whole.json")], tmp_path / "log")
    whole.join(120)
    assert whole.exitcode == 1, (tmp_path / "log").read_text()  # one image was left out
    part = tmp_path / "x.json.part"
    for done in (2, 4, 6):  # the plan and 1, 3, 5 of 13 chunks
        process = start([*command, str(tmp_path / "x.json")], tmp_path / "log")
        deadline = time.monotonic() + 60
        while lines_of(part) < done and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
        assert lines_of(part) >= done
    last = start([*command, str(tmp_path / "x.json")], tmp_path / "log")
    last.join(60)
    assert last.exitcode == 1
    for suffix in ("", ".skipped.txt"):
        assert (tmp_path / f"x.json{suffix}").read_bytes() == (tmp_path / f"whole.json{suffix}").read_bytes()
    assert not part.exists()
