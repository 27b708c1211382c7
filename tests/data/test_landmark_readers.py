import os
import pickle

import numpy as np
import pytest

from facesr_plugin.data.landmark_readers import READERS, read_foreign

POINTS = np.random.default_rng(0).uniform(0, 99, (98, 2)).round(2)


def pts(points=POINTS[:68], declared: int | None = None) -> str:
    lines = "\n".join(f"{x}  {y} " for x, y in points)
    return f"version: 1\nn_points:  {declared or len(points)}\n{{\n{lines}\n}}\n"


def write(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_read_pts_takes_one_file(tmp_path):
    read = read_foreign("pts", write(tmp_path / "a.b.pts", pts()))
    assert read.names == ("a.b",)
    assert np.allclose(read.points[0], POINTS[:68], atol=1e-4)
    assert read.visible is read.boxes is read.face is None


def test_read_pts_takes_a_folder_and_finds_the_images(tmp_path):
    for name in ("x/a", "y/b"):
        write(tmp_path / f"{name}.pts", pts())
    write(tmp_path / "y/b.jpg", "")
    assert read_foreign("pts", tmp_path).names == ("x/a", "y/b.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.pts must be a \.pts file: n_points: N"),
        (pts()[:-3], r"a\.pts must be a \.pts file"),
        (pts(declared=67), r"a\.pts must have 67 points, as it says, got 68"),
        (pts(POINTS[:29]), r"a face must have .*194 \(Helen\) points, got 29"),
        (pts().replace("{\n", "{\n1 2 3\n"), r"a\.pts must have 2 numbers a line, got '1 2 3'"),
        (pts().replace("{\n", "{\n1 x\n"), r"a\.pts: could not convert string to float: 'x'"),
        (pts().replace("{\n", "{\n1 nan\n"), r"a\.pts: coordinates must be finite"),
    ],
)
def test_read_pts_tells_what_is_wrong(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_foreign("pts", write(tmp_path / "a.pts", text))


def test_read_pts_wants_one_layout(tmp_path):
    write(tmp_path / "a.pts", pts())
    write(tmp_path / "b.pts", pts(POINTS[:5]))
    with pytest.raises(ValueError, match="must hold faces of one number of points, got 1 of 68 points, 1 of 5 points"):
        read_foreign("pts", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty must hold \.pts files, got none"):
        read_foreign("pts", tmp_path / "empty")


def test_read_300w_takes_a_list_with_boxes(tmp_path):
    write(tmp_path / "points/a.pts", pts())
    path = write(
        tmp_path / "300w.txt",
        "/far/300W/helen/a.jpg points/a.pts 1 2 3.5 4\n\n/far/300W/b.jpg points/a.pts 5 6 7 8 77.0",
    )
    read = read_foreign("300w", path)
    assert read.names == ("helen/a.jpg", "b.jpg")
    assert read.boxes.tolist() == [[1, 2, 3.5, 4], [5, 6, 7, 8]]
    assert np.allclose(read.points[1], POINTS[:68], atol=1e-4)


def test_read_300w_names_the_line(tmp_path):
    path = write(tmp_path / "300w.txt", "a.jpg a.pts 1 2 3 4\n")
    with pytest.raises(FileNotFoundError, match=r"300w\.txt, line 1: annotation .*a\.pts does not exist"):
        read_foreign("300w", path)
    write(tmp_path / "a.pts", pts())
    write(path, "a.jpg a.pts 1 2 3 4\nb.jpg 2")
    with pytest.raises(ValueError, match=r"line 2: must be image annotation x1 y1 x2 y2 \[size\], got 2 words"):
        read_foreign("300w", path)


def test_read_aflw_takes_flags_of_both_kinds(tmp_path):
    write(tmp_path / "words.pts", "1 10.5 20 True\n19 30 40 True\n2 0 0 False\n")
    write(tmp_path / "numbers.pts", "0 10.5 20 1\n18 30 40 1\n1 0 0 0\n")
    read = read_foreign("aflw", tmp_path)
    assert read.names == ("numbers", "words")
    assert read.points[:, [0, 18]].tolist() == [[[10.5, 20], [30, 40]]] * 2
    assert np.array_equal(np.flatnonzero(read.visible[0]), [0, 18])
    assert np.array_equal(read.visible[0], read.visible[1])


def test_read_aflw_takes_boxes_beside_the_points(tmp_path):
    write(tmp_path / "a.pts", "0 1 2 1\n")
    write(tmp_path / "a_bb.txt", "1 2 3 4\n")
    assert read_foreign("aflw", tmp_path).boxes.tolist() == [[1, 2, 3, 4]]
    write(tmp_path / "b.pts", "0 1 2 1\n")
    with pytest.raises(ValueError, match="must have a box for all faces or none, 1 of 2 have none"):
        read_foreign("aflw", tmp_path)
    write(tmp_path / "a_bb.txt", "1 2 3")
    with pytest.raises(ValueError, match=r"a_bb\.txt must hold x1 y1 x2 y2, got 3 numbers"):
        read_foreign("aflw", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 2 1\n19 1 2 1", r"a\.pts, line 2: index must be one of 19 points, got 19"),
        ("0 1 2 True", r"a\.pts, line 1: index must be one of 19 points, got 0"),
        ("0 1 2", r"a\.pts, line 1: must be index x y flag, got '0 1 2'"),
        ("0 1 2 0", r"a\.pts must have a visible point, got none"),
    ],
)
def test_read_aflw_names_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_foreign("aflw", write(tmp_path / "a.pts", text))


def wflw_line(name: str, more: str = "1 2 3 4 0 0 1 0 0 0 ") -> str:
    return " ".join(f"{value}" for value in POINTS.ravel()) + f" {more}{name}\n"


def test_read_wflw_numbers_the_faces_of_an_image(tmp_path):
    path = write(tmp_path / "list.txt", wflw_line("37/a.jpg") + wflw_line("b.jpg") + wflw_line("37/a.jpg"))
    read = read_foreign("wflw", path)
    assert read.names == ("37/a.jpg", "b.jpg", "37/a.jpg")
    assert read.face.tolist() == [0, 0, 1]
    assert read.boxes.tolist() == [[1, 2, 3, 4]] * 3
    assert np.allclose(read.points[2], POINTS, atol=1e-4)
    assert read_foreign("wflw", write(path, wflw_line("a.jpg", ""))).boxes is None


def test_read_wflw_names_the_line(tmp_path):
    path = write(tmp_path / "list.txt", wflw_line("a.jpg") + "1 2 b.jpg\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 2: must have 197 or 207 words .*, got 3"):
        read_foreign("wflw", path)
    with pytest.raises(ValueError, match=r"list\.txt must have a line per face, got an empty file"):
        read_foreign("wflw", write(path, "\n"))


CELEBA_HEAD = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)
CELEBA_LINE = "000001.jpg    69  109  106  113   77  142   73  152  108  154\n"


@pytest.mark.parametrize(
    "text",
    [
        f"2\n{CELEBA_HEAD}\n{CELEBA_LINE}{CELEBA_LINE.replace('1.jpg', '2.jpg')}",
        f"image_id,{CELEBA_HEAD}\n000001.jpg,{CELEBA_LINE[11:]}\n{CELEBA_LINE}".replace(" ", ",").replace(
            "1.jpg", "2.jpg", 1
        ),
        CELEBA_LINE + CELEBA_LINE.replace("1.jpg", "2.jpg"),
    ],
)
def test_read_celeba_takes_lists_with_and_without_a_head(tmp_path, text):
    read = read_foreign("celeba", write(tmp_path / "list.txt", text))
    assert sorted(read.names) == ["000001.jpg", "000002.jpg"]
    assert read.points.tolist() == [[[69, 109], [106, 113], [77, 142], [73, 152], [108, 154]]] * 2


def test_read_celeba_names_the_line(tmp_path):
    with pytest.raises(ValueError, match=r"list\.txt, line 3: must be image and x y of 5 points, got 3 words"):
        read_foreign("celeba", write(tmp_path / "list.txt", f"1\n{CELEBA_HEAD}\na.jpg 1 2\n"))
    with pytest.raises(ValueError, match=r"line 1: could not convert string to float: 'x'"):
        read_foreign("celeba", write(tmp_path / "list.txt", CELEBA_LINE.replace("69", "x")))


def helen(name: str, count: int = 194) -> str:
    return f"{name}\n" + "".join(f"{x} , {y}\n" for x, y in np.tile(POINTS, (2, 1))[:count])


def test_read_helen_takes_files_that_name_their_image(tmp_path):
    write(tmp_path / "annotation/1.txt", helen("232194_1"))
    write(tmp_path / "annotation/2.txt", helen("1629243832_1\r"))
    read = read_foreign("helen", tmp_path / "annotation")
    assert read.names == ("232194_1", "1629243832_1")
    assert np.allclose(read.points[0], np.tile(POINTS, (2, 1))[:194], atol=1e-4)
    assert read_foreign("helen", tmp_path / "annotation/1.txt").names == ("232194_1",)


def test_read_helen_wants_194_points(tmp_path):
    with pytest.raises(ValueError, match=r"1\.txt must name an image, then have 194 lines x , y, got 68"):
        read_foreign("helen", write(tmp_path / "1.txt", helen("a", 68)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty must hold \.txt files, got none"):
        read_foreign("helen", tmp_path / "empty")


@pytest.mark.parametrize("kind", [np.array, np.ndarray.tolist])
def test_read_dic_takes_training_annotations(tmp_path, kind):
    content = {"b.png": {"landmark": kind(POINTS[:68]), "bbox": (1, 2, np.int64(3), 4)}}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    read = read_foreign("dic", tmp_path / "a.pkl")
    assert read.names == ("b.png",)
    assert np.allclose(read.points[0], POINTS[:68], atol=1e-4)
    assert read.boxes.tolist() == [[1, 2, 3, 4]]


def test_read_dic_takes_evaluation_annotations(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"b.png": POINTS[:68], "a.png": POINTS[1:69]}))
    read = read_foreign("dic", tmp_path / "a.pkl")
    assert read.names == ("b.png", "a.png")
    assert read.boxes is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "must map images to points, got a list"),
        ({}, "must map images to points, got a dict"),
        ({1: POINTS}, "'1': must be the name of an image"),
        ({"a": {"landmark": POINTS}}, "'a': must have landmark and bbox, got landmark"),
        ({"a": {"landmark": POINTS, "bbox": (1, 2, 3)}}, r"'a': must be a box of 4 numbers, finite, got shape \(3,\)"),
        ({"a": np.zeros((68, 3))}, r"'a': must be points \(K, 2\), finite, got shape \(68, 3\)"),
        ({"a": [[1, 2], [3]]}, "'a': must be numbers, got a list"),
        ({"a": "text"}, "'a': must be numbers, got a str"),
        ({"a": np.full((68, 2), np.nan)}, "finite"),
        ({"a": POINTS[:29]}, r"points, got 29"),
    ],
)
def test_read_dic_tells_what_is_wrong(tmp_path, content, message):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_foreign("dic", tmp_path / "a.pkl")


class Call:
    def __reduce__(self):
        return os.system, ("touch CANARY",)


def test_read_dic_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a.png": Call()}))
    with pytest.raises(ValueError, match=r"cannot read .*a\.pkl.*the pickle refers to 'posix\.system'"):
        read_foreign("dic", tmp_path / "a.pkl")
    assert not (tmp_path / "CANARY").exists()


@pytest.mark.parametrize("kind", READERS)
def test_read_foreign_says_that_the_file_is_missing(tmp_path, kind):
    with pytest.raises(FileNotFoundError, match=r"landmarks .*none do not exist"):
        read_foreign(kind, tmp_path / "none")


def test_read_foreign_names_the_kinds(tmp_path):
    with pytest.raises(ValueError, match="kind must be one of pts, dic, 300w, aflw, wflw, celeba, helen, got 'coco'"):
        read_foreign("coco", tmp_path)
