import numpy as np
import pytest

from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.data.lmdb_store import LmdbReader
from facesr_plugin.data.prepare_synthetic import prepare_synthetic
from facesr_plugin.data.synthetic import generate_face
from facesr_plugin.utils.imageio import decode_rgb, read_image


def interrupt(*_):
    raise KeyboardInterrupt


def draw(out, num=3, **options):
    return prepare_synthetic(out, num, 32, **{"workers": 0, **options})


def test_prepare_synthetic_writes_a_folder(tmp_path):
    (report,) = draw(tmp_path / "x", seed=0)
    assert report.stored == 3
    landmarks = read_landmarks(tmp_path / "x/landmarks.npz")
    assert landmarks.names == tuple(f"synthetic_{i:06d}.png" for i in range(3))
    image, points = generate_face(2, 32)
    assert np.array_equal(read_image(tmp_path / "x/synthetic_000002.png"), image)
    assert np.array_equal(landmarks.points[2], points)


def test_prepare_synthetic_writes_an_lmdb_with_landmarks(tmp_path):
    draw(tmp_path / "x.lmdb")
    reader = LmdbReader(tmp_path / "x.lmdb")
    image, points = generate_face(1, 32)
    assert np.array_equal(decode_rgb(reader.get("synthetic_000001"), "1"), image)
    landmarks = read_landmarks(tmp_path / "x.lmdb/landmarks.npz")
    assert np.array_equal(landmarks.points[landmarks.rows_by_key()["synthetic_000001"]], points)


@pytest.mark.parametrize(("out", "names"), [("x", ["x/train", "x/val"]), ("x.lmdb", ["x_train.lmdb", "x_val.lmdb"])])
def test_prepare_synthetic_splits_without_a_shared_face(tmp_path, out, names):
    reports = draw(tmp_path / out, 2, val=1)
    assert [(report.path, report.stored) for report in reports] == [(tmp_path / names[0], 2), (tmp_path / names[1], 1)]
    points = [read_landmarks(tmp_path / name / "landmarks.npz").points[0] for name in names]
    assert not np.allclose(*points)


@pytest.mark.parametrize("out", ["x", "x.lmdb"])
def test_prepare_synthetic_continues(tmp_path, out, monkeypatch):
    draw(tmp_path / f"whole_{out}", 5)
    target = "facesr_plugin.data.prepare_synthetic.write_landmarks"
    monkeypatch.setattr(target, interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / out, 5)
    monkeypatch.undo()
    monkeypatch.setattr("facesr_plugin.data.prepare_synthetic.generate_face", None)
    draw(tmp_path / out, 5)
    draw(tmp_path / out, 5)
    whole, again = (read_landmarks(tmp_path / name / "landmarks.npz") for name in (f"whole_{out}", out))
    assert again.names == whole.names
    assert np.array_equal(again.points, whole.points)


def test_prepare_synthetic_refuses_a_folder_with_other_things(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/mine.png").write_bytes(b"")
    with pytest.raises(FileExistsError, match="exists and holds something else. Choose another output"):
        draw(tmp_path / "x", overwrite=True)


def test_prepare_synthetic_overwrites_another_run(tmp_path):
    draw(tmp_path / "x", 3)
    with pytest.raises(FileExistsError, match="holds something else.*--overwrite"):
        draw(tmp_path / "x", 2)
    draw(tmp_path / "x", 2, seed=5, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "x").glob("*.png")) == [
        "synthetic_000000.png",
        "synthetic_000001.png",
    ]


def test_prepare_synthetic_rejects_sizes_it_cannot_draw(tmp_path):
    with pytest.raises(ValueError, match="size must be from 32 to 1024, got 20"):
        prepare_synthetic(tmp_path / "x", 1, 20, workers=0)
    assert not (tmp_path / "x").exists()
