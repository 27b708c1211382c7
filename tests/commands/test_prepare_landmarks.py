import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.cli import main
from facesr_plugin.commands.prepare_landmarks import FORMATS
from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.data.landmark_readers import READERS
from facesr_plugin.pipeline.landmark_file import read_faces
from helpers.detector import save_detector
from helpers.faces import write_images
from helpers.landmarks import save_compressed_fan, save_tiny_jasrnet


def run(*arguments: object) -> int:
    return main(["prepare", "landmarks", *(str(argument) for argument in arguments)])


def aligned(folder: Path, *more: object, out: str = "x.json") -> int:
    weights = save_compressed_fan(folder / "fan.pth")
    model = ("--model", "compressed_fan", "--aligned", "--weights", weights)
    return run(folder / "in", "--out", folder / out, *model, *more)


def write_pts(path: Path, points: np.ndarray) -> None:
    lines = "\n".join(f"{x} {y}" for x, y in points)
    path.write_text(f"version: 1\nn_points: {len(points)}\n{{\n{lines}\n}}\n")


def test_the_command_offers_every_reader() -> None:
    assert tuple(READERS) == FORMATS


def test_landmarks_of_aligned_faces(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    names = write_images(tmp_path / "in", 3, 48)
    assert aligned(tmp_path, "--overlay", tmp_path / "sheets") == 0
    out = capsys.readouterr().out
    assert out == f"{tmp_path / 'x.json'}: 3 faces of 68 points\n{tmp_path / 'sheets'}: 2 sheets\n"
    landmarks = read_landmarks(tmp_path / "x.json")
    assert landmarks.names == tuple(names)
    assert landmarks.boxes is None
    assert landmarks.points.min() >= -0.5
    assert (tmp_path / "sheets/lowest_scores.png").is_file()


def test_landmarks_of_photos_go_into_restore(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2, 160, 200)
    weights = save_compressed_fan(tmp_path / "fan.pth")
    detector = ("--detector", "mobile0.25", "--detector-weights", save_detector(tmp_path / "detector.pth"))
    out = tmp_path / "x.npz"
    assert run(tmp_path / "in", "--out", out, "--model", "compressed_fan", "--weights", weights, *detector) == 0
    landmarks = read_landmarks(out)
    assert len(landmarks.names) > 2
    assert landmarks.boxes.shape == (len(landmarks.names), 4)
    assert sum(map(len, read_faces(out).values())) == len(landmarks.names)
    more = ("--only-largest", "--overwrite")
    assert run(tmp_path / "in", "--out", out, "--model", "compressed_fan", "--weights", weights, *detector, *more) == 0
    assert len(read_landmarks(out).rows_by_key()) == 2


def test_side_changes_what_the_network_sees(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_images(tmp_path / "in", 1, 48)
    assert aligned(tmp_path) == aligned(tmp_path, "--side", 24, out="y.json") == 0
    first, second = (read_landmarks(tmp_path / name).points for name in ("x.json", "y.json"))
    assert not np.array_equal(first, second)
    assert run(tmp_path / "in", "--out", tmp_path / "z.json", "--model", "fan98", "--aligned", "--side", 64) == 2
    assert "fan98 takes faces of 256 pixels only, got --side 64" in capsys.readouterr().err


def test_jasrnet_finds_the_landmarks_of_small_faces(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_images(tmp_path / "in", 2, 30)
    command = (tmp_path / "in", "--model", "jasrnet", "--aligned", "--out")
    weights = ("--weights", save_tiny_jasrnet(tmp_path / "w.pth", 19))
    assert (
        run(*command, tmp_path / "x.json", *weights) == run(*command, tmp_path / "y.json", *weights, "--side", 30) == 0
    )
    reduced, direct = (read_landmarks(tmp_path / name) for name in ("x.json", "y.json"))
    assert reduced.points.shape == direct.points.shape == (2, 19, 2)
    assert not np.array_equal(reduced.points, direct.points)
    assert ((direct.points >= -0.5) & (direct.points <= 29.5)).all()
    assert run(*command, tmp_path / "z.json") == 2
    assert "jasrnet has no published weights" in capsys.readouterr().err


def test_images_that_were_left_out_end_with_1(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_images(tmp_path / "in", 2)
    os.truncate(tmp_path / "in/face_01.png", 99)
    assert aligned(tmp_path) == 1
    error = capsys.readouterr().err
    assert "skipped face_01.png: face_01.png is damaged" in error
    assert f"1 images were left out, all listed in {tmp_path / 'x.json'}.skipped.txt" in error


@pytest.mark.parametrize(("form", "out"), [("pts", "x.json"), ("pts", "x.npz"), ("dic", "x.npz")])
def test_landmarks_of_another_program(tmp_path: Path, capsys: pytest.CaptureFixture, form: str, out: str) -> None:
    write_images(tmp_path / "in/faces", 2)
    points = np.random.default_rng(0).uniform(0, 31, (2, 68, 2)).round(3)
    source = tmp_path / "a.pkl" if form == "dic" else tmp_path / "points"
    if form == "dic":
        source.write_bytes(pickle.dumps({f"face_0{i}.jpg": points[i] for i in range(2)}))
    else:
        source.mkdir()
        for i in range(2):
            write_pts(source / f"face_0{i}.pts", points[i])
    images = ("--images", tmp_path / "in", "--overlay", tmp_path / "sheets")
    assert run(source, "--from", form, "--out", tmp_path / out, *images) == 0
    assert f"{tmp_path / out}: 2 faces of 68 points" in capsys.readouterr().out
    landmarks = read_landmarks(tmp_path / out)
    assert landmarks.names == ("face_00.png", "face_01.png")
    assert landmarks.image_size.tolist() == [[32, 32]] * 2
    assert np.allclose(landmarks.points, points, atol=1e-4)
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["sheet_000.png"]


def test_landmarks_outside_their_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_images(tmp_path / "in", 1)
    write_pts(tmp_path / "face_00.pts", np.full((68, 2), 100))
    command = (tmp_path / "face_00.pts", "--from", "pts", "--out", tmp_path / "x.json", "--images", tmp_path / "in")
    assert run(*command) == 2
    assert "landmarks of face_00.png must lie in its image of 32 x 32 pixels" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
    (tmp_path / "in/face_00.png").rename(tmp_path / "in/other.png")
    assert run(*command) == 2
    assert "landmarks name 1 images that are not there: face_00. Correct --images." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--from", "pts", "--aligned"), "--from reads landmarks and finds none, got --aligned. Leave it out."),
        (("--from", "pts", "--overlay", "o"), "--overlay draws on images, got landmarks alone"),
        (("--model", "fan98", "--images", "i"), "--model takes the images as IN, got --images"),
        (("--model", "fan98", "--aligned", "--only-largest"), "nothing is detected with --aligned, got --only-largest"),
        (("--model", "compressed_fan", "--side", "64"), "the faces of photos are framed as the model wants them"),
        (("--from", "pts"), "landmarks none do not exist"),
        (("--model", "fan98", "--aligned", "--weights", "w.pth"), "weights must be an existing file, got 'w.pth'"),
    ],
)
def test_wrong_usage_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: tuple, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("none", "--out", "x.json", *arguments) == 2
    assert text in capsys.readouterr().err


def test_output_is_checked_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_images(tmp_path / "in", 1)
    assert aligned(tmp_path, out="x.txt") == 2
    assert "must end with .npz or .json" in capsys.readouterr().err
    assert aligned(tmp_path) == 0
    assert aligned(tmp_path) == 2
    assert "x.json exists. Replace it with --overwrite" in capsys.readouterr().err
    write_pts(tmp_path / "a.pts", np.zeros((5, 2)))
    assert run(tmp_path / "a.pts", "--from", "pts", "--out", tmp_path / "x.json") == 2
    assert "x.json exists. Replace it with --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("--model", "fan98", "--from", "pts"), ("--model", "dlib")])
def test_the_way_must_be_named(tmp_path: Path, arguments: tuple) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, "--out", tmp_path / "x.json", *arguments)
    assert stopped.value.code == 2
