import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.utils.imageio import read_image, write_png
from helpers.interrupted import start_facesr
from helpers.photos import group_photo, write_points
from helpers.tiny import save_tiny_sparnet

NUMBER = 60
PHOTO, POINTS = group_photo(((10, 8, 64), (80, 12, 60)), (80, 150))


def start(folder: Path, out: str) -> subprocess.Popen:
    words = ["restore", "in", "--weights", "w.pth", "--out", out, "--landmarks", "points.csv", "--force"]
    words += ["--save-crops", "--save-grid", "--device", "cpu"]
    words += ["--batch", "1"]  # the sums of a larger batch may be in another order, which a stop changes
    return start_facesr(folder, *words)


def finish(process: subprocess.Popen) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def wait_for_results(folder: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.png"))) < number:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny_sparnet(tmp_path / "w.pth")
    rng = np.random.default_rng(0)
    for index in range(NUMBER):
        noise = rng.integers(-9, 9, PHOTO.shape)
        write_png(tmp_path / "in" / f"{index:03}.png", (PHOTO + noise).clip(0, 255).astype(np.uint8))
    write_points(tmp_path / "points.csv", {f"{index:03}": POINTS for index in range(NUMBER)})
    return tmp_path


@pytest.mark.process
def test_restore_continues_after_interrupts_and_kills_with_the_same_bytes(folder: Path) -> None:
    finish(start(folder, "whole"))
    stops = ((3, signal.SIGINT, 130), (9, signal.SIGKILL, -9), (17, signal.SIGKILL, -9))
    for number, stop, status in stops:
        process = start(folder, "out")
        wait_for_results(folder / "out", number)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, stop) == (status, stop), errors
        assert "Traceback" not in errors
        results = list((folder / "out").glob("*.png"))
        assert number <= len(results) < NUMBER
        assert all(read_image(path).shape == PHOTO.shape for path in results)
    written = {path: path.stat().st_mtime_ns for path in results}
    output = finish(start(folder, "out"))
    assert f"{NUMBER - len(results)} photos with {2 * (NUMBER - len(results))} restored faces" in output
    assert f"{len(results)} had a result" in output
    assert {path: path.stat().st_mtime_ns for path in results} == written
    assert content(folder / "out") == content(folder / "whole")
