from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from facesr_plugin.data.annotations import Landmarks, read_landmarks, write_landmarks
from facesr_plugin.data.lmdb_store import LmdbReader
from facesr_plugin.data.prepare_ffhq import FFHQRecipe, Search, prepare_ffhq
from facesr_plugin.ops.affine import FFHQ_TEMPLATE, invert, transform
from facesr_plugin.ops.align import crop_face, ffhq_matrix
from facesr_plugin.ops.landmark import five_points
from facesr_plugin.utils.imageio import decode_rgb
from helpers.faces import make_image, write_images

TEMPLATE = np.array(FFHQ_TEMPLATE)
SIZE = 64
IN_FACE = (TEMPLATE + 0.5) * SIZE / 512 - 0.5  # where the template's points lie in a face of SIZE pixels


def prepare(source, out, **options):
    recipe = FFHQRecipe(options.pop("size", SIZE), options.pop("aligned", False), options.pop("encoding", "png"))
    return prepare_ffhq(source, out, recipe, **{"workers": 0, **options})


def place(scale: float, angle: float, shift: tuple[float, float]) -> np.ndarray:
    """Matrix from a face of SIZE pixels to a photo."""
    cosine, sine = scale * np.cos(np.deg2rad(angle)), scale * np.sin(np.deg2rad(angle))
    return np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])


def write_points(path, names, points) -> None:
    write_landmarks(path, Landmarks(tuple(names), np.asarray(points, dtype=np.float32)))


def test_ffhq_matrix_brings_the_points_to_the_template():
    to_photo = place(1.3, 25.0, (40.0, 12.0))
    matrix = ffhq_matrix(transform(IN_FACE, to_photo), SIZE)
    assert np.allclose(matrix, invert(to_photo), atol=1e-6)


def test_ffhq_matrix_takes_68_points():
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = IN_FACE[0], IN_FACE[1]
    points[36, 0] -= 3
    points[39, 0] += 3  # the corners of an eye lie about its centre
    points[[30, 48, 54]] = IN_FACE[2:]
    assert np.allclose(ffhq_matrix(five_points(points), SIZE), ffhq_matrix(IN_FACE, SIZE))


@pytest.mark.parametrize("scale", [0.8, 1.0, 3.0])
def test_align_face_finds_the_face_again(scale):
    to_photo = place(scale, 20.0, (80.0, 15.0))
    y, x = np.mgrid[:300, :300]
    centre = transform(IN_FACE[2], to_photo)
    spot = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * (4 * scale) ** 2))
    photo = np.repeat(spot[..., None], 3, axis=2).astype(np.uint8)
    face = crop_face(photo, invert(to_photo), SIZE)[..., 0].astype(float)
    assert face.shape == (SIZE, SIZE)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    found = np.array([(face * columns).sum(), (face * rows).sum()]) / face.sum()
    assert np.allclose(found, IN_FACE[2], atol=0.1)


def test_align_face_mirrors_beyond_the_photo():
    photo = make_image(0, 40, 40)
    face = crop_face(photo, np.array([[1.0, 0, 12], [0, 1, 10]]), 64)
    rows = np.abs(np.arange(64) - 10)
    columns = np.abs(np.arange(64) - 12)
    rows, columns = np.minimum(rows, 78 - rows), np.minimum(columns, 78 - columns)
    assert np.array_equal(face, photo[rows][:, columns])


def test_align_face_refuses_points_beside_the_photo():
    with pytest.raises(ValueError, match="face must lie in the photo of 40 x 40 pixels, got points about"):
        crop_face(make_image(0, 40, 40), np.array([[1.0, 0, 500], [0, 1, 0]]), 64)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_prepare_ffhq_writes_faces_and_their_points(tmp_path, encoding):
    names = write_images(tmp_path / "in", 2, 120)
    to_photo = place(1.1, -15.0, (15.0, 30.0))
    write_points(tmp_path / "points.npz", names, [transform(IN_FACE, to_photo)] * 2)
    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb", landmarks=tmp_path / "points.npz", encoding=encoding)
    assert (report.stored, report.skipped) == (2, [])
    data = LmdbReader(tmp_path / "x.lmdb").get("face_01")
    assert data[1:4] == {"png": b"PNG", "jpeg": b"\xd8\xff\xe0"}[encoding]
    face = decode_rgb(data, "face")
    assert face.shape == (SIZE, SIZE, 3)
    assert np.allclose(read_landmarks(tmp_path / "x.lmdb/landmarks.npz").points, IN_FACE, atol=1e-3)


def test_prepare_ffhq_resizes_aligned_images_only(tmp_path):
    write_images(tmp_path / "in", 1, 128)
    Image.fromarray(make_image(1, 128, 100)).save(tmp_path / "in/oblong.png")
    Image.fromarray(make_image(1, 32)).save(tmp_path / "in/small.png")
    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb", aligned=True)
    assert [name for name, _ in report.skipped] == ["oblong.png", "small.png"]
    assert report.skipped[1][1] == "aligned image must be square, of 64 pixels or more, got 32 x 32"
    face = decode_rgb(LmdbReader(tmp_path / "x.lmdb").get("face_00"), "face")
    expected = Image.fromarray(make_image(0, 128)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert np.array_equal(face, np.asarray(expected))


def test_prepare_ffhq_makes_both_splits_and_knows_its_own_plan(tmp_path):
    names = write_images(tmp_path / "in", 3, 64)
    (tmp_path / "val.txt").write_text(names[0])
    (tmp_path / "train.txt").write_text("\n".join(names[1:]))
    lists = {"train": tmp_path / "train.txt", "val": tmp_path / "val.txt"}
    for _ in range(2):
        reports = prepare(tmp_path / "in", tmp_path / "x.lmdb", aligned=True, lists=lists, workers=1)
        assert [(report.path.name, report.stored) for report in reports] == [("x_train.lmdb", 2), ("x_val.lmdb", 1)]
    with pytest.raises(FileExistsError, match="size 64, now 32"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", aligned=True, lists=lists, size=32)


def test_prepare_ffhq_leaves_out_images_without_points(tmp_path):
    names = write_images(tmp_path / "in", 2, 100)
    write_points(tmp_path / "points.npz", names[:1], [IN_FACE + 10])
    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb", landmarks=tmp_path / "points.npz")
    assert report.skipped == [("face_01.png", "image has no landmarks")]


def test_prepare_ffhq_says_what_is_missing(tmp_path):
    names = write_images(tmp_path / "in", 1)
    with pytest.raises(ValueError, match=r"photos need landmarks or a search to be aligned by\. Give one, or aligned"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb")
    write_points(tmp_path / "points.npz", names, np.ones((1, 19, 2)))
    with pytest.raises(ValueError, match=r"points\.npz must have 5, 68 or 98 points per face, got 19"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", landmarks=tmp_path / "points.npz")
    with pytest.raises(ValueError, match="size must be from 16 to 4096, got 8"):
        FFHQRecipe(8)


class Found(NamedTuple):
    """A face that a finder found."""

    landmarks: np.ndarray
    size: float


def find_by_colour(photo: np.ndarray) -> list[Found]:
    """As many faces as the first pixel says, the smallest first."""
    number = int(photo[0, 0, 0])
    return [Found(transform(IN_FACE, place(1 + i / 4, 10.0 * i, (20.0, 5.0))), 50.0 + 10 * i) for i in range(number)]


def write_photos(folder, numbers: dict[str, int]) -> None:
    """Write photos in which ``find_by_colour`` finds these numbers of faces."""
    folder.mkdir()
    for seed, (name, number) in enumerate(numbers.items()):
        photo = make_image(seed, 120)
        photo[0, 0] = number
        Image.fromarray(photo).save(folder / name)


def content_of(path) -> dict[str, bytes]:
    reader = LmdbReader(path)
    return {key: reader.get(key) for key in reader.keys}


@pytest.mark.parametrize("workers", [0, 2])
def test_prepare_ffhq_finds_every_face_of_a_photo(tmp_path, workers):
    write_photos(tmp_path / "in", {"a b.png": 3, "c.png": 1, "none.png": 0})
    search = Search(find_by_colour, "fake")
    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb", search=search, workers=workers)
    assert (report.stored, report.skipped) == (4, [("none.png", "photo has no face")])
    assert list(content_of(tmp_path / "x.lmdb")) == ["a%20b_00", "a%20b_01", "a%20b_02", "c_00"]
    own = read_landmarks(tmp_path / "x.lmdb/landmarks.npz")
    assert own.names == ("a%20b_00", "a%20b_01", "a%20b_02", "c_00")
    assert np.allclose(own.points, IN_FACE, atol=1e-3)
    photo = decode_rgb((tmp_path / "in/a b.png").read_bytes(), "a b")
    largest = crop_face(photo, ffhq_matrix(find_by_colour(photo)[2].landmarks, SIZE), SIZE)
    assert np.array_equal(decode_rgb(content_of(tmp_path / "x.lmdb")["a%20b_00"], "largest"), largest)


def test_prepare_ffhq_takes_the_largest_face_only(tmp_path):
    write_photos(tmp_path / "in", {"a.png": 3, "c.png": 1})
    prepare(tmp_path / "in", tmp_path / "all.lmdb", search=Search(find_by_colour, "fake"))
    prepare(tmp_path / "in", tmp_path / "x.lmdb", search=Search(find_by_colour, "fake", only_largest=True))
    every = content_of(tmp_path / "all.lmdb")
    assert content_of(tmp_path / "x.lmdb") == {"a": every["a_00"], "c": every["c_00"]}


@pytest.mark.parametrize(("size", "min_face", "stored"), [(64, None, 3), (128, None, 1), (64, 60, 2), (512, 0, 3)])
def test_prepare_ffhq_leaves_out_small_faces(tmp_path, size, min_face, stored):
    write_photos(tmp_path / "in", {"a.png": 3})
    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb", size=size, search=Search(find_by_colour, "f", min_face))
    assert report.stored == stored


def test_prepare_ffhq_says_that_all_faces_are_small(tmp_path):
    write_photos(tmp_path / "in", {"a.png": 3})
    with pytest.raises(ValueError, match=r"The first: a\.png: photo has no face of 99 pixels, its largest has 70"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", search=Search(find_by_colour, "fake", 99))


@pytest.mark.parametrize(("left", "stored"), [(-14, 1), (-18, 0), (70, 1), (78, 0)])
def test_prepare_ffhq_leaves_out_faces_that_the_photo_cuts_off(tmp_path, left, stored):
    write_photos(tmp_path / "in", {"a.png": 1, "inside.png": 2})

    def find(photo: np.ndarray) -> list[Found]:
        return [Found(IN_FACE + [left if photo[0, 0, 0] == 1 else 20, 20], 50.0)]

    (report,) = prepare(tmp_path / "in", tmp_path / "x.lmdb", search=Search(find, "fake"))
    reason = "photo cuts its faces off: 1 with less than 75% of the crop in it"
    assert (report.stored, report.skipped) == (1 + stored, [] if stored else [("a.png", reason)])


def test_prepare_ffhq_continues_between_two_photos(tmp_path, monkeypatch):
    write_photos(tmp_path / "in", {f"{i}.png": i % 4 for i in range(9)})
    prepare(tmp_path / "in", tmp_path / "whole.lmdb", search=Search(find_by_colour, "fake"))
    searched = []

    def find(photo: np.ndarray) -> list[Found]:
        searched.append(1)
        if len(searched) == 6:
            raise KeyboardInterrupt
        return find_by_colour(photo)

    monkeypatch.setattr("facesr_plugin.data.lmdb_store._COMMIT_S", 0)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "in", tmp_path / "y.lmdb", search=Search(find, "fake"))
    prepare(tmp_path / "in", tmp_path / "y.lmdb", search=Search(find, "fake"))
    assert len(searched) == 6 + 6  # the four photos that are left, and two of the first five that have no face
    assert content_of(tmp_path / "y.lmdb") == content_of(tmp_path / "whole.lmdb")
    for name in ("skipped.txt", "meta_info.txt", "landmarks.npz"):
        assert (tmp_path / "y.lmdb" / name).read_bytes() == (tmp_path / "whole.lmdb" / name).read_bytes()


def test_prepare_ffhq_does_not_continue_with_another_detector(tmp_path):
    write_photos(tmp_path / "in", {"a.png": 1})
    prepare(tmp_path / "in", tmp_path / "x.lmdb", search=Search(find_by_colour, "one"))
    with pytest.raises(FileExistsError, match="search 'one', now 'other'"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", search=Search(find_by_colour, "other"))


def test_prepare_ffhq_searches_only_what_needs_it(tmp_path):
    write_photos(tmp_path / "in", {"a.png": 1})
    with pytest.raises(
        ValueError, match="search must be None where landmarks are given or images are aligned, got one"
    ):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", aligned=True, search=Search(find_by_colour, "fake"))
    with pytest.raises(ValueError, match="min_face must not be negative, got -1"):
        prepare(tmp_path / "in", tmp_path / "x.lmdb", search=Search(find_by_colour, "fake", -1))
