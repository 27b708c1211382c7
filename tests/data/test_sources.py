import os

import numpy as np
import pytest

from facesr_plugin.data.sources import open_source, unique_keys
from helpers.faces import make_image, write_images, write_lmdb


def test_folder_source_reads_sub_folders(tmp_path):
    write_images(tmp_path / "a", 1)
    write_images(tmp_path / "b", 2)
    (tmp_path / "b/.hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(str(tmp_path))
    assert source.keys == ["a%2Fface_00", "b%2Fface_00", "b%2Fface_01"]
    assert source.path("b%2Fface_01") == str(tmp_path / "b/face_01.png")
    assert np.array_equal(source.read("b%2Fface_01"), make_image(1))


def test_lmdb_source_knows_shapes_and_keys(tmp_path):
    keys = write_lmdb(tmp_path / "x.lmdb", 2, 20, 24)
    source = open_source(str(tmp_path / "x.lmdb"), {"type": "lmdb"})
    assert source.shapes() == dict.fromkeys(keys, (20, 24))
    assert source.path(keys[0]) == keys[0]
    assert np.array_equal(source.read(keys[1]), make_image(1, 20, 24))


def test_open_source_wants_a_backend_that_fits(tmp_path):
    with pytest.raises(
        ValueError, match=r"io_backend\.type lmdb needs a path that ends with \.lmdb, got .*Set type: disk"
    ):
        open_source(str(tmp_path), {"type": "lmdb"})
    with pytest.raises(ValueError, match=r"io_backend\.type must be lmdb or disk, got 'memcached'"):
        open_source(str(tmp_path), {"type": "memcached"})


def test_folder_source_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder .*none does not exist"):
        open_source(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="must hold images .* got none"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["a.png", "b.png"], ["a", "b"]),
        (["top/a.png", "top/b.png"], ["a", "b"]),
        (["top/x/a.png", "top/y/a.png"], ["x%2Fa", "y%2Fa"]),
        (["tops/a.png", "top/a.png"], ["tops%2Fa", "top%2Fa"]),
        (["one/only.png"], ["only"]),
        (["a/b.png", "c.png"], ["a%2Fb", "c"]),
    ],
)
def test_unique_keys_leave_out_the_common_folder(names, keys):
    assert list(unique_keys(names)) == keys


def test_unique_keys_refuse_images_that_differ_in_the_extension_only():
    with pytest.raises(ValueError, match=r"must differ in more than the extension, got a\.png and a\.jpg"):
        unique_keys(["a.png", "a.jpg"])


def test_lmdb_source_says_what_to_do_about_a_damaged_image(tmp_path, monkeypatch):
    write_lmdb(tmp_path / "x.lmdb", 1)
    source = open_source(str(tmp_path / "x.lmdb"))
    good = source._reader.get("face_00")
    monkeypatch.setattr(source._reader, "get", lambda _: good[: len(good) // 2])
    with pytest.raises(ValueError, match=r"image 'face_00' is damaged: .*facesr prepare faces --overwrite"):
        source.read("face_00")


def test_folder_source_names_a_damaged_file(tmp_path):
    write_images(tmp_path, 1)
    os.truncate(tmp_path / "face_00.png", 200)
    with pytest.raises(ValueError, match=r"face_00\.png is damaged: .*Copy it again or remove it"):
        open_source(str(tmp_path)).read("face_00")
