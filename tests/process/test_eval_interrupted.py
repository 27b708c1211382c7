import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.utils.imageio import write_png
from helpers.interrupted import start_facesr

NUMBER = 200


def start(folder: Path, out: str) -> subprocess.Popen:
    metrics = ["--metrics", "sparnet_psnr,sparnet_ssim,psnr_rgb,ssim_rgb", "--device", "cpu", "--batch", "3"]
    return start_facesr(folder, "eval", "net", "gt", "--compare", "other=gt", "--out", out, *metrics)


def lines_of(folder: Path) -> int:
    table = folder / "killed" / "per_image.csv"
    return table.read_bytes().count(b"\n") if table.exists() else 0


def wait_for_lines(folder: Path, number: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while lines_of(folder) < number:
        assert time.monotonic() < deadline, process.poll()
        time.sleep(0.002)


@pytest.mark.process
def test_eval_continues_after_an_interrupt_and_a_kill(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(NUMBER):
        image = random.integers(0, 256, (32, 32, 3), np.uint8)
        write_png(tmp_path / "gt" / f"{index:03}.png", image)
        write_png(tmp_path / "net" / f"{index:03}.png", image // 2)
    lines = 0
    for stop, status in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = start(tmp_path, "killed")
        wait_for_lines(tmp_path, lines + 10, process)
        process.send_signal(stop)
        output = process.communicate(timeout=120)
        assert process.returncode == status, output
        lines = lines_of(tmp_path)
        assert lines < 2 * NUMBER
    printed = []
    for out in ("killed", "whole"):
        process = start(tmp_path, out)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        printed.append(output.splitlines()[:-1])  # the last one names the folder
    assert printed[0] == printed[1]
    tables = [(tmp_path / out / "per_image.csv").read_text() for out in ("killed", "whole")]
    assert tables[0] == tables[1]
    assert tables[0].count("\n") == 2 * NUMBER + 1
