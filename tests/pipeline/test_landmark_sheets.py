from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.data.annotations import Landmarks
from facesr_plugin.pipeline.landmark_sheets import write_sheets
from facesr_plugin.utils.imageio import read_image, write_png
from helpers.faces import write_images


def landmarks(names: list[str], **more) -> Landmarks:
    points = np.random.default_rng(0).uniform(4, 28, (len(names), 68, 2)).astype(np.float32)
    return Landmarks(tuple(names), points, **more)


def test_sheets_show_every_face_and_those_with_low_scores(tmp_path: Path) -> None:
    names = write_images(tmp_path / "in", 23)
    score = np.linspace(1, 0, 23, dtype=np.float32)
    files = write_sheets(landmarks(names, score=score), tmp_path / "in", tmp_path / "out")
    assert [file.name for file in files] == ["sheet_000.png", "sheet_001.png", "lowest_scores.png"]
    assert read_image(files[0]).shape == (4 * 280 + 6, 5 * 262 + 6, 3)
    assert read_image(files[1]).shape == (280 + 6, 3 * 262 + 6, 3)


def test_sheets_show_200_faces_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("facesr_plugin.pipeline.landmark_sheets._cell", lambda _, row, __: shown.append(row))
    monkeypatch.setattr("facesr_plugin.pipeline.landmark_sheets._sheet", lambda _: np.zeros((1, 1, 3), np.uint8))
    write_images(tmp_path / "in", 1)
    files = write_sheets(landmarks([f"{number}.png" for number in range(1000)]), tmp_path / "in", tmp_path / "out")
    assert len(files) == 10
    assert (len(set(shown)), shown[0], shown[-1]) == (200, 0, 999)


def test_sheets_draw_points_at_their_place(tmp_path: Path) -> None:
    """Without colours in the picture, the colours are the points'."""
    (name,) = write_images(tmp_path / "in", 1)
    points = np.full((1, 68, 2), 16, np.float32)
    points[0, 0], points[0, 1] = (6, 6), (26, 26)
    marks = Landmarks((name,), points, visible=np.isin(np.arange(68), (0, 1, 20))[None])
    (file,) = write_sheets(marks, tmp_path / "in", tmp_path / "out")
    cell = read_image(file)[24:, 6:].astype(int)
    yellow = np.argwhere((np.abs(cell - [255, 212, 0]) < 3).all(-1))  # a brow
    assert yellow.mean(0) == pytest.approx([128, 128], abs=6)


def test_sheets_have_no_black_bar_where_the_picture_has_enough(tmp_path: Path) -> None:
    write_png(tmp_path / "in/a.png", np.full((60, 60, 3), 200, np.uint8))
    points = np.random.default_rng(0).uniform((15, 30), (45, 59), (1, 68, 2)).astype(np.float32)
    (file,) = write_sheets(Landmarks(("a.png",), points), tmp_path / "in", tmp_path / "out")
    cell = read_image(file)[30:250, 10:250]
    assert (cell[-1] == 200).mean() > 0.9


def test_sheets_tell_which_image_is_missing(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 1)
    with pytest.raises(ValueError, match=r"landmarks name the image b\.png, which is not there"):
        write_sheets(landmarks(["b.png"]), tmp_path / "in", tmp_path / "out")
