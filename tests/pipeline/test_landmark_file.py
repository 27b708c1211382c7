from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.pipeline.landmark_file import read_faces


@pytest.mark.parametrize("name", ["p.npz", "p.json"])
def test_read_faces_reads_several_faces_of_a_photo(tmp_path: Path, name: str) -> None:
    points = np.random.default_rng(0).uniform(0, 50, (3, 5, 2)).astype(np.float32)
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    names = ("album/a.jpg", "b.png", "album/a.jpg")
    score = np.array([0.5, 1, 0.25], np.float32)
    write_landmarks(tmp_path / name, Landmarks(names, points, boxes=boxes, score=score, face=np.array([0, 0, 1])))
    found = read_faces(tmp_path / name)
    assert {stem: [face.score for face in faces] for stem, faces in found.items()} == {"a": [0.5, 0.25], "b": [1]}
    assert np.array_equal(found["a"][1].landmarks, points[2])
    assert np.array_equal(found["a"][1].box, boxes[2])


def test_read_faces_refuses_layouts_without_the_five_points(tmp_path: Path) -> None:
    write_landmarks(tmp_path / "p.npz", Landmarks(("a.png",), np.zeros((1, 19, 2), np.float32)))
    with pytest.raises(ValueError, match=r"p\.npz must have 5, 68 or 98 points per face, got 19"):
        read_faces(tmp_path / "p.npz")


HEADER = "file,leye_x,leye_y,reye_x,reye_y,nose_x,nose_y,lmouth_x,lmouth_y,rmouth_x,rmouth_y,x1,y1,x2,y2,score\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", r"p\.csv must be UTF-8 text with commas"),
        (b"x" * 200_000, r"p\.csv must be UTF-8 text with commas .*field larger than field limit"),
        (f"{HEADER}a,1,2,3,4,5,6,7,8,9\n".encode(), r"p\.csv, line 2: float"),
        (f"{HEADER}a,1,2,3,4,5,6,7,8,9,nan\n".encode(), r"line 2: rmouth_y must be a finite number, got 'nan'"),
        (f"{HEADER}a,1,2,3,4,5,6,7,8,9,1,1,1,inf,1\n".encode(), r"line 2: x2 must be a finite number, got 'inf'"),
        (HEADER.replace("file,", "").encode(), r"it lacks file$"),
    ],
)
def test_read_faces_refuses_damaged_tables(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_faces(tmp_path / "p.csv")
