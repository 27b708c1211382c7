import zipfile

import pytest

from facesr_plugin.data.inputs import Item, fingerprint, list_items, read_item
from helpers.faces import write_images


def write_zip(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_list_items_of_a_folder(tmp_path):
    write_images(tmp_path / "x", 2)
    items = list_items(tmp_path / "x")
    assert [(item.key, item.name) for item in items] == [("face_00", "face_00.png"), ("face_01", "face_01.png")]
    assert read_item(items[1]) == (tmp_path / "x/face_01.png").read_bytes()


def test_list_items_of_a_zip_leaves_the_top_folder_out_of_the_keys(tmp_path):
    path = write_zip(
        tmp_path / "x.zip", {"top/b.jpg": b"B", "top/a.png": b"A", "top/readme.txt": b"", "__MACOSX/top/a.png": b""}
    )
    items = list_items(path)
    assert [(item.key, item.name) for item in items] == [("a", "top/a.png"), ("b", "top/b.jpg")]
    assert read_item(items[1]) == b"B"


def test_list_items_of_a_list(tmp_path):
    write_images(tmp_path / "x", 3)
    (tmp_path / "list.txt").write_text("x/face_02.png\nx/face_00.png\nx/face_00.png\n")
    assert [item.key for item in list_items(tmp_path / "list.txt")] == ["face_00", "face_02"]


def test_names_of_a_zip_cannot_leave_the_output(tmp_path):
    path = write_zip(
        tmp_path / "x.zip", {"../../up.png": b"", "/etc/abs.png": b"", "ok\\..\\..\\win.png": b"", "a.png": b""}
    )
    keys = [item.key for item in list_items(path)]
    assert len(keys) == 3  # hidden and upward names are left out
    assert all(key.isascii() and not set(key) & set("/\\.: ") for key in keys)


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("none", None, FileNotFoundError, r"input .*none does not exist\. Give a folder, a \.zip or a \.txt list"),
        ("x.bin", b"abc", ValueError, r"input must be a folder, a \.zip or a \.txt list of images, got"),
        ("x.txt", b"lost.png\n", FileNotFoundError, r"names 1 files that do not exist: lost\.png\. Paths are relative"),
    ],
)
def test_list_items_says_what_is_wrong(tmp_path, name, content, error, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=text):
        list_items(tmp_path / name)


def test_list_items_rejects_zips_without_images_and_damaged_ones(tmp_path):
    with pytest.raises(ValueError, match=r"zip file .* must hold images .*, got none"):
        list_items(write_zip(tmp_path / "x.zip", {"a.txt": b""}))
    path = write_zip(tmp_path / "y.zip", {f"{i}.png": b"data" * 50 for i in range(9)})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"zip file .*y\.zip is damaged: .*Copy it again"):
        list_items(path)


def test_read_item_says_why_a_file_cannot_be_read(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.png": b"data" * 50})
    item = list_items(path)[0]
    path.write_bytes(path.read_bytes().replace(b"datadata", b"datAdata", 1))
    with pytest.raises(ValueError, match="file cannot be read: Bad CRC-32"):
        read_item(item)
    with pytest.raises(ValueError, match="at most 536,870,912 bytes, got 900,000,000"):
        read_item(item._replace(num_bytes=900_000_000))


def test_fingerprint_depends_on_names_and_sizes():
    item = Item("a", "a.png", "x", 10)
    assert fingerprint([item]) == fingerprint([item._replace(container="moved")])
    assert len({fingerprint([item]), fingerprint([item._replace(num_bytes=11)]), fingerprint([])}) == 3


def test_list_items_names_files_of_a_list_that_cannot_be(tmp_path):
    (tmp_path / "list.txt").write_text("a\0b.png\n" + "x" * 9000)
    with pytest.raises(FileNotFoundError, match=r"list\.txt names 2 files that do not exist: a\?b\.png, x{80}\. Paths"):
        list_items(tmp_path / "list.txt")
