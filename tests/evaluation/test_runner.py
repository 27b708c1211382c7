import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.evaluation import runner
from facesr_plugin.evaluation.landmarks import LandmarkFile, LandmarkSource
from facesr_plugin.evaluation.measures import Measure, Measures, build_measures, sections_of
from facesr_plugin.evaluation.pairs import pair_faces
from facesr_plugin.evaluation.result import Evaluation
from facesr_plugin.evaluation.runner import evaluate
from facesr_plugin.evaluation.table import STATE, TABLE, Table
from facesr_plugin.metrics.image_metric import calculate_sparnet_psnr
from facesr_plugin.pipeline.landmarker import LandmarkFace
from facesr_plugin.utils.imageio import read_image
from helpers.faces import make_image

SIDE = 16


def write_faces(folder: Path, count: int, noise: int = 0, side: int = SIDE) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        image = make_image(number, side).astype(int)
        change = np.random.default_rng(number).integers(-noise, noise + 1, image.shape)
        Image.fromarray((image + change).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


class Brightness:
    """Stands for FID: the mean of all pixels of a set."""

    needs = takes = frozenset({"img"})
    better = "lower"

    def __init__(self) -> None:
        self.sum, self.seen = 0.0, []

    def add(self, batch) -> None:
        self.sum += float(batch["img"].sum())
        self.seen += [len(batch["img"])]

    def value(self) -> float:
        if not self.seen:
            raise ValueError("a mean needs 1 face, got 0")
        return self.sum

    def state(self) -> dict[str, np.ndarray]:
        return {"sum": np.array(self.sum), "seen": np.array(self.seen)}

    def merge(self, state) -> None:
        self.sum, self.seen = self.sum + float(state["sum"]), self.seen + state["seen"].tolist()


def measures(*names: str, results: Sequence[str] = ("net",), sets: bool = False, given=("img", "img2")) -> Measures:
    built = build_measures(sections_of(names, {}, None), results, set(given), torch.device("cpu"))
    if not sets:
        return built
    brightness = {"brightness": {result: Brightness() for result in results}}
    extra = Measure("brightness", "", "lower", "", 1, per_face=False)
    return Measures((*built.measures, extra), built.of_faces, brightness, {})


def run(
    tmp_path: Path, measured: Measures, *, landmarks: LandmarkSource | None = None, batch: int = 2, **more
) -> Evaluation:
    folders = {name: tmp_path / name for name in ("net", "other") if (tmp_path / name).is_dir()}
    gt = tmp_path / "gt" if (tmp_path / "gt").is_dir() else None
    pairs = pair_faces(folders, gt)
    return evaluate(
        pairs, measured, landmarks or LandmarkSource(), tmp_path / "out", plan={}, settings={}, batch=batch, **more
    )


def test_evaluate_measures_every_face_as_the_metric_alone(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 5, noise=9), write_faces(tmp_path / "gt", 5)
    found = run(tmp_path, measures("sparnet_psnr"))
    alone = [
        calculate_sparnet_psnr(
            *(read_image(tmp_path / folder / f"{number}.png")[..., ::-1] for folder in ("net", "gt"))
        )
        for number in range(5)
    ]
    assert found.values["sparnet_psnr"]["net"].tolist() == alone
    assert found.statistics["sparnet_psnr"]["net"].mean == pytest.approx(np.mean(alone))
    assert found.complete
    assert len((tmp_path / "out" / TABLE).read_text().splitlines()) == 6


def test_evaluate_takes_a_single_face_equal_to_its_truth(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 1), write_faces(tmp_path / "gt", 1)
    found = run(tmp_path, measures("psnr_rgb", "sparnet_ssim"))
    assert found.statistics["psnr_rgb"]["net"][:3] == (1, float("inf"), float("inf"))
    assert found.values["sparnet_ssim"]["net"].tolist() == [pytest.approx(1)]


def test_evaluate_compares_results_over_the_faces_that_both_have(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 4, noise=3), write_faces(tmp_path / "other", 3, noise=30)
    write_faces(tmp_path / "gt", 4)
    found = run(tmp_path, measures("psnr_rgb", results=("net", "other")))
    (difference,) = found.differences
    assert (difference.other, difference.statistics.count, difference.wins, difference.verdict) == (
        "other",
        3,
        1,
        "better",
    )
    assert np.isnan(found.values["psnr_rgb"]["other"][3])
    assert [(path.name, lacks) for path, lacks in found.unpaired] == [("3.png", "other")]
    assert found.problems == ()
    assert not found.complete


def test_evaluate_names_each_face_that_it_cannot_measure(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 5, noise=3), write_faces(tmp_path / "gt", 5)
    write_faces(tmp_path / "net", 1, side=8)
    cut = (tmp_path / "net" / "1.png").read_bytes()
    (tmp_path / "net" / "1.png").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "net" / "2.png").write_bytes(b"")
    (tmp_path / "gt" / "3.png").write_bytes(b"no image")
    found = run(tmp_path, measures("psnr_rgb", sets=True))
    reasons = {problem.face: problem.reason for problem in found.problems}
    assert reasons["0"] == "the restored face must be 16 x 16 like the ground truth, got 8 x 8"
    assert reasons["1"].startswith("the restored face is damaged")
    assert reasons["2"].startswith("the restored face must be an image, got an empty file")
    assert reasons["3"].startswith("the ground truth must be an image")
    assert np.isfinite(found.values["psnr_rgb"]["net"]).tolist() == [False] * 4 + [True]
    assert found.set_values["brightness"]["net"].count == 1


def test_evaluate_finds_the_face_that_spoils_a_batch(tmp_path: Path) -> None:
    class Picky:
        needs = frozenset({"img"})

        def measure(self, batch) -> np.ndarray:
            means = batch["img"].mean((1, 2, 3))
            if (means == 0).any():
                raise ValueError("it is black")
            return np.where(means == 255, np.nan, means)

    write_faces(tmp_path / "net", 4)
    for number, value in {1: 0, 2: 255}.items():
        Image.new("RGB", (SIDE, SIDE), (value,) * 3).save(tmp_path / "net" / f"{number}.png")
    found = run(tmp_path, Measures((Measure("mean", "", "higher", "", 1, True),), {"mean": Picky()}, {}, {}), batch=4)
    assert [(problem.face, problem.reason) for problem in found.problems] == [
        ("1", "mean: it is black"),
        ("2", "mean: the value is not a number"),
    ]
    assert found.statistics["mean"]["net"].count == 2


def test_evaluate_takes_faces_of_different_sizes(tmp_path: Path) -> None:
    for folder in ("net", "gt"):
        write_faces(tmp_path / folder, 3)
        write_faces(tmp_path / folder, 2, side=12)
    found = run(tmp_path, measures("psnr_rgb"), batch=3)
    assert found.statistics["psnr_rgb"]["net"].count == 3


def test_evaluate_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_faces(tmp_path / "net", 7, noise=9), write_faces(tmp_path / "gt", 7)
    monkeypatch.setattr(runner, "_SAVE_S", -1)
    decode, table = runner._decode, tmp_path / "out" / TABLE

    def stop_at_last(path: Path, *more: object) -> np.ndarray:
        if path.name == "6.png":
            raise KeyboardInterrupt
        return decode(path, *more)

    whole = run(tmp_path, measures("psnr_rgb", sets=True))
    lines = table.read_text()
    monkeypatch.setattr(runner, "_decode", stop_at_last)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, measures("psnr_rgb", sets=True), overwrite=True)
    assert lines.startswith(table.read_text())
    read = []
    monkeypatch.setattr(runner, "_decode", lambda path, *more: (read.append(path.name), decode(path, *more))[1])
    again = run(tmp_path, measures("psnr_rgb", sets=True))
    assert table.read_text() == lines
    assert again.set_values == whole.set_values
    assert len(read) < 14


def test_evaluate_catches_up_with_the_sets_when_their_state_is_older(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 5), write_faces(tmp_path / "gt", 5)
    measured = measures("psnr_rgb", sets=True)
    whole = run(tmp_path, measured)
    assert measured.of_sets["brightness"]["net"].seen == [2, 2, 1]
    (tmp_path / "out" / "evaluation.json").write_text(
        (tmp_path / "out" / "evaluation.json").read_text().replace('"outcome": [', '"outcome": null, "old": [')
    )
    again = run(tmp_path, measures("psnr_rgb", sets=True))
    assert again.set_values == whole.set_values
    assert not (tmp_path / "out" / STATE).exists()


@pytest.mark.parametrize("lines", [0, 1, 3])
def test_evaluate_counts_no_face_twice_when_lines_were_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    write_faces(tmp_path / "net", 5), write_faces(tmp_path / "gt", 5)
    monkeypatch.setattr(runner, "_SAVE_S", -1)
    whole = run(tmp_path, measures("psnr_rgb", sets=True))
    monkeypatch.setattr(Table, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, measures("psnr_rgb", sets=True), overwrite=True)
    monkeypatch.undo()
    table = tmp_path / "out" / TABLE
    assert (tmp_path / "out" / STATE).exists()
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:lines]))
    assert run(tmp_path, measures("psnr_rgb", sets=True)).set_values == whole.set_values


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_evaluate_measures_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_faces(tmp_path / "net", 3), write_faces(tmp_path / "gt", 3)
    first = run(tmp_path, measures("sparnet_ssim", sets=True))
    monkeypatch.setattr(runner, "_decode", None)
    again = run(tmp_path, measures("sparnet_ssim", sets=True))
    assert (again.statistics, again.set_values) == (first.statistics, first.set_values)


def test_evaluate_refuses_other_inputs_and_metrics(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 2), write_faces(tmp_path / "gt", 2)
    run(tmp_path, measures("psnr_rgb"))
    with pytest.raises(FileExistsError, match="other inputs, metrics or settings"):
        run(tmp_path, measures("psnr_y"))
    write_faces(tmp_path / "net", 2, noise=5)
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(tmp_path, measures("psnr_rgb"))
    assert run(tmp_path, measures("psnr_rgb"), overwrite=True).complete


def test_evaluate_says_why_a_set_has_no_value(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 1)
    (tmp_path / "net" / "0.png").write_bytes(b"")
    found = run(tmp_path, measures(sets=True))
    assert found.set_values["brightness"]["net"] == (0, None, "a mean needs 1 face, got 0")
    assert not found.complete


def points_of(image: np.ndarray) -> np.ndarray:
    return np.random.default_rng(int(image[0, 0, 0])).random((68, 2)).astype(np.float32) * SIDE


def find(pictures: Sequence[np.ndarray]) -> list:
    return [[LandmarkFace(points_of(picture), np.ones(68, bool), 1.0, None)] for picture in pictures]


def test_evaluate_finds_landmarks_in_both_images(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 3), write_faces(tmp_path / "gt", 3)
    measured = measures("nme_box", "auc_inter_ocular", given=("img", "img2", "points", "reference"))
    found = run(tmp_path, measured, landmarks=LandmarkSource(find=find))
    assert found.values["nme_box"]["net"].tolist() == [0, 0, 0]
    assert found.values["auc_inter_ocular"]["net"].tolist() == [1, 1, 1]


def landmark_file(path: Path, shift: float, names: Sequence[str], size: int = SIDE) -> LandmarkFile:
    points = np.random.default_rng(0).random((len(names), 68, 2)).astype(np.float32) * 10 + shift
    write_landmarks(path, Landmarks(tuple(names), points, image_size=np.array([[size, size]] * len(names))))
    return LandmarkFile(path)


def test_evaluate_reads_landmarks_of_both_folders(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 3), write_faces(tmp_path / "gt", 3)
    truth = landmark_file(tmp_path / "t.npz", 0, ["0.jpg", "1.jpg", "2.jpg"])
    found = landmark_file(tmp_path / "f.json", 1, ["0.png", "1.png"])
    measured = measures("nme_box", "psnr_rgb", given=("img", "img2", "points", "reference"))
    evaluation = run(tmp_path, measured, landmarks=LandmarkSource(truth, {"net": found}))
    values = evaluation.values["nme_box"]["net"]
    assert values[:2].tolist() == [pytest.approx(2**0.5 / 10, rel=0.1)] * 2
    assert np.isnan(values[2])
    assert [problem[:3] for problem in evaluation.problems] == [("2", "net", "f.json has no landmarks of it")]
    assert evaluation.statistics["psnr_rgb"]["net"].count == 3


def test_evaluate_refuses_landmarks_of_another_size(tmp_path: Path) -> None:
    write_faces(tmp_path / "net", 1), write_faces(tmp_path / "gt", 1)
    truth = landmark_file(tmp_path / "t.npz", 0, ["0.png"], size=32)
    measured = measures("nme_box", given=("img", "img2", "points", "reference"))
    found = run(tmp_path, measured, landmarks=LandmarkSource(truth, find=find))
    assert found.problems[0].reason == "t.npz has landmarks of 32 x 32 pixels, the image has 16 x 16"


def test_landmark_source_refuses_other_numbers_of_points(tmp_path: Path) -> None:
    truth = landmark_file(tmp_path / "t.npz", 0, ["0.png"])
    few = tmp_path / "few.npz"
    write_landmarks(few, Landmarks(("0.png",), np.ones((1, 5, 2), np.float32)))
    with pytest.raises(ValueError, match="must have 68 points as the true ones, got 5. Use another model or file."):
        LandmarkSource(truth, {"net": LandmarkFile(few)})


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_evaluate_takes_hostile_names(tmp_path: Path) -> None:
    names = [os.fsdecode(name) for name in (b"\xff.png", b'a\n"b,.png', b"<script>.png", b"=1+1.png")]
    for folder in ("net", "gt"):
        write_faces(tmp_path / folder, 4)
        for number, name in enumerate(names):
            (tmp_path / folder / f"{number}.png").rename(tmp_path / folder / name)
    (tmp_path / "net" / names[0]).write_bytes(b"")
    found = run(tmp_path, measures("sparnet_ssim"))
    assert [face.name for face in found.faces] == ["<script>", "=1+1", 'a\\n"b,', r"\udcff"]
    assert found.problems[0].face == r"\udcff"
    assert len((tmp_path / "out" / TABLE).read_text("utf-8").splitlines()) == 5
