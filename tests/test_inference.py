import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesr_plugin import inference
from facesr_plugin.cards import get_card
from facesr_plugin.cli import main
from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.inference import Failure, plan_jobs, run_jobs
from facesr_plugin.pipeline.restorer import Restorer, load
from facesr_plugin.utils.imageio import read_image, write_png
from helpers.landmarks import save_tiny_jasrnet
from helpers.tiny import save_tiny_sparnet, tiny_sparnet
from helpers.tiny_fan import save_tiny_fan


def random_face(size: int, seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((size, size), Image.BICUBIC))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sparnet(tmp_path_factory.mktemp("weights") / "tiny.pth")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Five faces of 16x16 in ``lq``, their ground truth in ``gt``."""
    for index in range(5):
        gt = random_face(128, index)
        write_png(tmp_path / "gt" / f"face{index}.png", gt)
        write_png(tmp_path / "lq" / f"face{index}.png", np.array(Image.fromarray(gt).resize((16, 16), Image.BICUBIC)))
    return tmp_path


def infer(*arguments: object) -> int:
    return main(["infer", *map(str, arguments), "--device", "cpu"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_infer_restores_a_folder(faces: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    out = faces / "out"
    assert infer(faces / "lq", "--weights", weights, "--out", out, "--batch", 2) == 0
    assert names(out) == [f"face{index}.png" for index in range(5)]
    assert capsys.readouterr().out.startswith(f"5 restored to {out}, 0 failed")
    (alone,) = load(weights, device="cpu")(read_image(faces / "lq" / "face3.png"))
    assert np.abs(read_image(out / "face3.png").astype(int) - alone).max() <= 1  # sums in another order


@pytest.mark.parametrize("source", ["lq/face1.png", "lq/face[1]*", "l?/face1.*"])
def test_infer_takes_a_file_and_a_glob(faces: Path, weights: Path, source: str) -> None:
    assert infer(faces / source, "--weights", weights, "--out", faces / "out") == 0
    assert names(faces / "out") == ["face1.png"]


def test_infer_takes_the_list_that_a_shell_makes_of_a_glob(faces: Path, weights: Path) -> None:
    sources = [faces / "lq/face1.png", faces / "lq/face2.png", faces / "lq/face1.png"]
    assert infer(*sources, "--weights", weights, "--out", faces / "out") == 0
    assert names(faces / "out") == ["face1.png", "face2.png"]


def test_infer_draws_comparisons_and_measures(faces: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    out = faces / "out"
    assert infer(faces / "lq", "--weights", weights, "--out", out, "--grid", "--gt", faces / "gt") == 0
    assert names(out / "grid") == [f"face{index}.png" for index in range(5)]
    picture = read_image(out / "grid" / "face0.png")
    np.testing.assert_array_equal(picture[-136:-8, -136:-8], read_image(faces / "gt" / "face0.png"))
    np.testing.assert_array_equal(picture[-136:-8, -272:-144], read_image(out / "face0.png"))
    text = capsys.readouterr().out
    assert "mean of 5, sparnet protocol:" in text
    assert text.count("PSNR") == text.count("SSIM") == 2


def test_infer_scores_are_those_of_the_card(faces: Path) -> None:
    """A network that returns its input is bicubic interpolation, but for the truncation of exact levels."""
    from torch import nn

    jobs = plan_jobs([faces / "lq"], faces / "out", gt=faces / "gt")
    summary = run_jobs(jobs, Restorer(nn.Identity(), get_card("sparnet"), "cpu"))
    result, bicubic = summary.means
    assert summary.compared == 5
    assert bicubic.psnr > 25
    assert result == pytest.approx(bicubic, rel=5e-3)


def test_infer_leaves_results_alone_unless_told(faces: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    out = faces / "out"
    write_png(out / "face2.png", random_face(128, 9))
    before = (out / "face2.png").read_bytes()
    assert infer(faces / "lq", "--weights", weights, "--out", out) == 0
    assert (out / "face2.png").read_bytes() == before
    assert "4 restored" in capsys.readouterr().out
    assert infer(faces / "lq", "--weights", weights, "--out", out) == 0
    assert "0 restored" in (text := capsys.readouterr().out)
    assert "5 had a result" in text
    assert infer(faces / "lq", "--weights", weights, "--out", out, "--overwrite") == 0
    assert (out / "face2.png").read_bytes() != before


def test_infer_compares_what_was_restored_before(faces: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    out = faces / "out"
    shutil.copytree(faces / "gt", out)
    (out / "face4.png").unlink()
    arguments = (faces / "lq", "--weights", weights, "--out", out, "--grid", "--gt", faces / "gt")
    assert infer(*arguments) == 0
    assert "result   PSNR inf dB" in capsys.readouterr().out  # the copies are perfect
    assert len(names(out / "grid")) == 5


def bad_files() -> dict[str, bytes]:
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "PNG")
    strip = io.BytesIO()
    Image.new("RGB", (900, 16)).save(strip, "PNG")
    return {
        "cut.png": whole.getvalue()[:-500],
        "empty.png": b"",
        "pixel.png": pixel.getvalue(),
        "strip.png": strip.getvalue(),
        "text.png": b"not an image",
    }


def test_infer_reports_every_bad_file_and_goes_on(faces: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    for name, data in bad_files().items():
        (faces / "lq" / name).write_bytes(data)
    assert infer(faces / "lq", "--weights", weights, "--out", faces / "out", "--batch", 3, "--workers", 3) == 1
    output = capsys.readouterr()
    assert "5 restored" in output.out
    assert "5 failed" in output.out
    assert names(faces / "out") == [f"face{index}.png" for index in range(5)]
    lines = [line for line in output.err.splitlines() if line.startswith("failed: ")]
    assert [line.split(": ")[1] for line in lines] == [str(faces / "lq" / name) for name in bad_files()]
    for line, reason in zip(
        lines,
        [
            "the file is damaged: ",
            "the file must be an image, got an empty file",
            "face must be at least 4 x 4 pixels, got 1 x 1",
            "face must be at most 4 times as long as wide, got 900 x 16",
            "the file must be an image (PNG",
        ],
        strict=True,
    ):
        assert f": {reason}" in line


def test_infer_restores_every_kind_of_image(tmp_path: Path, weights: Path) -> None:
    picture = Image.fromarray(random_face(16, 0))
    folder = tmp_path / "in"
    folder.mkdir()
    picture.convert("L").save(folder / "grey.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("P").save(folder / "palette.gif")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.resize((24, 16)).save(folder / "turned.jpg", exif=exif.tobytes())
    picture.save(folder / "名前 ü.webp")
    assert infer(folder, "--weights", weights, "--out", tmp_path / "out") == 0
    assert names(tmp_path / "out") == sorted(f"{path.stem}.png" for path in folder.iterdir())
    assert read_image(tmp_path / "out" / "turned.png").shape == (192, 128, 3)


def test_infer_reports_a_ground_truth_of_another_size(
    faces: Path, weights: Path, capsys: pytest.CaptureFixture
) -> None:
    write_png(faces / "gt" / "face1.png", random_face(64, 1))
    assert infer(faces / "lq", "--weights", weights, "--out", faces / "out", "--gt", faces / "gt") == 1
    output = capsys.readouterr()
    assert "face1.png: the ground truth must be 128 x 128 like the result, got 64 x 64" in output.err
    assert "mean of 4" in output.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": "nothing"}, "no such file or folder"),
        ({"inputs": "lq/*.tif"}, "no such file or folder, and no image fits it as a glob"),
        ({"inputs": "empty"}, "must hold images"),
        ({"--weights": "none.pth"}, "none.pth"),
        ({"--weights": "lq/face1.png"}, "face1.png"),
        ({"--out": "lq"}, "the output folder must not be the one of the input"),
        ({"--out": "gt"}, "the output folder must not be the one of the input"),
        ({"--gt": "few"}, "gt must hold a picture for every input, got none for 4, first 'face1'"),
        ({"--device": "cuda:99"}, "device must be"),
        ({"--device": "meta"}, "device must be"),
        ({"--out": "lq/face0.png"}, "the output must be a folder, got the file"),
    ],
    ids=str,
)
def test_infer_explains_wrong_usage(
    faces: Path, weights: Path, capsys: pytest.CaptureFixture, change: dict[str, str], message: str
) -> None:
    (faces / "empty").mkdir()
    (faces / "few").mkdir()
    shutil.copy(faces / "gt" / "face0.png", faces / "few")
    values = {"inputs": "lq", "--weights": str(weights), "--out": "out", "--gt": "gt", "--device": "cpu"} | change
    arguments = [str(faces / values.pop("inputs"))]
    for name, value in values.items():
        arguments += [name, value if name == "--device" else str(faces / value)]
    assert main(["infer", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (faces / "out").exists()


def test_plan_jobs_finds_a_ground_truth_whose_name_is_written_in_another_way(tmp_path: Path) -> None:
    for folder, name in {"lq": "caf\u00e9.png", "gt": "cafe\u0301.jpg"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    (job,) = inference.plan_jobs([tmp_path / "lq"], tmp_path / "out", gt=tmp_path / "gt")
    assert job.gt.suffix == ".jpg"


def test_plan_jobs_refuses_two_ground_truths_of_one_stem(tmp_path: Path) -> None:
    for name in ("lq/a.png", "gt/a.png", "gt/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"one image per stem, got '.*a\.jpg' and '.*a\.png'. Remove or rename one."):
        inference.plan_jobs([tmp_path / "lq"], tmp_path / "out", gt=tmp_path / "gt")


def test_infer_refuses_two_inputs_with_one_stem(faces: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copy(faces / "lq" / "face1.png", faces / "lq" / "face1.bmp")
    assert infer(faces / "lq", "--weights", weights, "--out", faces / "out") == 2
    assert "inputs must have different stems" in capsys.readouterr().err


def test_infer_never_writes_outside_the_folder(faces: Path, weights: Path) -> None:
    """A result that is a link to elsewhere is replaced, not followed."""
    outside = faces / "outside.png"
    outside.write_bytes(b"precious")
    (faces / "out").mkdir()
    (faces / "out" / "face1.png").symlink_to(outside)
    assert infer(faces / "lq", "--weights", weights, "--out", faces / "out", "--overwrite") == 0
    assert outside.read_bytes() == b"precious"
    assert not (faces / "out" / "face1.png").is_symlink()


def test_infer_reports_results_that_cannot_be_written(
    faces: Path, weights: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, image: np.ndarray) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(inference, "write_png", full)
    assert infer(faces / "lq", "--weights", weights, "--out", faces / "out") == 1
    assert "No space left on device" in capsys.readouterr().err


def test_run_jobs_leaves_whole_files_when_interrupted(faces: Path) -> None:
    restorer = Restorer(tiny_sparnet(), get_card("sparnet"), "cpu")
    calls = iter([None, None])

    def interrupted(images: object, batch: int) -> list[np.ndarray]:
        if next(calls, "stop"):
            raise KeyboardInterrupt
        return [random_face(128, 0) for _ in images]

    class Interrupted(Restorer):
        __call__ = staticmethod(interrupted)

    restorer.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        run_jobs(plan_jobs([faces / "lq"], faces / "out"), restorer, batch=1, workers=1)
    assert names(faces / "out") == ["face0.png"] or names(faces / "out") == ["face0.png", "face1.png"]
    assert all(read_image(path).shape == (128, 128, 3) for path in (faces / "out").iterdir())
    assert threading.active_count() == 1 or all("ThreadPool" not in thread.name for thread in threading.enumerate())


def test_run_jobs_reads_only_a_little_ahead(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = plan_jobs([faces / "lq"], faces / "out") * 20
    read, restored = [], []

    def failing(_: Restorer, job: inference.Job) -> Failure:
        read.append(job)
        return Failure(job.source, "no")

    def restore(_: Restorer, group: list) -> list:
        restored.append(len(read))
        return group

    monkeypatch.setattr(inference, "_read", failing)
    monkeypatch.setattr(inference, "_restore", restore)
    summary = run_jobs(jobs, Restorer(tiny_sparnet(), get_card("sparnet"), "cpu"), batch=4, workers=2)
    assert len(summary.failures) == 100
    assert all(ahead <= 4 * (turn + 1) + 2 * 4 + 1 for turn, ahead in enumerate(restored))


def test_infer_help_loads_no_torch() -> None:
    code = "import sys; from facesr_plugin.cli import main\ntry: main(['infer', '--help'])\nfinally: "
    code += "sys.stderr.write(str({'torch', 'numpy', 'PIL', 'basicsr'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "120"}
    )
    assert done.stderr == "set()"
    assert "--grid" in done.stdout


def test_infer_draws_the_attention(faces: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    out = faces / "out"
    assert infer(faces / "lq" / "face0.png", "--weights", weights, "--out", out) == 0
    arguments = (faces / "lq", "--weights", weights, "--out", out, "--attention")
    assert infer(*arguments) == 0
    assert names(out / "attention") == [f"face{index}.png" for index in range(5)]
    picture = read_image(out / "attention" / "face0.png")
    assert infer(*arguments, "--overwrite", "--attention-blocks", "encoder.1") == 0
    assert read_image(out / "attention" / "face0.png").shape[1] < picture.shape[1]
    assert infer(*arguments, "--overwrite", "--attention-blocks", "encoder.9") == 2
    assert "blocks must be some of encoder.1" in capsys.readouterr().err
    assert infer(*arguments[:-1], "--attention-blocks", "encoder.1") == 2


def test_infer_draws_the_heatmaps(faces: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    out, fan = faces / "out", save_tiny_fan(faces / "fan.pth")
    arguments = (faces / "lq", "--weights", weights, "--out", out, "--heatmaps", "--fan-weights", fan)
    assert infer(*arguments, "--gt", faces / "gt") == 0
    assert names(out / "heatmaps") == [f"face{index}.png" for index in range(5)]
    picture = read_image(out / "heatmaps" / "face0.png")
    (out / "heatmaps" / "face0.png").unlink()
    assert infer(*arguments) == 0  # drawn again from the result, without the ground truth
    assert read_image(out / "heatmaps" / "face0.png").shape[1] < picture.shape[1]


def test_infer_refuses_heatmaps_without_network(
    faces: Path, weights: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESR_HOME", str(faces / "home"))
    monkeypatch.setenv("TORCH_HOME", str(faces / "torch"))
    arguments = (faces / "lq", "--weights", weights, "--out", faces / "out")
    assert infer(*arguments, "--heatmaps") == 2
    assert "compressed_fan.pth" in capsys.readouterr().err
    assert infer(*arguments, "--fan-side", 50) == 2
    assert "--fan-weights and --fan-side are for --heatmaps" in capsys.readouterr().err
    assert not (faces / "out").exists()


def test_run_jobs_refuses_heatmaps_without_finder(faces: Path, weights: Path) -> None:
    jobs = plan_jobs([faces / "lq"], faces / "out", heatmaps=True)
    with pytest.raises(ValueError, match="find_heatmaps must be given for jobs with heatmaps, got None"):
        run_jobs(jobs, load(weights, device="cpu"))


def test_infer_writes_the_landmarks_of_small_images_of_any_size(faces: Path, capsys: pytest.CaptureFixture) -> None:
    out, jasrnet = faces / "out", save_tiny_jasrnet(faces / "jasrnet.pth", 19)
    write_png(faces / "lq" / "wide.png", np.array(Image.fromarray(random_face(60, 7)).resize((45, 30))))
    arguments = (faces / "lq", "--weights", jasrnet, "--out", out)
    assert infer(*arguments, "--landmarks", "--batch", 4) == 0
    assert names(out / "landmarks") == sorted(
        f"{path.stem}{end}" for path in out.glob("*.png") for end in (".json", ".png")
    )
    found = read_landmarks(out / "landmarks" / "wide.json")
    assert (found.names, found.points.shape, found.image_size.tolist()) == (("wide.png",), (1, 19, 2), [[128, 192]])
    assert read_image(out / "wide.png").shape == (128, 192, 3)
    assert read_image(out / "landmarks" / "wide.png").shape == (256, 384, 3)
    assert infer(faces / "lq", "--weights", jasrnet, "--out", faces / "plain", "--batch", 4) == 0
    assert np.array_equal(read_image(faces / "plain" / "face2.png"), read_image(out / "face2.png"))


def test_infer_adds_missing_landmarks_to_existing_results(faces: Path, capsys: pytest.CaptureFixture) -> None:
    out, jasrnet = faces / "out", save_tiny_jasrnet(faces / "jasrnet.pth")
    arguments = (faces / "lq", "--weights", jasrnet, "--out", out)
    assert infer(*arguments, "--landmarks") == 0
    points = read_landmarks(out / "landmarks" / "face1.json").points
    (out / "landmarks" / "face1.json").unlink()
    write_png(out / "face2.png", np.zeros((64, 64, 3), np.uint8))
    (out / "landmarks" / "face2.png").unlink()
    assert infer(*arguments, "--landmarks") == 1
    assert np.allclose(read_landmarks(out / "landmarks" / "face1.json").points, points, atol=1e-3)
    assert "existing result of 64 x 64 is of another network. Restore it with --overwrite" in capsys.readouterr().err


def test_infer_refuses_landmarks_of_a_network_without_them(
    faces: Path, weights: Path, capsys: pytest.CaptureFixture
) -> None:
    assert infer(faces / "lq", "--weights", weights, "--out", faces / "out", "--landmarks") == 2
    assert "landmarks must be of a network that finds them beside restoring, such as JASRNet" in capsys.readouterr().err
