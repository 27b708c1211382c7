import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.utils.imageio import read_image, write_png
from helpers.interrupted import start_facesr
from helpers.tiny import save_tiny_sparnet

NUMBER = 60


def start(folder: Path) -> subprocess.Popen:
    words = ["infer", "in", "--weights", "w.pth", "--out", "out", "--device", "cpu", "--batch", "2"]
    return start_facesr(folder, *words)


def wait_for_results(folder: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(list((folder / "out").glob("*.png"))) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.process
def test_infer_continues_after_an_interrupt_and_a_kill(tmp_path: Path) -> None:
    save_tiny_sparnet(tmp_path / "w.pth")
    rng = np.random.default_rng(0)
    for index in range(NUMBER):
        write_png(tmp_path / "in" / f"{index:03}.png", rng.integers(0, 256, (16, 16, 3), np.uint8))
    for number, stop, status in ((3, signal.SIGINT, 130), (9, signal.SIGKILL, -signal.SIGKILL)):
        process = start(tmp_path)
        wait_for_results(tmp_path, number)
        process.send_signal(stop)
        assert (process.wait(60), stop) == (status, stop)
        results = list((tmp_path / "out").glob("*.png"))
        assert number <= len(results) < NUMBER
        assert all(read_image(path).shape == (128, 128, 3) for path in results)
    done = start(tmp_path)
    output, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors
    assert f"{NUMBER - len(results)} restored to out, {len(results)} had a result" in output
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [f"{i:03}.png" for i in range(NUMBER)]
