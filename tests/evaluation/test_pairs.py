import os
import sys
from pathlib import Path

import pytest

from facesr_plugin.evaluation.pairs import pair_faces, printable


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def lacks(pairs) -> set[tuple[str, str]]:
    return {(f"{path.parent.name}/{path.name}", what) for path, what in pairs.unpaired}


def test_pair_faces_joins_by_stem_whatever_the_extension(tmp_path: Path) -> None:
    sr, gt = touch(tmp_path / "sr", "b.png", "a.v2.PNG"), touch(tmp_path / "gt", "a.v2.jpg", "b.webp", "notes.txt")
    pairs = pair_faces({"net": sr}, gt)
    assert [(face.stem, face.results["net"].name, face.gt.name) for face in pairs.faces] == [
        ("a.v2", "a.v2.PNG", "a.v2.jpg"),
        ("b", "b.png", "b.webp"),
    ]
    assert pairs.unpaired == ()


def test_pair_faces_lists_what_has_no_partner(tmp_path: Path) -> None:
    sr, other = touch(tmp_path / "sr", "a.png", "b.png", "x.png"), touch(tmp_path / "other", "a.png")
    gt, lq = touch(tmp_path / "gt", "a.png", "b.png", "y.png"), touch(tmp_path / "lq", "a.png", "z.png")
    pairs = pair_faces({"sr": sr, "other": other}, gt, lq)
    assert [face.stem for face in pairs.faces] == ["a", "b"]
    assert lacks(pairs) == {
        ("sr/x.png", "ground truth"),
        ("gt/y.png", "every result"),
        ("gt/b.png", "other"),
        ("gt/b.png", "input"),
        ("lq/z.png", "every result"),
    }


def test_pair_faces_works_without_ground_truth(tmp_path: Path) -> None:
    pairs = pair_faces({"sr": touch(tmp_path / "sr", "a.png"), "other": touch(tmp_path / "other", "a.png", "b.png")})
    assert [(face.stem, sorted(face.results), face.gt) for face in pairs.faces] == [
        ("a", ["other", "sr"], None),
        ("b", ["other"], None),
    ]
    assert lacks(pairs) == {("other/b.png", "sr")}


@pytest.mark.parametrize("bad", ["sr", "gt"])
def test_pair_faces_refuses_two_files_of_one_stem(tmp_path: Path, bad: str) -> None:
    sr, gt = touch(tmp_path / "sr", "a.png"), touch(tmp_path / "gt", "a.png")
    touch(tmp_path / bad, "a.jpg")
    with pytest.raises(ValueError, match=r"one image per stem, got '.*a\.jpg' and '.*a\.png'. Remove or rename one."):
        pair_faces({"sr": sr}, gt)


def test_pair_faces_refuses_folders_without_a_pair(tmp_path: Path) -> None:
    sr, gt = touch(tmp_path / "sr", "a_net.png"), touch(tmp_path / "gt", "a.png")
    with pytest.raises(ValueError, match=r"common stems, got none: '.*a_net\.png', '.*a\.png'. Rename them alike."):
        pair_faces({"sr": sr}, gt)


def test_pair_faces_takes_both_forms_of_an_accent(tmp_path: Path) -> None:
    sr, gt = touch(tmp_path / "sr", "Ren\u00e9.png"), touch(tmp_path / "gt", "Rene\u0301.png")
    assert [face.stem for face in pair_faces({"sr": sr}, gt).faces] == ["Ren\u00e9"]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_pair_faces_takes_hostile_names_and_shows_them_in_printable_characters(tmp_path: Path) -> None:
    names = [os.fsdecode(name) for name in (b"\xff.png", b"a\nb.png", b"<script>.png", b"-rf.png")]
    pairs = pair_faces({"sr": touch(tmp_path / "sr", *names)}, touch(tmp_path / "gt", *names))
    assert [face.name for face in pairs.faces] == ["-rf", "<script>", r"a\nb", r"\udcff"]


def test_printable_keeps_letters_of_all_languages() -> None:
    assert printable("顔 é\t\u202e") == r"顔 é\t\u202e"
