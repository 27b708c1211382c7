import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesr_plugin.data.annotations import Landmarks, read_landmarks, write_landmarks
from facesr_plugin.data.lmdb_store import LmdbReader
from facesr_plugin.data.prepare import FaceRecipe, prepare_faces
from facesr_plugin.utils.imageio import decode_rgb
from helpers.faces import make_image, write_images


def prepare(source, out, *, size=32, crop="none", **options):
    return prepare_faces(source, out, FaceRecipe(size, crop), **{"workers": 0, **options})


def content_of(path) -> dict[str, bytes]:
    reader = LmdbReader(path)
    return {key: reader.get(key) for key in reader.keys}


def interrupt(*_):
    raise KeyboardInterrupt


def files_of(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in ("meta_info.txt", "prepare.json")}


def test_prepare_faces_keeps_faces_of_the_right_size(tmp_path):
    write_images(tmp_path / "in", 3)
    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb")
    assert (report.stored, report.skipped) == (3, [])
    content = content_of(tmp_path / "x.lmdb")
    assert np.array_equal(decode_rgb(content["face_02"], "face_02"), make_image(2))


@pytest.mark.parametrize("extension", ["jpg", "webp", "png"])
def test_prepare_faces_reads_every_format_and_resizes(tmp_path, extension):
    (tmp_path / "in").mkdir()
    Image.fromarray(make_image(0, 64)).save(tmp_path / f"in/a.b.{extension}")
    prepare(tmp_path / "in", tmp_path / "x.lmdb")
    decoded = np.asarray(Image.open(tmp_path / f"in/a.b.{extension}").convert("RGB"))
    expected = np.asarray(Image.fromarray(decoded).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(decode_rgb(content_of(tmp_path / "x.lmdb")["a%2Eb"], "a"), expected)


def test_prepare_faces_gives_the_same_with_any_number_of_workers(tmp_path):
    write_images(tmp_path / "in", 40)
    for workers in (0, 1, 3):
        prepare(tmp_path / "in", tmp_path / f"{workers}.lmdb", workers=workers)
    assert content_of(tmp_path / "0.lmdb") == content_of(tmp_path / "1.lmdb") == content_of(tmp_path / "3.lmdb")


def test_prepare_faces_lists_what_it_cannot_use(tmp_path):
    write_images(tmp_path / "in", 3)
    os.truncate(tmp_path / "in/face_01.png", 100)
    (tmp_path / "in/text.png").write_text("no image")
    Image.fromarray(make_image(9, 30, 40)).save(tmp_path / "in/wide.png")
    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb")
    assert [name for name, _ in report.skipped] == ["face_01.png", "text.png", "wide.png"]
    lines = (tmp_path / "x.lmdb/skipped.txt").read_text().splitlines()
    assert lines[2] == "wide.png\timage must be square, got 40 x 30 pixels. Choose a --crop."
    assert sorted(content_of(tmp_path / "x.lmdb")) == ["face_00", "face_02"]
    (again,) = prepare(tmp_path / "in", tmp_path / "x.lmdb")
    assert again == report


def test_prepare_faces_says_that_nothing_can_be_used(tmp_path):
    write_images(tmp_path / "in", 2, 30, 40)
    with pytest.raises(
        ValueError, match=r"none of 2 images can be used\. The first: face_00\.png: image must be square"
    ):
        prepare(tmp_path / "in", tmp_path / "x.lmdb")
    assert not (tmp_path / "x.lmdb").exists()


def test_prepare_faces_splits_by_lists(tmp_path):
    write_images(tmp_path / "in", 5)
    (tmp_path / "train.txt").write_text("face_03.jpg\nface_00.png\n")
    (tmp_path / "val.txt").write_text("face_04.png\n")
    lists = {"train_list": tmp_path / "train.txt", "val_list": tmp_path / "val.txt"}
    reports = prepare(tmp_path / "in", tmp_path / "x.lmdb", **lists)
    assert [(report.path.name, report.stored) for report in reports] == [("x_train.lmdb", 2), ("x_val.lmdb", 1)]
    assert sorted(content_of(tmp_path / "x_train.lmdb")) == ["face_00", "face_03"]
    assert not (tmp_path / "x.lmdb").exists()


def test_prepare_faces_rejects_lists_that_share_images(tmp_path):
    write_images(tmp_path / "in", 2)
    (tmp_path / "list.txt").write_text("face_00.png\n")
    lists = {"train_list": tmp_path / "list.txt", "val_list": tmp_path / "list.txt"}
    with pytest.raises(ValueError, match=r"must not share images, got 1: face_00"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", **lists)


def test_prepare_faces_continues_an_interrupted_run(tmp_path, monkeypatch):
    write_images(tmp_path / "in", 40)
    os.truncate(tmp_path / "in/face_02.png", 100)
    prepare(tmp_path / "in", tmp_path / "whole.lmdb")
    monkeypatch.setattr("facesr_plugin.data.lmdb_store.LmdbWriter.finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "in", tmp_path / "x.lmdb")
    monkeypatch.undo()
    made = []
    monkeypatch.setattr("facesr_plugin.data.prepare.cut", lambda *_: made.append(1))
    prepare(tmp_path / "in", tmp_path / "x.lmdb")
    assert not made
    assert content_of(tmp_path / "x.lmdb") == content_of(tmp_path / "whole.lmdb")
    assert files_of(tmp_path / "x.lmdb") == files_of(tmp_path / "whole.lmdb")
    assert (tmp_path / "x.lmdb/skipped.txt").read_text() == (tmp_path / "whole.lmdb/skipped.txt").read_text()


def test_prepare_faces_refuses_other_settings_without_overwrite(tmp_path):
    write_images(tmp_path / "in", 2)
    prepare(tmp_path / "in", tmp_path / "x.lmdb")
    with pytest.raises(FileExistsError, match=r"holds a finished run with other settings \(size 32, now 16\)"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", size=16)
    prepare(tmp_path / "in", tmp_path / "x.lmdb", size=16, overwrite=True)
    assert LmdbReader(tmp_path / "x.lmdb").entries[0].shape == (16, 16, 3)


def test_prepare_faces_crops_boxes_and_moves_the_points(tmp_path):
    names = write_images(tmp_path / "in", 3, 60, 80)
    points = np.random.default_rng(0).uniform(15, 40, (2, 5, 2)).astype(np.float32)
    write_landmarks(tmp_path / "points.npz", Landmarks(tuple(names[:2]), points, score=np.array([0.5, 1.0])))
    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb", crop="box:0.25", landmarks=tmp_path / "points.npz")
    assert report.skipped == [("face_02.png", "image has no landmarks, which the crop box needs")]
    own = read_landmarks(tmp_path / "x.lmdb/landmarks.npz")
    assert own.names == ("face_00", "face_01")
    assert own.score.tolist() == [0.5, 1.0]
    spans = np.ptp(own.points, axis=1).max(-1)
    assert np.allclose(spans, 32 / 1.5, atol=1.5)  # the longer side of the box fills 1 / (1 + 2 * 0.25)


def test_prepare_faces_scales_points_with_the_faces(tmp_path):
    names = write_images(tmp_path / "in", 2, 64)
    points = np.random.default_rng(0).uniform(0, 63, (2, 68, 2)).astype(np.float32)
    write_landmarks(tmp_path / "points.npz", Landmarks(tuple(names), points))
    prepare(tmp_path / "in", tmp_path / "x.lmdb", landmarks=tmp_path / "points.npz")
    own = read_landmarks(tmp_path / "x.lmdb/landmarks.npz")
    assert np.allclose(own.points, (points + 0.5) / 2 - 0.5, atol=1e-5)


def test_prepare_faces_rejects_points_of_other_images(tmp_path):
    write_images(tmp_path / "in", 1)
    write_landmarks(tmp_path / "points.npz", Landmarks(("other.png",), np.zeros((1, 5, 2), np.float32)))
    with pytest.raises(ValueError, match="the landmark file has none of the 1 images"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", landmarks=tmp_path / "points.npz")


def test_prepare_faces_needs_points_for_boxes(tmp_path):
    write_images(tmp_path / "in", 1)
    with pytest.raises(ValueError, match="crop box:MARGIN needs --landmarks"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", crop="box:0.1")
    with pytest.raises(ValueError, match="crop dic needs --landmarks with the faces' boxes"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", crop="dic")


def test_prepare_faces_slices_dics_boxes_and_keeps_their_sides(tmp_path):
    names = write_images(tmp_path / "in", 4, 60, 80)
    boxes = np.array([(10, 5, 50, 45), (3, 7, 27, 31), (30, 30, 70, 70), (5, 5, 15, 15)], np.float32)
    points = np.tile(np.float32([20, 21]), (4, 5, 1))
    points[2:] = boxes[2:, None, :2]
    write_landmarks(tmp_path / "points.npz", Landmarks(tuple(names), points, boxes=boxes))
    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb", size=None, crop="dic", landmarks=tmp_path / "points.npz")
    assert [name for name, _ in report.skipped] == ["face_02.png", "face_03.png"]
    assert report.skipped[1][1] == "side of the face must be from 16 to 4096, got 10"
    reader = LmdbReader(tmp_path / "x.lmdb")
    assert [entry.shape for entry in reader.entries] == [(40, 40, 3), (24, 24, 3)]
    assert np.array_equal(decode_rgb(reader.get("face_01"), "face_01"), make_image(1, 60, 80)[7:31, 3:27])
    assert np.allclose(read_landmarks(tmp_path / "x.lmdb/landmarks.npz").points[:, 0], [(10, 16), (17, 14)])


@pytest.mark.parametrize(("size", "crop"), [(8, "none"), (5000, "none"), (128, "celeba")])
def test_face_recipe_rejects_wrong_values(size, crop):
    with pytest.raises(ValueError, match="size must be from 16 to 4096|crop must be one of"):
        FaceRecipe(size, crop)


def test_prepare_faces_writes_nothing_outside_for_names_from_a_zip(tmp_path):
    write_images(tmp_path / "in", 1)
    data = (tmp_path / "in/face_00.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("../out.png", "a/../../b.png", "/abs.png", "good.png"):
            archive.writestr(name, data)
    before = set(tmp_path.rglob("*"))
    prepare(tmp_path / "x.zip", tmp_path / "x.lmdb")
    assert {path.parent.name for path in set(tmp_path.rglob("*")) - before} <= {"x.lmdb", tmp_path.name}
    assert not (tmp_path.parent / "out.png").exists()
    assert sorted(content_of(tmp_path / "x.lmdb")) == ["%2Fabs", "good"]


def test_prepare_faces_refuses_several_faces_of_an_image_before_it_writes(tmp_path):
    (name,) = write_images(tmp_path / "in", 1)
    several = Landmarks((name, name), np.zeros((2, 5, 2), np.float32), face=np.array([0, 1]))
    write_landmarks(tmp_path / "points.json", several)
    with pytest.raises(ValueError, match="must be of one face per image here, got 2 of face_00"):
        prepare_faces(tmp_path / "in", tmp_path / "x.lmdb", FaceRecipe(), landmarks=tmp_path / "points.json", workers=0)
    assert not (tmp_path / "x.lmdb").exists()
