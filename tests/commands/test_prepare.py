import os
import subprocess
import sys

import pytest

from facesr_plugin.cli import build_parser, main
from facesr_plugin.data.lmdb_store import LmdbReader
from helpers.faces import write_images


def test_prepare_faces_ends_with_0(tmp_path, capsys):
    write_images(tmp_path / "in", 3)
    out = tmp_path / "x.lmdb"
    assert main(["prepare", "faces", str(tmp_path / "in"), "--out", str(out), "--size", "32", "--workers", "0"]) == 0
    assert capsys.readouterr().out == f"{out}: 3 faces\n"
    assert len(LmdbReader(out).keys) == 3


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
    assert main(["prepare", "ffhq", str(tmp_path / "in"), "--out", str(tmp_path / "z.lmdb")]) == 2
    assert "images need --landmarks to be aligned by" in capsys.readouterr().err
