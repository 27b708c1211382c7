import io

import numpy as np
import pytest

from facesr_plugin.data.annotations import Landmarks, read_landmarks, write_landmarks


def make(count: int = 3, num_points: int = 5, **more) -> Landmarks:
    points = np.random.default_rng(0).uniform(0, 100, (count, num_points, 2)).astype(np.float32)
    return Landmarks(tuple(f"face.{i}.png" for i in range(count)), points, **more)


def test_landmarks_survive_a_file(tmp_path):
    written = make(
        visible=np.array([[True] * 5, [False] * 5, [True] * 5]),
        boxes=np.arange(12, dtype=np.float32).reshape(3, 4),
        score=np.array([0.5, 0.25, 1], dtype=np.float32),
        image_size=np.full((3, 2), 128),
    )
    write_landmarks(tmp_path / "a.npz", written)
    read = read_landmarks(tmp_path / "a.npz")
    assert read.names == written.names
    for name in ("points", "visible", "boxes", "score", "image_size"):
        assert np.array_equal(getattr(read, name), getattr(written, name))
        assert getattr(read, name).dtype == getattr(written, name).dtype


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
    with pytest.raises(ValueError, match=r"landmark file .*a\.npz must be an npz"):
        read_landmarks(tmp_path / "a.npz")


def test_read_landmarks_rejects_a_single_array_and_a_cut_file(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="it is a single array"):
        read_landmarks(tmp_path / "a.npz")
    write_landmarks(tmp_path / "b.npz", make())
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:300])
    with pytest.raises(ValueError, match="must be an npz"):
        read_landmarks(tmp_path / "b.npz")


def test_read_landmarks_says_that_the_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"landmark file .*none\.npz does not exist"):
        read_landmarks(tmp_path / "none.npz")


def test_landmarks_may_be_unknown_where_they_are_not_visible():
    points = np.zeros((1, 2, 2), np.float32)
    points[0, 1] = np.nan
    assert Landmarks(("a",), points, visible=np.array([[True, False]])).num_points == 2


def test_write_landmarks_wants_the_extension(tmp_path):
    with pytest.raises(ValueError, match=r"must end with \.npz"):
        write_landmarks(tmp_path / "a.txt", make())
