"""What ``scripts/measure_landmarks.py`` says of landmark files."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesr_plugin.data.annotations import Landmarks, write_landmarks

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_landmarks.py"
SPEC = importlib.util.spec_from_file_location("measure_landmarks", SCRIPT)
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)

NAMES = tuple(f"{letter}.png" for letter in "abcd")


def truth() -> Landmarks:
    points = np.random.default_rng(0).uniform(10, 90, (4, 5, 2)).astype(np.float32)
    return Landmarks(NAMES, points, image_size=np.full((4, 2), 100))


def shifted(by: list[float]) -> Landmarks:
    """The faces in another order, moved to the right by parts of the image."""
    points = truth().points + 100 * np.array(by, np.float32)[:, None, None] * [1, 0]
    return Landmarks(NAMES[::-1], points[::-1].astype(np.float32))


def test_faces_are_joined_by_name() -> None:
    found = script.measure(shifted([0, 0.02, 0.06, 0.1]), truth(), "image", 0.08)
    assert found.errors == pytest.approx([0, 0.02, 0.06, 0.1], abs=1e-6)
    assert found.nrmse == pytest.approx(0.045, abs=1e-6)  # every point of a face is off by the same
    assert (found.auc, found.failure_rate) == (pytest.approx(0.5, abs=1e-6), 0.25)


def half_size(known: bool) -> tuple[Landmarks, Landmarks]:
    """The same faces in images of half the side, and the truth with or without its sizes."""
    own, small = truth(), (truth().points + 0.5) / 2 - 0.5
    return Landmarks(NAMES, small, image_size=np.full((4, 2), 50)), own if known else replace(own, image_size=None)


def test_points_of_small_images_are_brought_to_the_truth() -> None:
    found, own = half_size(known=True)
    assert script.measure(found, own, "image", 0.08).errors == pytest.approx([0] * 4, abs=1e-6)


def test_small_images_without_the_size_of_the_truth_are_refused() -> None:
    found, own = half_size(known=False)
    with pytest.raises(ValueError, match=r"are of smaller images \(50 x 50\) than the truth.*Say with --side"):
        script.measure(found, own, "image", 0.08)


def test_every_face_of_the_truth_is_needed() -> None:
    with pytest.raises(ValueError, match="must have every face of the truth, 3 lack: b"):
        script.measure(Landmarks(NAMES[:1], truth().points[:1]), truth(), "image", 0.08)


def test_table_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    write_landmarks(tmp_path / "truth.npz", truth())
    write_landmarks(tmp_path / "found.json", shifted([0.01] * 4))
    files = [str(tmp_path / "truth.npz"), f"ours={tmp_path / 'found.json'}", "--out", str(tmp_path / "ced.png")]
    monkeypatch.setattr(sys, "argv", ["measure_landmarks.py", *files, "--normaliser", "image"])
    script.main()
    assert capsys.readouterr().out.splitlines()[1].split() == ["ours", "1.00%", "1.00%", "87.50%", "0.00%"]
    assert Image.open(tmp_path / "ced.png").size == (720, 504)
