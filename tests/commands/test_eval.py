import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesr_plugin import cli
from facesr_plugin.commands import eval as command
from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.metrics.catalogue import PROTOCOLS
from helpers.faces import make_image, write_images
from helpers.landmarks import save_compressed_fan

NAMES = ["face_00.png", "face_01.png", "face_02.png"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """gt, net (close to it), other (far from it), and no weights anywhere."""
    for variable in ("FACESR_HOME", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    write_images(tmp_path / "gt", 3)
    for folder, noise in {"net": 4, "other": 40}.items():
        (tmp_path / folder).mkdir()
        for number, name in enumerate(NAMES):
            change = np.random.default_rng(number).integers(-noise, noise + 1, (32, 32, 3))
            image = (make_image(number).astype(int) + change).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / folder / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    return cli.main(["eval", *words, "--out", "out", "--device", "cpu"])


def test_eval_prints_the_table_and_writes_the_report(folders: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("net", "gt", "--compare", "far=other", "--metrics", "sparnet_psnr,ssim_y") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^sparnet_psnr +net +4\d\.\d\d dB \(3 faces, 4\d\.\d\d to 4\d\.\d\d\)$", printed, re.M)
    assert re.search(r"^ssim_y +far +0\.\d{4} \(3 faces, ", printed, re.M)
    files = {path.name for path in (folders / "out").iterdir()}
    assert files >= {"report.md", "report.html", "per_image.csv", "evaluation.json"}
    assert "unpaired.txt" not in files


def test_eval_reports_missing_weights_and_fails_only_if_strict(folders: Path, capsys: pytest.CaptureFixture) -> None:
    words = ("net", "gt", "--metrics", "sparnet_psnr,identity")
    assert run(*words) == 0
    printed = capsys.readouterr()
    assert "facesr weights fetch arcface" in printed.err
    assert "identity " not in printed.out
    assert run(*words, "--strict") == 3


def test_eval_reports_the_missing_weights_of_landmark_networks(folders: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("net", "gt", "--metrics", "nme_box", "--landmark-model", "stacked_hourglass", "--strict") == 3
    assert "missing: nme_box: HG_68_CelebA.pth" in capsys.readouterr().err


def test_eval_lists_what_it_could_not_pair_or_measure(folders: Path, capsys: pytest.CaptureFixture) -> None:
    (folders / "net" / NAMES[0]).rename(folders / "net" / "lost.png")
    (folders / "net" / NAMES[1]).write_bytes(b"\x89PNG")
    assert run("net", "gt", "--metrics", "sparnet_psnr") == 1
    errors = capsys.readouterr().err
    assert "not measured: face_01 of net: the restored face must be an image" in errors
    assert "\n1 restored face was not or not fully measured" in errors
    assert "2 files have no partner" in errors
    assert (folders / "out" / "unpaired.txt").read_text().splitlines() == [
        "net/lost.png has no partner: ground truth",
        "gt/face_00.png has no partner: every result",
    ]


def test_eval_measures_landmarks_of_files(folders: Path, capsys: pytest.CaptureFixture) -> None:
    points = np.random.default_rng(0).random((3, 68, 2)).astype(np.float32) * 30
    for name, shift in {"truth": 0, "net": 0, "far": 1}.items():
        write_landmarks(folders / f"{name}.json", Landmarks(tuple(NAMES), points + shift))
    words = ("net", "gt", "--compare", "far=other", "--landmarks", "truth.json")
    assert run(*words, "--sr-landmarks", "net.json", "far=far.json", "--metrics", "nme_box,failure_inter_ocular") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^nme_box +net +0\.0000 ", printed, re.M)
    assert re.search(r"^nme_box +far +0\.0\d*[1-9]\d* ", printed, re.M)


def test_eval_finds_landmarks_in_both_folders(folders: Path, capsys: pytest.CaptureFixture) -> None:
    save_compressed_fan(folders / "fan.pth")
    words = ("--landmark-model", "compressed_fan", "--landmark-weights", "fan.pth", "--metrics", "nme_box")
    assert run("gt", "gt", "--compare", "far=other", *words) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^nme_box +gt +0\.0000 \(3 faces", printed, re.M)
    assert not re.search(r"^nme_box +far +0\.0000 ", printed, re.M)


def test_eval_refuses_a_folder_of_another_evaluation(folders: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("net", "gt", "--metrics", "sparnet_psnr") == 0
    assert run("other", "gt", "--metrics", "sparnet_psnr") == 2
    assert "out holds an evaluation of other inputs" in capsys.readouterr().err
    assert run("other", "gt", "--metrics", "sparnet_psnr", "--overwrite") == 0


def test_eval_leaves_the_list_of_a_folder_that_it_refuses(folders: Path) -> None:
    (folders / "net" / NAMES[0]).unlink()
    assert run("net", "gt", "--metrics", "sparnet_psnr") == 1
    assert run("other", "gt", "--metrics", "sparnet_psnr") == 2
    assert (folders / "out" / "unpaired.txt").read_text() == "gt/face_00.png has no partner: every result\n"


def test_eval_tells_of_one_face(folders: Path, capsys: pytest.CaptureFixture) -> None:
    for name in NAMES[1:]:
        (folders / "net" / name).unlink()
        (folders / "gt" / name).unlink()
    assert run("net", "gt", "--metrics", "sparnet_psnr") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 face\n")
    assert re.search(r"^sparnet_psnr +net +4\d\.\d\d dB \(1 face\)$", printed, re.M)


def test_eval_takes_spaces_between_metrics(folders: Path) -> None:
    assert run("net", "gt", "--metrics", "sparnet_psnr, ssim_y") == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["net", "--metrics", "psnr_y"], "psnr_y needs the ground truth. Give GT_DIR"),
        (["net", "gt", "--metrics", "psnr"], "metrics must be some of"),
        (["net", "gt", "--metrics", "nme_box"], "nme_box needs the true landmarks"),
        (["net", "gt", "--compare", "other"], "--compare takes NAME=PATH, got 'other'"),
        (["net", "gt", "--compare", "net=other"], "--compare must give other names than that of SR_DIR, got 'net'"),
        (["net", "gt", "--compare", "a=other", "a=gt"], "--compare must give each name once, got 'a' twice"),
        (["net", "gt", "--landmark-weights", "w.pth"], "--landmark-weights is for --landmark-model"),
        (["net", "gt", "--landmark-model", "jasrnet"], "Name yours with --landmark-weights"),
        (["net", "gt", "--sr-landmarks", "a.json", "net=b.json"], "one file for each folder, got two for 'net'"),
        (["net", "gt", "--metrics", "fid", "--statistics", "no.npz"], "no.npz"),
        (["net", "nothing"], "no such file or folder"),
    ],
)
def test_eval_refuses_wrong_usage(folders: Path, words: list[str], text: str, capsys: pytest.CaptureFixture) -> None:
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_eval_names_every_metric_in_its_help() -> None:
    assert PROTOCOLS.keys() <= set(re.findall(r"\w+", command._DESCRIPTION))
