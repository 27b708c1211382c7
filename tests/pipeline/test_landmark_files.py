import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.pipeline.landmark_files import prepare_landmarks
from facesr_plugin.pipeline.landmarker import LandmarkFace
from helpers.faces import write_images


class Find:
    """Finds as many faces as wanted; points depend on the picture. Gives up after a number of pictures."""

    def __init__(self, faces: int = 1, stop_after: int = 10**9, box: bool = True) -> None:
        self.faces, self.left, self.box, self.seen = faces, stop_after, box, 0

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[list[LandmarkFace] | str]:
        self.left -= len(pictures)
        if self.left < 0:
            raise KeyboardInterrupt
        self.seen += len(pictures)
        return [self.find(picture) for picture in pictures]

    def find(self, picture: np.ndarray) -> list[LandmarkFace] | str:
        if not self.faces:
            return "no face was found"
        points = picture[:5, 0, :2].astype(np.float32) / 255 * 7 / 3
        visible = np.array([True, True, False, True, True])
        box = np.float32([1, 2, 3, 4]) if self.box else None
        return [LandmarkFace(points + face, visible, 0.25 * face, box) for face in range(self.faces)]


def prepare(folder: Path, find: Find, out: str = "x.npz", **more) -> tuple:
    return prepare_landmarks(folder / "in", folder / out, find, plan=more.pop("plan", {}), **more)


@pytest.mark.parametrize("out", ["x.npz", "x.json"])
def test_landmarks_are_written_in_the_order_of_the_images(tmp_path: Path, out: str) -> None:
    names = write_images(tmp_path / "in", 20)
    report = prepare(tmp_path, Find(), out)
    assert report.skipped == []
    read = read_landmarks(tmp_path / out)
    assert read.names == tuple(names)
    assert read.points.shape == (20, 5, 2)
    assert np.array_equal(read.points, report.landmarks.points)
    assert read.image_size.tolist() == [[32, 32]] * 20
    assert read.visible[0].tolist() == [True, True, False, True, True]
    assert read.face is None
    assert {path.name for path in tmp_path.iterdir()} == {"in", out}


def test_faces_of_a_photo_are_numbered(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    landmarks = prepare(tmp_path, Find(3, box=False)).landmarks
    assert landmarks.names == ("face_00.png",) * 3 + ("face_01.png",) * 3
    assert landmarks.face.tolist() == [0, 1, 2] * 2
    assert landmarks.score.tolist() == [0, 0.25, 0.5] * 2
    assert landmarks.boxes is None


def test_images_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 3)
    os.truncate(tmp_path / "in/face_01.png", 99)
    report = prepare(tmp_path, Find())
    assert report.landmarks.names == ("face_00.png", "face_02.png")
    assert report.skipped[0][0] == "face_01.png"
    line = (tmp_path / "x.npz.skipped.txt").read_text()
    assert line.startswith("face_01.png\tface_01.png is damaged")


def test_names_of_a_folder_in_a_folder_join_what_training_reads(tmp_path: Path) -> None:
    write_images(tmp_path / "in/all/a", 1)
    write_images(tmp_path / "in/all/b", 1)
    assert prepare(tmp_path, Find()).landmarks.names == ("a/face_00.png", "b/face_00.png")


@pytest.mark.parametrize("stop", [16, 32, 40])
def test_a_stopped_run_continues_with_the_same_result(tmp_path: Path, stop: int) -> None:
    write_images(tmp_path / "in", 50)
    os.truncate(tmp_path / "in/face_07.png", 99)
    prepare(tmp_path, Find(), "whole.json")
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, Find(stop_after=stop), "x.json")
    assert not (tmp_path / "x.json").exists()
    again = Find()
    prepare(tmp_path, again, "x.json")
    assert again.seen == 50 - stop
    for suffix in ("", ".skipped.txt"):
        assert (tmp_path / f"x.json{suffix}").read_bytes() == (tmp_path / f"whole.json{suffix}").read_bytes()
    assert not (tmp_path / "x.json.part").exists()


def test_a_stopped_run_does_not_continue_with_other_settings(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 20)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, Find(stop_after=16), plan={"weights": "a"})
    with pytest.raises(FileExistsError, match=r"x\.npz\.part is of an interrupted run with other inputs or settings"):
        prepare(tmp_path, Find(), plan={"weights": "b"})
    assert len(prepare(tmp_path, Find(), plan={"weights": "b"}, overwrite=True).landmarks.names) == 20


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 1)
    prepare(tmp_path, Find())
    with pytest.raises(FileExistsError, match=r"x\.npz exists\. Replace it with --overwrite"):
        prepare(tmp_path, Find())
    assert len(prepare(tmp_path, Find(2), overwrite=True).landmarks.names) == 2


def test_no_landmarks_at_all_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    with pytest.raises(ValueError, match=r"none of 2 images has landmarks. The first: face_00.png: no face was found"):
        prepare(tmp_path, Find(0))
    with pytest.raises(ValueError, match=r"must end with \.npz or \.json"):
        prepare(tmp_path, Find(), "x.txt")
