import os
import subprocess
import sys

import pytest

from facesr_plugin.cli import build_parser, main
from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.data.lmdb_store import LmdbReader
from helpers.detector import save_detector
from helpers.faces import write_images


def test_prepare_faces_ends_with_0(tmp_path, capsys):
    write_images(tmp_path / "in", 3)
    out = tmp_path / "x.lmdb"
    assert main(["prepare", "faces", str(tmp_path / "in"), "--out", str(out), "--size", "32", "--workers", "0"]) == 0
    assert capsys.readouterr().out == f"{out}: 3 faces\n"
    assert len(LmdbReader(out).keys) == 3


def test_prepare_faces_keeps_the_size_of_faces(tmp_path):
    write_images(tmp_path / "in", 1, 40)
    out = tmp_path / "x.lmdb"
    assert (
        main(["prepare", "faces", str(tmp_path / "in"), "--out", str(out), "--size", "native", "--workers", "0"]) == 0
    )
    assert LmdbReader(out).entries[0].shape == (40, 40, 3)


def test_prepare_faces_ends_with_1_when_images_were_left_out(tmp_path, capsys):
    write_images(tmp_path / "in", 2)
    os.truncate(tmp_path / "in/face_01.png", 99)
    command = [
        "prepare",
        "faces",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "x.lmdb"),
        "--size",
        "32",
        "--workers",
        "0",
    ]
    assert main(command) == 1
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "skipped face_01.png: face_01.png is damaged" in error
    assert f"1 images were left out, all listed in {tmp_path / 'x.lmdb/skipped.txt'}" in error


def test_prepare_faces_ends_with_2_on_wrong_usage(tmp_path, capsys):
    assert main(["prepare", "faces", str(tmp_path / "none"), "--out", str(tmp_path / "x.lmdb")]) == 2
    assert "error: input" in capsys.readouterr().err
    write_images(tmp_path / "in", 1)
    assert main(["prepare", "faces", str(tmp_path / "in"), "--out", str(tmp_path / "x")]) == 2
    assert "error: output must be a folder whose name ends with .lmdb" in capsys.readouterr().err


def test_prepare_synthetic_splits(tmp_path, capsys):
    command = ["prepare", "synthetic", "--num", "2", "--val", "1", "--size", "32", "--workers", "0"]
    assert main([*command, "--out", str(tmp_path / "x.lmdb")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x_train.lmdb'}: 2 faces\n{tmp_path / 'x_val.lmdb'}: 1 faces\n"


@pytest.mark.parametrize("kind", ["faces", "synthetic"])
def test_prepare_help_names_the_rules(kind, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["prepare", kind, "--help"])
    assert "X_train.lmdb" in capsys.readouterr().out


def test_prepare_help_loads_no_torch():
    code = "import sys, facesr_plugin.cli as c; c.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_prepare_ffhq_ends_with_0_and_with_1_when_images_were_left_out(tmp_path, capsys):
    write_images(tmp_path / "in", 2, 48)
    command = ["prepare", "ffhq", str(tmp_path / "in"), "--aligned", "--size", "32", "--workers", "0", "--out"]
    assert main([*command, str(tmp_path / "x.lmdb")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x.lmdb'}: 2 faces\n"
    os.truncate(tmp_path / "in/face_01.png", 99)
    assert main([*command, str(tmp_path / "y.lmdb")]) == 1


def find_faces(folder, weights, *arguments) -> int:
    command = ["prepare", "ffhq", str(folder / "in"), "--out", str(folder / "x.lmdb"), "--size", "32"]
    detector = ["--detector", "mobile0.25", "--detector-weights", str(weights)]
    return main([*command, "--workers", "0", *detector, *arguments])


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return save_detector(tmp_path_factory.mktemp("weights") / "mobile.pth")


@pytest.mark.parametrize(("flags", "key"), [((), "face_01_00"), (("--only-largest",), "face_01")])
def test_prepare_ffhq_finds_faces(tmp_path, capsys, detector, flags, key):
    write_images(tmp_path / "in", 2, 64)
    assert find_faces(tmp_path, detector, *flags) == 0
    own = read_landmarks(tmp_path / "x.lmdb/landmarks.npz")
    assert key in own.names
    assert list(own.names) == LmdbReader(tmp_path / "x.lmdb").keys
    assert (len(own.names) == 2) == bool(flags)
    assert capsys.readouterr().out == f"{tmp_path / 'x.lmdb'}: {len(own.names)} faces\n"


def test_prepare_ffhq_leaves_out_photos_with_small_faces(tmp_path, capsys, detector):
    write_images(tmp_path / "in", 1, 64)
    assert find_faces(tmp_path, detector, "--min-face", "200") == 2
    assert "none of 1 images can be used. The first: face_00.png: photo has no face of 200 pixels, its largest has" in (
        capsys.readouterr().err
    )


def test_prepare_ffhq_says_what_is_wrong_with_the_detector(tmp_path, capsys, detector):
    write_images(tmp_path / "in", 1, 64)
    assert find_faces(tmp_path, detector, "--detector", "resnet50") == 2
    assert "must hold weights of the detector resnet50, got others" in capsys.readouterr().err
    assert find_faces(tmp_path, tmp_path / "none.pth") == 2
    assert "weights must be an existing file" in capsys.readouterr().err
    assert find_faces(tmp_path, detector, "--aligned", "--min-face", "0") == 2
    assert "nothing is detected with --landmarks or --aligned, got --detector-weights, --min-face. Leave it out." in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "x.lmdb").exists()
