import io
import json

import numpy as np
import pytest

from facesr_plugin.data.annotations import Landmarks, check_layout, read_landmarks, write_landmarks
from helpers.docs import code_blocks


def make(count: int = 3, num_points: int = 5, **more) -> Landmarks:
    points = np.random.default_rng(0).uniform(0, 100, (count, num_points, 2)).astype(np.float32)
    return Landmarks(tuple(f"face.{i}.png" for i in range(count)), points, **more)


@pytest.mark.parametrize("name", ["a.npz", "a.json"])
def test_landmarks_survive_a_file(tmp_path, name):
    written = make(
        visible=np.array([[True] * 5, [False] * 5, [True] * 5]),
        boxes=np.arange(12, dtype=np.float32).reshape(3, 4),
        score=np.array([0.5, 0.25, 1], dtype=np.float32),
        image_size=np.full((3, 2), 128),
        face=np.array([0, 2, 1]),
    )
    written.points[1, 3] = np.nan  # unknown
    write_landmarks(tmp_path / name, written)
    read = read_landmarks(tmp_path / name)
    assert read.names == written.names
    for field in ("points", "visible", "boxes", "score", "image_size", "face"):
        assert np.array_equal(getattr(read, field), getattr(written, field), equal_nan=True)
        assert getattr(read, field).dtype == getattr(written, field).dtype


def test_read_landmarks_ignores_other_arrays(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        names=np.array(["a.png", "b.png"]),
        points=np.zeros((2, 68, 2), np.float64),
        kind=np.array(["auto", "dataset"]),
        points_auto=np.zeros((9, 1)),
        odd=np.array([object()]),
    )
    read = read_landmarks(tmp_path / "a.npz")
    assert read.points.dtype == np.float32
    assert read.visible is None


def test_landmarks_join_images_by_stem():
    assert make(2).rows_by_key() == {"face%2E0": 0, "face%2E1": 1}


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"names": np.array(["a"])}, "it lacks the array 'points'"),
        ({"points": np.zeros((1, 5, 2))}, "it lacks the array 'names'"),
        (
            {"names": np.array(["a"]), "points": np.zeros((2, 5, 2))},
            r"shape \(N, K, 2\) with N = 1 names, got \(2, 5, 2\)",
        ),
        ({"names": np.array(["a"]), "points": np.full((1, 5, 2), np.nan)}, "points must be finite"),
        ({"names": np.array(["a"]), "points": np.array([[["x", "y"]]])}, "points must be numbers"),
        ({"names": np.arange(1), "points": np.zeros((1, 5, 2))}, "names must be text"),
        ({"names": np.array(["a.png", "a.jpg"]), "points": np.zeros((2, 5, 2))}, "names must have different stems"),
        (
            {"names": np.array(["a"]), "points": np.zeros((1, 5, 2)), "boxes": np.zeros((1, 5))},
            r"boxes must have shape \(1, 4\), got \(1, 5\)",
        ),
        ({"names": np.array([{}], dtype=object), "points": np.zeros((1, 5, 2))}, "allow_pickle"),
    ],
)
def test_read_landmarks_rejects_wrong_files(tmp_path, arrays, text):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=rf"landmark file .*a\.npz must be an npz .*{text}"):
        read_landmarks(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"text"])
def test_read_landmarks_rejects_what_is_no_npz(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"landmark file .*a\.npz must be an npz .*: it is none, or damaged$"):
        read_landmarks(tmp_path / "a.npz")


def test_read_landmarks_rejects_a_single_array_and_a_cut_file(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"must be an npz .*: it is none, or damaged$"):
        read_landmarks(tmp_path / "a.npz")
    write_landmarks(tmp_path / "b.npz", make())
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"must be an npz .*: it is none, or damaged$"):
        read_landmarks(tmp_path / "b.npz")


def test_read_landmarks_says_that_the_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"landmark file .*none\.npz does not exist"):
        read_landmarks(tmp_path / "none.npz")


def test_landmarks_may_be_unknown_where_they_are_not_visible():
    points = np.zeros((1, 2, 2), np.float32)
    points[0, 1] = np.nan
    assert Landmarks(("a",), points, visible=np.array([[True, False]])).num_points == 2


def test_write_landmarks_wants_the_extension(tmp_path):
    with pytest.raises(ValueError, match=r"must end with \.npz or \.json, got .*a\.txt"):
        write_landmarks(tmp_path / "a.txt", make())


@pytest.mark.parametrize("name", ["a.npz", "a.json"])
def test_landmarks_of_no_face_keep_their_layout(tmp_path, name):
    write_landmarks(tmp_path / name, make(0, 98))
    assert read_landmarks(tmp_path / name).points.shape == (0, 98, 2)


def test_landmark_json_is_one_readable_line_per_face(tmp_path):
    points = np.array([[[1.1, 2], [3, 4.25]]], np.float32)
    write_landmarks(tmp_path / "a.json", Landmarks(("a.png",), points, score=np.array([0.5], np.float32)))
    assert (tmp_path / "a.json").read_text() == (
        '{"format": "facesr-landmarks", "version": 1, "num_points": 2, "faces": [\n'
        '{"name": "a.png", "points": [[1.1, 2.0], [3.0, 4.25]], "score": 0.5}\n]}\n'
    )


FACE = {"name": "a.png", "points": [[1, 2], [3, 4]]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": "coco"}, "its format is not 'facesr-landmarks'"),
        ({"version": 2}, r"its version must be 1, got 2\. Update facesr-plugin"),
        ({"faces": 3}, "it lacks num_points or faces"),
        ({"num_points": None}, "it lacks num_points or faces"),
        ({"faces": [{"name": "a.png"}]}, "face 0 lacks name or points"),
        ({"num_points": 68}, r"face 0 \(a\.png\) must have 68 points, got 2"),
        ({"faces": [{**FACE, "score": 1}, {**FACE, "name": "b"}]}, "must all have 'score' or none, got it in 1 of 2"),
        ({"faces": [{**FACE, "points": [[1, 2], [3]]}]}, "inhomogeneous"),
        ({"faces": [{**FACE, "points": [[1, None], [3, 4]]}]}, "points must be finite where they are visible"),
        ({"faces": [{**FACE, "points": [[1, float("nan")], [3, 4]]}]}, "it holds NaN, which JSON has not"),
        ({"faces": [{**FACE, "face": "x"}]}, "face must be numbers"),
    ],
)
def test_read_landmarks_rejects_wrong_json(tmp_path, change, text):
    content = {"format": "facesr-landmarks", "version": 1, "num_points": 2, "faces": [FACE], **change}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"landmark file .*a\.json must be JSON with format .*{text}"):
        read_landmarks(tmp_path / "a.json")


@pytest.mark.parametrize("content", ["", "[1]", '{"format": "facesr-', "[" * 100_000])
def test_read_landmarks_rejects_damaged_json(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"landmark file .*a\.json must be JSON"):
        read_landmarks(tmp_path / "a.json")


def test_landmarks_may_have_several_faces_of_an_image():
    points = np.zeros((2, 5, 2), np.float32)
    landmarks = Landmarks(("a.png", "a.png"), points, face=np.array([0, 1]))
    with pytest.raises(ValueError, match=r"must be of one face per image here, got 2 of a\.png\. .* --only-largest"):
        landmarks.rows_by_key()
    with pytest.raises(ValueError, match=r"faces of an image must differ in number, got 'a\.png' twice"):
        Landmarks(("a.png", "a.png"), points, face=np.array([1, 1]))


def test_landmarks_outside_their_image_are_refused():
    points = np.full((1, 5, 2), 100, np.float32)
    size = np.array([[60, 120]])
    with pytest.raises(ValueError, match=r"of a\.png must lie in its image of 120 x 60 pixels.*about \(100, 100\)"):
        Landmarks(("a.png",), points, image_size=size)
    points[0, :3, 1] = 59.5
    assert Landmarks(("a.png",), points, image_size=size).num_points == 5


@pytest.mark.parametrize(
    ("num_points", "text"), [(29, r"5 \(eyes, .*194 \(Helen\) points, got 29"), (5, r"68 \(iBUG/300-W\)")]
)
def test_check_layout_names_what_is_known(num_points, text):
    with pytest.raises(ValueError, match=text):
        check_layout(num_points, *([(68,)] if num_points == 5 else []))


def test_the_documented_json_can_be_read(tmp_path):
    (tmp_path / "a.json").write_text(code_blocks("docs/landmarks.md", "Format")["json"])
    read = read_landmarks(tmp_path / "a.json")
    assert read.names == ("a.png",)
    assert read.points[0, 1].tolist() == [66, 47.5]


def test_read_landmarks_refuses_npz_bombs(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", names=np.array(["a"]), points=np.zeros((1, 2**24 + 2**21, 2), np.float32))
    with pytest.raises(ValueError, match=r"x\.npz must be .* declare \d+ bytes, far more than the file can hold"):
        read_landmarks(tmp_path / "x.npz")


def test_read_landmarks_says_what_is_wrong_in_one_short_line(tmp_path):
    (tmp_path / "x.json").write_text('{"format": "facesr-landmarks", "version": [' + ", ".join("0" * 5000) + "]}")
    with pytest.raises(ValueError, match="its version must be 1, got") as caught:
        read_landmarks(tmp_path / "x.json")
    assert len(str(caught.value)) < 600
