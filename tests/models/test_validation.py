"""The one validation loop: BasicSR's numbers, names and logs; batches, several results, landmarks."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import METRIC_REGISTRY
from torch.utils.data import DataLoader, Dataset

from facesr_plugin.checkpoints import load_weights, read_checkpoint
from facesr_plugin.metrics import fid_metric
from facesr_plugin.metrics.landmark_metric import calculate_nme
from facesr_plugin.models.validation import Result
from facesr_plugin.utils.imageio import read_image
from facesr_plugin.utils.stopping import STOP, RunStopped
from helpers.faces import make_image
from helpers.options import model_options

METRICS = {
    "psnr": {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": True},
    "ssim": {"type": "calculate_ssim", "crop_border": 0},
}
NME = {"nme": {"type": "calculate_nme", "normaliser": "box", "better": "lower"}}
POINTS = np.random.default_rng(0).uniform(4, 28, (5, 7, 2)).astype(np.float32)


class Faces(Dataset):
    """Five faces with seven points each; ``without`` names what is not delivered."""

    opt = {"name": "faces"}

    def __init__(self, *without: str) -> None:
        self.without = without

    def __len__(self) -> int:
        return len(POINTS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        gt = torch.from_numpy(make_image(index)).permute(2, 0, 1) / 255
        sample = {
            "lq": gt[:, 4::8, 4::8],
            "gt": gt,
            "landmarks": torch.from_numpy(POINTS[index]),
            "box": torch.tensor([0.0, 0.0, 8.0, 8.0 * (index + 1)]),
            "lq_path": f"lq/{index:03d}.png",
        }
        return {key: value for key, value in sample.items() if key not in self.without}


def build(folder: Path, metrics: dict[str, Any] | None, **options: Any) -> Any:
    made = model_options(folder) | {"val": {"metrics": metrics, "suffix": None}, **options}
    made["path"]["visualization"] = str(folder / "pictures")
    torch.manual_seed(0)
    return build_model(made)


def validate(model: Any, *without: str, batch: int = 1, iteration: Any = 3, save_img: bool = False) -> dict[str, float]:
    model.validation(DataLoader(Faces(*without), batch), iteration, None, save_img)
    return model.metric_results


def find(model: Any, points: torch.Tensor, *, restored: bool = True) -> None:
    """Let a model find these points, ``(5, 7, 2)``, face after face."""
    place = [0]

    def current_results() -> dict[str, Result]:
        start, place[0] = place[0], (place[0] + len(model.lq)) % len(points)
        return {"": Result(model.output, points[start : start + len(model.lq)], restored=restored)}

    model.current_results = current_results


@pytest.fixture
def face_metrics(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """Metrics of images that take landmarks and a box."""
    made = {
        "first_x": lambda img, img2, landmarks, **_: float(landmarks[0, 0]),
        "height": lambda img, box, **_: float(box[3] - box[1]),
    }
    for name, function in made.items():
        monkeypatch.setitem(METRIC_REGISTRY._obj_map, name, function)
    return {name: {"type": name} for name in made}


@pytest.mark.parametrize("batch", [1, 2])
def test_values_and_files_are_those_of_basicsr(tmp_path: Path, batch: int) -> None:
    expected = build(tmp_path / "basicsr", METRICS)
    SRModel.nondist_validation(expected, DataLoader(Faces()), 3, None, save_img=True)
    model = build(tmp_path / "own", METRICS)
    assert validate(model, batch=batch, save_img=True) == pytest.approx(expected.metric_results, abs=1e-4)
    folders = [tmp_path / "basicsr/pictures", tmp_path / "own/pictures"]
    names = [sorted(path.relative_to(folder) for path in folder.rglob("*.png")) for folder in folders]
    assert names[0] == names[1] == [Path(f"{i:03d}/{i:03d}_3.png") for i in range(5)]
    if batch == 1:
        assert all(np.array_equal(*(read_image(folder / name) for folder in folders)) for name in names[0])


def test_log_and_best_values_are_those_of_basicsr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = [build(tmp_path / name, METRICS) for name in ("basicsr", "own")]
    logging.getLogger("basicsr").propagate = True
    with caplog.at_level(logging.INFO, logger="basicsr"):
        caplog.clear()
        SRModel.nondist_validation(models[0], DataLoader(Faces()), 3, None, save_img=False)
        validate(models[1])
    logs = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Validation faces")]
    assert logs[0] == logs[1]
    assert models[0].best_metric_results == models[1].best_metric_results


def test_best_value_of_an_earlier_iteration_is_kept(tmp_path: Path) -> None:
    model = build(tmp_path, NME)
    for iteration, error in ((10, 1.0), (20, 0.0), (30, 2.0)):
        find(model, torch.from_numpy(POINTS + np.float32(error)))
        validate(model, iteration=iteration)
    assert model.best_metric_results["faces"]["nme"] == {"better": "lower", "val": 0.0, "iter": 20}


def test_metric_that_a_resumed_run_adds_has_a_best_value(tmp_path: Path) -> None:
    model = build(tmp_path, METRICS)
    model.best_metric_results = {"faces": {"psnr": {"better": "higher", "val": 99.0, "iter": 1}}}
    values = validate(model)
    best = model.best_metric_results["faces"]
    assert (best["psnr"]["val"], best["ssim"]["val"]) == (99.0, values["ssim"])


@pytest.mark.parametrize("batch", [1, 2])
def test_landmarks_of_all_faces_are_measured_at_once(tmp_path: Path, batch: int) -> None:
    model = build(tmp_path, METRICS | NME)
    found = POINTS + np.random.default_rng(1).normal(size=POINTS.shape).astype(np.float32)
    find(model, torch.from_numpy(found))
    values = validate(model, "box", batch=batch)
    assert list(values) == ["psnr", "ssim", "nme"]
    assert values["nme"] == calculate_nme(found, POINTS, normaliser="box")


def test_box_of_the_data_set_normalises_the_landmarks(tmp_path: Path) -> None:
    model = build(tmp_path, NME)
    find(model, torch.from_numpy(POINTS + np.float32([1, 0])))
    sides = np.sqrt(8 * 8 * np.arange(1, 6))
    assert validate(model, batch=2)["nme"] == pytest.approx((1 / sides).mean(), rel=1e-5)


def test_unknown_landmarks_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(tmp_path, NME)
    hidden = POINTS.copy()
    hidden[1, :3] = np.nan
    found = POINTS.copy()
    found[1, :3] += 50
    monkeypatch.setattr(f"{__name__}.POINTS", hidden)
    find(model, torch.from_numpy(found))
    assert validate(model)["nme"] == 0


def test_further_results_are_named_after_the_metric(tmp_path: Path) -> None:
    model = build(tmp_path, METRICS | NME)
    points = torch.from_numpy(POINTS[:1]).expand(5, -1, -1)

    def current_results() -> dict[str, Result]:
        return {"": Result(model.output), "step1": Result(model.gt, points[: len(model.lq)])}

    model.current_results = current_results
    values = validate(model)
    assert list(values) == ["psnr", "ssim", "psnr_step1", "ssim_step1", "nme_step1"]
    assert values["ssim"] < values["ssim_step1"] == pytest.approx(1, abs=1e-3)  # the card cuts to a byte
    assert model.best_metric_results["faces"]["nme_step1"]["better"] == "lower"


def test_metrics_of_images_may_take_landmarks_and_box(tmp_path: Path, face_metrics: dict) -> None:
    values = validate(build(tmp_path, face_metrics), batch=2)
    assert values == {"first_x": pytest.approx(POINTS[:, 0, 0].mean()), "height": 24.0}


def test_landmarks_are_drawn_beside_restored_images(tmp_path: Path) -> None:
    model = build(tmp_path, None)
    find(model, torch.from_numpy(POINTS))
    model.validation(DataLoader(Faces(), 2), 3, None, save_img=True)
    folder = tmp_path / "pictures/004"
    assert read_image(folder / "004_3.png").shape == (32, 32, 3)
    assert read_image(folder / "landmarks/004_3.png").shape == (256, 256, 3)
    find(model, torch.from_numpy(POINTS), restored=False)
    model.validation(DataLoader(Faces(), 2), 4, None, save_img=True)
    assert read_image(folder / "004_4.png").shape == (256, 256, 3)


def test_test_phase_names_files_as_basicsr(tmp_path: Path) -> None:
    options = {"is_train": False, "val": {"metrics": None, "suffix": "x"}}
    build(tmp_path, None, **options).validation(DataLoader(Faces()), "faces", None, save_img=True)
    assert (tmp_path / "pictures/faces/000_x.png").is_file()


@pytest.mark.parametrize(
    ("metric", "without", "message"),
    [
        ("psnr", ["gt"], "val.metrics.psnr needs the ground truth, which the data set does not deliver"),
        ("nme", [], "val.metrics.nme needs landmarks, which the model does not find, or remove the metric"),
        ("first_x", ["landmarks"], "val.metrics.first_x needs the true landmarks, which the data set does not deliver"),
        ("height", ["box"], "val.metrics.height needs face boxes, which the data set does not deliver"),
    ],
)
def test_metric_without_what_it_needs_is_refused(
    tmp_path: Path, face_metrics: dict, metric: str, without: list[str], message: str
) -> None:
    model = build(tmp_path, {metric: (METRICS | NME | face_metrics)[metric]})
    with pytest.raises(ValueError, match=message):
        validate(model, *without)


def test_landmarks_against_a_data_set_without_are_refused(tmp_path: Path) -> None:
    model = build(tmp_path, NME)
    find(model, torch.from_numpy(POINTS))
    with pytest.raises(ValueError, match="val.metrics.nme needs the true landmarks, .* Name a landmark file"):
        validate(model, "landmarks")


def test_images_that_are_only_the_input_are_not_measured(tmp_path: Path) -> None:
    model = build(tmp_path, METRICS)
    find(model, torch.from_numpy(POINTS), restored=False)
    with pytest.raises(ValueError, match="val.metrics.psnr needs restored images, which the model does not give"):
        validate(model)


def test_metric_with_an_empty_section_is_left_out(tmp_path: Path) -> None:
    assert list(validate(build(tmp_path, METRICS | {"nme": None}))) == ["psnr", "ssim"]


def test_batch_of_the_training_is_not_measured(tmp_path: Path) -> None:
    model = build(tmp_path, METRICS)
    model.feed_data(next(iter(DataLoader(Faces(), 2))))
    with pytest.raises(ValueError, match="needs the ground truth"):
        validate(model, "gt")


def test_feed_data_keeps_landmarks(tmp_path: Path) -> None:
    model = build(tmp_path, None)
    model.feed_data(next(iter(DataLoader(Faces(), 2))))
    assert np.array_equal(model.landmarks, POINTS[:2])
    model.feed_data(next(iter(DataLoader(Faces("landmarks"), 2))))
    assert model.landmarks is None


def test_metrics_of_sets_are_measured_again_in_each_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    monkeypatch.setattr(fid_metric, "NUM_FEATURES", 3)
    monkeypatch.setattr(fid_metric, "_load_network", lambda weights: network)
    model = build(tmp_path, {"fid": {"type": "calculate_fid"}})
    first = validate(model, batch=2)["fid"]
    assert validate(model, batch=5)["fid"] == pytest.approx(first, rel=1e-6)
    assert model.best_metric_results["faces"]["fid"]["better"] == "lower"


def test_option_that_a_metric_does_not_have_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="val.metrics.nme: calculate_nme has no option 'normalizer'"):
        build(tmp_path, {"nme": {"type": "calculate_nme", "normalizer": "box"}})


def build_with_best(folder: Path, **path: str) -> Any:
    options = {"val": {"metrics": METRICS | NME, "best": "nme"}}
    options["train"] = model_options(folder, ema_decay=0.5)["train"]
    model = build(folder, None, **options)
    model.opt["path"] |= path
    return model


def validate_error(model: Any, iteration: int, error: float) -> Path:
    """Validate with that many pixels of error; return the file of the best weights."""
    with torch.no_grad():
        model.net_g.encoder[0].conv.bias.fill_(iteration)
    find(model, torch.from_numpy(POINTS + np.float32(error)))
    validate(model, iteration=iteration)
    return Path(model.opt["path"]["models"]) / "net_g_best.pth"


def test_best_weights_are_kept_with_the_average_and_their_iteration(tmp_path: Path) -> None:
    model = build_with_best(tmp_path)
    for iteration, error in ((10, 2.0), (20, 1.0), (30, 3.0)):
        path = validate_error(model, iteration, error)
    content = read_checkpoint(path)
    assert content.keys() == {"params", "params_ema", "facesr"}
    best = content["facesr"]["best"]
    assert (best["metric"], best["dataset"], best["iter"]) == ("nme", "faces", 20)
    assert best["value"] == model.best_metric_results["faces"]["nme"]["val"]
    assert (content["params"]["encoder.0.conv.bias"] == 20).all()
    assert load_weights(path, prefer="params_ema").arch == "SPARNet"


def test_run_that_continues_keeps_better_weights(tmp_path: Path) -> None:
    model = build_with_best(tmp_path)
    validate_error(model, 10, 1.0)
    model.save(0, 10)
    validate_error(model, 20, 0.5)
    resumed = build_with_best(tmp_path)
    resumed.resume_training(read_checkpoint(tmp_path / "states/10.state"))
    path = validate_error(resumed, 15, 0.75)  # better than the state knows, worse than the file
    assert read_checkpoint(path)["facesr"]["best"]["iter"] == 20
    path = validate_error(resumed, 20, 0.25)
    assert (read_checkpoint(path)["params"]["encoder.0.conv.bias"] == 20).all()
    assert read_checkpoint(path)["facesr"]["best"]["iter"] == 20


def test_run_that_starts_again_forgets_the_best_weights(tmp_path: Path) -> None:
    validate_error(build_with_best(tmp_path), 10, 1.0)
    path = validate_error(build_with_best(tmp_path), 5, 2.0)
    assert read_checkpoint(path)["facesr"]["best"]["iter"] == 5


def test_validation_after_the_end_is_that_of_the_last_iteration(tmp_path: Path) -> None:
    model, board = build(tmp_path, METRICS), Mock()
    model.opt["train"]["total_iter"] = 9
    model.validation(DataLoader(Faces(), 5), 11, board, save_img=True)
    assert {call.args[2] for call in board.add_scalar.call_args_list} == {9}
    assert {entry["iter"] for entry in model.best_metric_results["faces"].values()} == {9}
    assert (tmp_path / "pictures/000/000_9.png").is_file()


def test_state_beyond_the_end_is_refused(tmp_path: Path) -> None:
    model = build(tmp_path, None)
    model.opt["train"]["total_iter"] = 9
    for iteration in (9, 10):
        model.save(0, iteration)
    model.resume_training(read_checkpoint(tmp_path / "states" / "9.state"))
    with pytest.raises(
        ValueError, match="^train.total_iter must be at least the iterations .* has, 10, got 9: nothing"
    ):
        model.resume_training(read_checkpoint(tmp_path / "states" / "10.state"))


def test_signal_in_the_last_validation_saves_nothing(tmp_path: Path) -> None:
    model = build(tmp_path, METRICS, logger={"save_checkpoint_freq": 7})
    STOP.begin()
    try:
        model.update_learning_rate(2)
        model.save(-1, -1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert set(validate(model, iteration=101)) == {"psnr", "ssim"}
        assert not (tmp_path / "states").exists()
    finally:
        STOP.end()


def test_signal_in_a_validation_saves_the_iteration_and_lets_it_finish(tmp_path: Path) -> None:
    model = build(tmp_path, METRICS, logger={"save_checkpoint_freq": 100})
    model.opt["train"]["total_iter"] = 9
    STOP.begin()
    try:
        model.update_learning_rate(2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert set(validate(model)) == {"psnr", "ssim"}
        assert [path.name for path in (tmp_path / "states").iterdir()] == ["3.state"]
        state = read_checkpoint(tmp_path / "states" / "3.state")
        assert state["facesr"]["best_metrics"]["faces"]["psnr"]["iter"] == 3
        with pytest.raises(RunStopped):
            model.update_learning_rate(4)
        assert len(list((tmp_path / "states").iterdir())) == 1
    finally:
        STOP.end()
