import random

import pytest

from facesr_plugin.data.keys import MAX_KEY_LENGTH, key_of, read_name_list, safe_key, select_keys, stem_of


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.png", "a"), ("a/b.c.JPG", "a/b.c"), ("face.001", "face.001"), (".png", ".png"), ("a.webp.txt", "a.webp.txt")],
)
def test_stem_of_drops_only_an_image_extension(name, stem):
    assert stem_of(name) == stem


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        ("basemax_0000", "basemax_0000"),
        ("a.b", "a%2Eb"),
        ("sub/a b", "sub%2Fa%20b"),
        ("100%", "100%25"),
        ("Åsa", "%C3%85sa"),
        ("..", "%2E%2E"),
        ("a~b-c", "a~b-c"),
    ],
)
def test_safe_key_escapes_what_basicsr_cannot_read(stem, key):
    assert safe_key(stem) == key


def test_safe_key_never_gives_two_stems_one_key():
    rng = random.Random(0)
    alphabet = "ab%2EF./ ~_x\u00e9\udc80"
    stems = {"".join(rng.choices(alphabet, k=rng.randint(1, 6))) for _ in range(20_000)}
    stems |= {"a" * length for length in range(1, 400)} | {"%" * length for length in range(1, 200)}
    keys = {safe_key(stem) for stem in stems}
    assert len(keys) == len(stems)
    assert all(key.isascii() and "." not in key and " " not in key and len(key) <= MAX_KEY_LENGTH for key in keys)


def test_safe_key_rejects_an_empty_stem():
    with pytest.raises(ValueError, match="stem must not be empty"):
        safe_key("")


def test_read_name_list_drops_what_basicsr_adds(tmp_path):
    (tmp_path / "list.txt").write_text("a b.png (128,128,3) 1\n\nc.png (64,64)\nd (1).png\n", encoding="utf-8")
    assert read_name_list(tmp_path / "list.txt") == ["a b.png", "c.png", "d (1).png"]


@pytest.mark.parametrize(("content", "text"), [(b"", "got an empty file"), (b"\xff\xfe\x00", "must be UTF-8 text")])
def test_read_name_list_rejects_other_files(tmp_path, content, text):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=text):
        read_name_list(tmp_path / "list.txt")


def test_read_name_list_says_that_it_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"list .*none\.txt does not exist"):
        read_name_list(tmp_path / "none.txt")


def test_select_keys_ignores_extensions_and_folders_and_repetition():
    keys = ["a", "b", key_of("x/c.png")]
    assert select_keys(["b.jpg", "images/a.png", "x/c.png", "b.png"], keys, "list") == ["b", "a", "x%2Fc"]


def test_select_keys_names_what_is_missing():
    with pytest.raises(ValueError, match=r"list l\.txt names 2 images that are not there: x\.png, y\.png"):
        select_keys(["a.png", "x.png", "y.png"], ["a"], "list l.txt")
