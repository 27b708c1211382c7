import argparse
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facesr_plugin.archs.sparnet_arch import SPARNet
from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import Weights, save_weights
from facesr_plugin.cli import main
from facesr_plugin.commands.restore import add_parser
from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.pipeline.background import load_background
from facesr_plugin.pipeline.face import Face
from facesr_plugin.pipeline.landmark_file import read_faces
from facesr_plugin.pipeline.paste import enlarge
from facesr_plugin.utils.imageio import read_image, write_png
from facesr_plugin.utils.photoio import Photo, decode_photo, encode_png
from helpers.background import rrdbnet, save_background
from helpers.photos import COLUMNS, group_photo, write_points
from helpers.tiny import save_tiny_sparnet
from helpers.tiny_fan import save_tiny_fan

HD_ARGS = {
    "min_ch": 2,
    "max_ch": 4,
    "in_size": 128,
    "out_size": 128,
    "min_feat_size": 64,
    "res_depth": 0,
    "norm_type": "in",
    "spectral_norm": True,
}
PHOTO, POINTS = group_photo(((10, 8, 64),), (80, 90))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "hd.pth"
    state = SPARNet(**HD_ARGS).state_dict()
    save_weights(path, Weights("sparnethd", "SPARNet", HD_ARGS, state, "params", path))
    return path


@pytest.fixture(autouse=True)
def _small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 pixels per face take seconds. The command lifts Pillow's limit, which is the process's."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    hd = replace(get_card("sparnethd"), lq_size=128)
    monkeypatch.setattr(
        "facesr_plugin.pipeline.restorer.get_card", lambda name: {"sparnethd": hd}.get(name, get_card(name))
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos with a face and one without in ``in``, their points in ``points.csv``."""
    for name in ("a", "b", "empty"):
        write_png(tmp_path / "in" / f"{name}.png", PHOTO)
    write_points(tmp_path / "points.csv", {"a.png": POINTS, "b.jpg": POINTS})
    return tmp_path


def restore(folder: Path, weights: Path, *arguments: object) -> int:
    command = ["restore", folder / "in", "--weights", weights, "--out", folder / "out", "--device", "cpu", *arguments]
    return main([str(argument) for argument in command])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_restore_restores_a_folder(folder: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    out = folder / "out"
    assert restore(folder, weights, "--landmarks", folder / "points.csv", "--save-crops", "--save-grid") == 0
    assert names(out) == ["a.png", "b.png", "crops", "empty.png", "grid"]
    assert names(out / "crops") == [f"{name}_00_{kind}.png" for name in "ab" for kind in ("input", "restored")]
    assert names(out / "grid") == ["a.png", "b.png"]
    np.testing.assert_array_equal(read_image(out / "empty.png"), PHOTO)
    restored = read_image(out / "a.png")
    np.testing.assert_array_equal(restored, read_image(out / "b.png"))
    np.testing.assert_array_equal(restored[:, 88:], PHOTO[:, 88:])
    x, y = POINTS[0, 2].astype(int)
    assert (restored[y, x] != PHOTO[y, x]).any()
    written = capsys.readouterr()
    assert "3 photos with 2 restored faces" in written.out
    assert "empty.png: no face found; written without a restored one" in written.err


def test_restore_draws_the_heatmaps_of_each_face(folder: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    fan = save_tiny_fan(folder / "fan.pth")
    given = ["--landmarks", folder / "points.csv", "--fan-weights", fan]
    assert restore(folder, weights, *given) == 2
    assert "--fan-weights and --fan-side are for --heatmaps" in capsys.readouterr().err
    assert restore(folder, weights, *given, "--heatmaps") == 0
    assert names(folder / "out" / "heatmaps") == ["a_00.png", "b_00.png"]


@pytest.mark.parametrize("source", ["in/a.png", "in/[ab].png"])
def test_restore_takes_a_file_and_a_glob(folder: Path, weights: Path, source: str) -> None:
    command = ["restore", folder / source, "--weights", weights, "--out", folder / "out", "--device", "cpu"]
    assert main([str(word) for word in [*command, "--landmarks", folder / "points.csv"]]) == 0
    assert names(folder / "out") == (["a.png"] if source == "in/a.png" else ["a.png", "b.png"])


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (("--only-largest",), "not the largest"),
        (("--min-face", 50), "pixels, smaller than 50"),
        (("--weight", 0), None),
    ],
)
def test_restore_leaves_faces_that_it_is_told_to(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture, arguments: tuple, note: str | None
) -> None:
    photo, points = group_photo(((10, 8, 100), (140, 12, 60)), (120, 220))
    write_png(tmp_path / "in" / "a.png", photo)
    faces = write_points(tmp_path / "points.csv", {"a": points})
    assert restore(tmp_path, weights, "--landmarks", faces, *arguments) == 0
    image = read_image(tmp_path / "out" / "a.png")
    np.testing.assert_array_equal(image[:, 150:], photo[:, 150:])
    assert (image != photo).any() == (note is not None)
    assert (note or "") in capsys.readouterr().err


def test_restore_tells_which_faces_lose_detail(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    photo, points = group_photo(((10, 8, 200), (240, 12, 60)), (220, 320))
    write_png(tmp_path / "in" / "a.png", photo)
    assert restore(tmp_path, weights, "--landmarks", write_points(tmp_path / "points.csv", {"a": points})) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "fine detail is lost" in line]
    assert len(notes) == 1
    assert re.search(r"face at \(1\d\d, 1\d\d\) has \d+ pixels, its result 128: ", notes[0])


def test_restore_computes_on_the_device_and_in_the_precision_that_are_given(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture
) -> None:
    given = ("--landmarks", folder / "points.csv", "--overwrite")
    images = {}
    for precision in ("fp32", "bf16"):
        assert restore(folder, weights, *given, "--precision", precision) == 0
        images[precision] = read_image(folder / "out" / "a.png")
    assert (images["fp32"] != images["bf16"]).any()
    assert restore(folder, weights, *given, "--device", "cuda:99") == 2
    assert "device must be auto, cpu, cuda or cuda:N and present here, got 'cuda:99'" in capsys.readouterr().err


def test_restore_detects_with_the_network_that_is_given(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Detector:
        def __init__(self, *given: object, device: torch.device) -> None:
            assert given == ("mobile0.25", "d.pth")
            assert device.type == "cpu"

        def __call__(self, photo: np.ndarray) -> list[Face]:
            np.testing.assert_array_equal(photo, PHOTO)
            return [Face(POINTS[0], np.array([10, 8, 74, 72]), 0.9)]

    monkeypatch.setattr("facesr_plugin.pipeline.detector.FaceDetector", Detector)
    given = ("--detector", "mobile0.25", "--detector-weights", "d.pth")
    assert restore(folder, weights, *given) == 0
    assert "3 photos with 3 restored faces" in capsys.readouterr().out
    assert restore(folder, weights, *given, "--overwrite", "--landmarks", folder / "points.csv") == 2
    assert "--landmarks has the points, so --detector-weights has no use" in capsys.readouterr().err


@pytest.mark.parametrize("aligned", [False, True])
def test_restore_refuses_a_folder_that_cannot_be_written_before_it_starts(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture, aligned: bool
) -> None:
    (folder / "out").write_text("a file")
    command = ["restore", folder / "in", "--weights", weights, "--out", folder / "out" / "sub", "--device", "cpu"]
    command += ["--aligned"] if aligned else ["--landmarks", folder / "points.csv"]
    assert main([str(word) for word in command]) == 2
    assert capsys.readouterr().err == f"error: Not a directory: {folder / 'out' / 'sub'}\n"


def test_restore_continues_where_it_was(folder: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    write_png(folder / "out" / "a.png", PHOTO)
    assert restore(folder, weights, "--landmarks", folder / "points.csv") == 0
    assert "2 photos with 1 restored faces" in capsys.readouterr().out
    np.testing.assert_array_equal(read_image(folder / "out" / "a.png"), PHOTO)
    assert restore(folder, weights, "--landmarks", folder / "points.csv", "--overwrite") == 0
    assert (read_image(folder / "out" / "a.png") != PHOTO).any()


def test_restore_goes_on_after_a_bad_file(folder: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "in" / "bad.png").write_bytes(b"text")
    assert restore(folder, weights, "--landmarks", folder / "points.csv") == 1
    written = capsys.readouterr()
    assert "bad.png: the file must be an image" in written.err
    assert "3 photos with 2 restored faces" in written.out


def test_restore_keeps_depth_alpha_and_grey(tmp_path: Path, weights: Path) -> None:
    deep = PHOTO.astype(np.uint16) * 257
    alpha = PHOTO[..., 1].copy()
    kinds = {"a": Photo(deep), "b": Photo(PHOTO, alpha), "c": Photo(PHOTO[..., 0].copy())}
    (tmp_path / "in").mkdir()
    for name, photo in kinds.items():
        (tmp_path / "in" / f"{name}.png").write_bytes(encode_png(photo))
    points = write_points(tmp_path / "points.csv", dict.fromkeys(kinds, POINTS))
    assert restore(tmp_path, weights, "--landmarks", points) == 0
    for name, photo in kinds.items():
        image = decode_photo((tmp_path / "out" / f"{name}.png").read_bytes(), name)
        assert image.colour.dtype == photo.colour.dtype
        assert (image.colour != photo.colour).any()
        np.testing.assert_array_equal(image.colour[:, 88:], photo.colour[:, 88:])
        if photo.alpha is not None:
            np.testing.assert_array_equal(image.alpha, alpha)


def test_restore_enlarges_alpha_too(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encode_png(Photo(PHOTO, PHOTO[..., 1].copy())))
    points = write_points(tmp_path / "points.csv", {"a": POINTS})
    assert restore(tmp_path, weights, "--landmarks", points, "--upscale", 2) == 0
    image = decode_photo((tmp_path / "out" / "a.png").read_bytes(), "a")
    assert image.colour.shape == (160, 180, 3)
    assert image.alpha.shape == (160, 180)


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "grey", "alpha"])
def test_restore_takes_a_background_network(tmp_path: Path, weights: Path, kind: str) -> None:
    alpha = PHOTO[..., 1].copy()
    photo = {
        "8 bits": Photo(PHOTO),
        "16 bits": Photo(PHOTO.astype(np.uint16) * 257),
        "grey": Photo(PHOTO[..., 0].copy()),
        "alpha": Photo(PHOTO, alpha),
    }[kind]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encode_png(photo))
    points = write_points(tmp_path / "points.csv", {"a": POINTS})
    path = save_background(tmp_path / "bg.pth", rrdbnet(2))
    assert restore(tmp_path, weights, "--landmarks", points, "--bg-weights", path, "--upscale", 2, "--bg-tile", 64) == 0
    image = decode_photo((tmp_path / "out" / "a.png").read_bytes(), "a")
    expected = load_background(path, device="cpu", tile=64)(photo.colour, 2)
    assert image.colour.dtype == photo.colour.dtype
    np.testing.assert_array_equal(image.colour[:, 176:], expected[:, 176:])
    assert (image.colour != expected).any()
    if photo.alpha is not None:
        np.testing.assert_array_equal(image.alpha, enlarge(alpha, 2))


def test_restore_refuses_a_tile_without_a_network(folder: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    assert restore(folder, weights, "--landmarks", folder / "points.csv", "--bg-tile", 64) == 2
    assert "--bg-tile is for the network of --bg-weights, got it alone" in capsys.readouterr().err
    assert restore(folder, weights, "--landmarks", folder / "points.csv", "--bg-weights", weights) == 2
    assert "must hold a background network of BasicSR" in capsys.readouterr().err


def test_restore_refuses_huge_results(folder: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    limit = ("--landmarks", folder / "points.csv", "--upscale", 3, "--max-pixels", 8000)
    assert restore(folder, weights, *limit) == 1
    message = "at most 8,000 pixels, got 270 x 240. Lower --upscale. Or raise the limit: --max-pixels"
    assert message in capsys.readouterr().err


def test_restore_has_a_limit_of_its_own(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns above it and refuses above twice as much
    given = ("--landmarks", folder / "points.csv")
    assert restore(folder, weights, *given, "--max-pixels", 7000) == 1
    message = "the file must have at most 7,000 pixels, got 90 x 80. Reduce it first. Or raise the limit: --max-pixels"
    assert message in capsys.readouterr().err
    assert restore(folder, weights, *given, "--max-pixels", 7200) == 0


def test_restore_reports_faces_too_large_for_sparnet(folder: Path, capsys: pytest.CaptureFixture) -> None:
    weights = save_tiny_sparnet(folder / "tiny.pth")
    assert restore(folder, weights, "--landmarks", folder / "points.csv") == 0
    written = capsys.readouterr()
    assert "3 photos with 0 restored faces" in written.out
    assert written.err.count("larger than the network's input") == 2
    np.testing.assert_array_equal(read_image(folder / "out" / "a.png"), PHOTO)
    assert restore(folder, weights, "--landmarks", folder / "points.csv", "--overwrite", "--force") == 0
    assert "3 photos with 2 restored faces" in capsys.readouterr().out


def test_restore_takes_aligned_crops(folder: Path, capsys: pytest.CaptureFixture) -> None:
    weights = save_tiny_sparnet(folder / "tiny.pth")
    for path in (folder / "in").iterdir():
        write_png(path, PHOTO[:64, 10:74])
    assert restore(folder, weights, "--aligned", "--save-grid") == 0
    assert names(folder / "out") == ["a.png", "b.png", "empty.png", "grid"]
    assert read_image(folder / "out" / "a.png").shape == (128, 128, 3)
    assert restore(folder, weights, "--aligned", "--upscale", 2, "--force") == 2
    assert "--aligned takes crops, which have no use for --upscale, --force" in capsys.readouterr().err


def test_restore_asks_for_the_detectors_weights(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESR_HOME", str(folder / "home"))
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    assert restore(folder, weights) == 2
    assert "facesr weights fetch retinaface_resnet50" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--weight", 2), ("--landmarks", "none.csv"), ("--min-face", -1)])
def test_restore_refuses_wrong_usage(folder: Path, weights: Path, arguments: tuple) -> None:
    assert restore(folder, weights, *arguments) == 2
    assert not (folder / "out").exists()


def test_restores_page_names_every_option() -> None:
    page = (Path(__file__).parents[2] / "docs" / "restore.md").read_text(encoding="utf-8")
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    (command,) = (action.choices["restore"] for action in parser._actions if isinstance(action.choices, dict))
    options = [action.option_strings[-1] for action in command._actions if action.option_strings]
    assert len(options) > 20
    assert [option for option in options if option not in page and option != "--help"] == []


def test_read_faces_reads_boxes_and_scores(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    header = ["file", "x1", "y1", "x2", "y2", "score", *COLUMNS[1:]]
    path.write_text(",".join(header) + "\n" + "a.jpg,1,2,3,4,0.5," + ",".join(map(str, range(10))) + "\n")
    (face,) = read_faces(path)["a"]
    assert face.box.tolist() == [1, 2, 3, 4]
    assert face.score == 0.5
    assert face.landmarks.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_read_faces_takes_five_of_sixty_eight_points(tmp_path: Path) -> None:
    points = np.arange(136, dtype=np.float32).reshape(1, 68, 2)
    write_landmarks(tmp_path / "p.npz", Landmarks(("a.png",), points))
    (face,) = read_faces(tmp_path / "p.npz")["a"]
    assert face.landmarks.tolist() == [[77, 78], [89, 90], [60, 61], [96, 97], [108, 109]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,leye_x\n", "it lacks leye_y"),
        (",".join(COLUMNS) + "\na.png,1,2\n", "line 2"),
        (",".join(COLUMNS) + "\na.png,nan" + ",1" * 9 + "\n", "line 2: leye_x must be a finite number"),
    ],
)
def test_read_faces_tells_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_faces(tmp_path / "p.csv")


def test_read_faces_refuses_other_files(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("")
    with pytest.raises(ValueError, match=r"must end with \.csv or \.npz"):
        read_faces(tmp_path / "p.txt")


def test_restore_takes_jpeg_and_turns_it(tmp_path: Path, weights: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(PHOTO)).save(buffer, "JPEG", quality=95, exif=exif)
    (tmp_path / "in" / "a.jpg").write_bytes(buffer.getvalue())
    points = write_points(tmp_path / "points.csv", {"a": POINTS})
    assert restore(tmp_path, weights, "--landmarks", points) == 0
    image = read_image(tmp_path / "out" / "a.png")
    assert image.shape == PHOTO.shape
    np.testing.assert_allclose(image[:, 88:], PHOTO[:, 88:], atol=60)


def test_restore_makes_rgb_of_cmyk(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "in").mkdir()
    cmyk = Image.fromarray(PHOTO).convert("CMYK")
    cmyk.save(tmp_path / "in" / "a.jpg", quality=100, subsampling=0, icc_profile=b"of inks")
    points = write_points(tmp_path / "points.csv", {"a": POINTS})
    assert restore(tmp_path, weights, "--landmarks", points) == 0
    image = decode_photo((tmp_path / "out" / "a.png").read_bytes(), "a")
    assert image.profile is None
    np.testing.assert_array_equal(image.colour[:, 88:], read_image(tmp_path / "in" / "a.jpg")[:, 88:])
    np.testing.assert_allclose(image.colour[:, 88:].astype(int), PHOTO[:, 88:], atol=12)


def test_restore_takes_the_first_frame_and_says_so(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    frames = [Image.fromarray(PHOTO), Image.fromarray(255 - PHOTO)]
    frames[0].save(tmp_path / "in" / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    points = write_points(tmp_path / "points.csv", {"other": POINTS})
    assert restore(tmp_path, weights, "--landmarks", points) == 0
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a.png"), PHOTO)
    assert "a.webp: animated, only its first frame is taken" in capsys.readouterr().err
