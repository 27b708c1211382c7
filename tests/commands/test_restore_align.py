"""``facesr restore --align-weights``."""

import re
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.cli import main
from facesr_plugin.pipeline.face import Face
from facesr_plugin.utils.imageio import read_image, write_png
from helpers.landmarks import save_tiny_jasrnet
from helpers.photos import group_photo, write_points
from helpers.tiny import save_tiny_sparnet

PHOTO, POINTS = group_photo(((10, 8, 64),), (80, 90))


def test_restore_aligns_tiny_faces_with_jasrnet(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "in" / "a.png", PHOTO)
    command = ["restore", tmp_path / "in", "--out", tmp_path / "out", "--overwrite", "--force", "--device", "cpu"]
    command += ["--weights", save_tiny_sparnet(tmp_path / "w.pth")]
    align = ["--align-weights", save_tiny_jasrnet(tmp_path / "jasrnet.pth")]
    found = [Face(POINTS[0], np.array([10, 8, 74, 72]), 0.9)]
    monkeypatch.setattr("facesr_plugin.pipeline.detector.FaceDetector", lambda *_, **__: lambda _photo: found)

    def run(*more: object) -> int:
        return main([str(argument) for argument in (*command, *more)])

    pictures = []
    for more in ((), align, (*align, "--align-below", 65)):
        assert run(*more) == 0
        pictures.append(read_image(tmp_path / "out" / "a.png"))
    assert np.array_equal(pictures[0], pictures[1])  # it has 64 pixels, and twice 16 are tiny
    assert not np.array_equal(pictures[0], pictures[2])
    found[0] = Face(POINTS[0] + [0, 80 - 0.5 * np.ptp(POINTS[0, :2, 0]) - POINTS[0, 0, 1]], np.array([10, 40, 74, 104]))
    capsys.readouterr()
    assert run(*align, "--align-below", 65) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert re.search(r"a\.png: face at \(\d+, \d+\) aligned by the detector's points: face must lie in the", notes[0])
    assert run("--align-below", 40) == 2
    assert "--align-below is for the network of --align-weights, got it alone" in capsys.readouterr().err
    assert run(*align, "--landmarks", write_points(tmp_path / "points.csv", {"a.png": POINTS})) == 2
    assert "--landmarks has the points, so --align-weights has no use" in capsys.readouterr().err
