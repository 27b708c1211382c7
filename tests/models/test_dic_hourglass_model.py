"""Pretraining of DIC's landmark branch: terms over the recurrent steps, learning, validation, files, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from basicsr.models import build_model

from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import load_weights
from facesr_plugin.ops.heatmap import render_gaussian
from facesr_plugin.ops.protocol import normalise
from helpers.dic_runs import SIDE, Loader, batch, dic_options, moved, save_hourglass, states
from helpers.options import model_options


def options(folder: Path, **train: Any) -> dict[str, Any]:
    made = model_options(folder, **{"pixel_opt": None, "heatmap_opt": {"type": "MSELoss"}, "num_steps": 2, **train})
    made |= {"model_type": "DICHourglassModel", "network_g": {"type": "FeedbackHourglass", "num_feat": 4}}
    made["path"]["visualization"] = str(folder / "pictures")
    return made


def faces(seed: int = 0) -> dict[str, Any]:
    """A batch as ``LandmarkDataset`` gives it."""
    data = batch(seed)
    return {"lq": data["gt"], "landmarks": data["landmarks"], "lq_path": data["lq_path"]}


def from_weights(folder: Path, **train: Any) -> Any:
    save_hourglass(folder / "hourglass.pth")
    made = options(folder, **train)
    made["path"]["pretrain_network_g"] = str(folder / "hourglass.pth")
    return build_model(made)


def test_term_is_a_sum_over_the_recurrent_steps(tmp_path: Path) -> None:
    model, data = from_weights(tmp_path, sigma=1.5), faces()
    images = normalise(data["lq"], get_card("dic"))
    with torch.no_grad():
        first, hidden = model.net_g(images)
        second, _ = model.net_g(images, hidden)
    targets = render_gaussian(data["landmarks"] / 4, (SIDE // 4, SIDE // 4), 1.5)
    model.feed_data(data)
    model.optimize_parameters(1)
    expected = F.mse_loss(first, targets) + F.mse_loss(second, targets)
    assert model.get_current_log() == {"l_g_heatmap": pytest.approx(float(expected), rel=1e-5)}
    assert model.steps == []


def test_network_leaves_the_plateau_of_empty_heatmaps(tmp_path: Path) -> None:
    made = options(tmp_path, optim_g={"type": "Adam", "lr": 5e-3})
    made["network_g"] |= {"num_feat": 16, "num_landmarks": 5}
    torch.manual_seed(0)
    model, data = build_model(made), batch(num_landmarks=5)
    data = {"lq": data["gt"], "landmarks": data["landmarks"] / 2 + 16}
    for iteration in range(1, 41):
        model.feed_data(data)
        model.optimize_parameters(iteration)
    of_empty = 2 * float(render_gaussian(data["landmarks"] / 4, (SIDE // 4, SIDE // 4), 1.0).square().mean())
    assert model.get_current_log()["l_g_heatmap"] < 0.8 * of_empty


def test_gradients_in_parts_are_those_of_the_batch(tmp_path: Path) -> None:
    found = []
    for parts in (1, 2):
        model = from_weights(tmp_path, accumulate=parts)
        model.feed_data(faces())
        model.optimize_parameters(1)
        found.append({name: value.grad for name, value in model.net_g.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_validation_measures_every_step_if_wanted(tmp_path: Path) -> None:
    nme = {"type": "calculate_nme", "normaliser": "inter_ocular", "better": "lower"}
    model = build_model(options(tmp_path) | {"val": {"steps": True, "metrics": {"nme": nme}}})
    model.validation(Loader([faces()]), 7, None, save_img=True)
    assert model.metric_results.keys() == {"nme", "nme_step1", "nme_step2"}
    assert model.metric_results["nme"] == model.metric_results["nme_step2"]
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["0_0_7.png", "0_1_7.png"]
    assert model.steps == []


def test_checkpoint_starts_the_hourglass_of_dic(tmp_path: Path) -> None:
    model = from_weights(tmp_path)
    model.feed_data(faces())
    model.optimize_parameters(1)
    model.save(0, 1)
    path = tmp_path / "models/net_g_1.pth"
    assert load_weights(path).arch == "FeedbackHourglass"
    made = dic_options(tmp_path / "dic", hourglass_freeze_iter=-1)
    made["path"] |= {"pretrain_network_g": None, "pretrain_network_hourglass": str(path)}
    expected = model.net_g.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in build_model(made).net_g.hourglass.state_dict().items())


def test_a_test_needs_no_training_section(tmp_path: Path) -> None:
    save_hourglass(tmp_path / "hourglass.pth")
    made = options(tmp_path)
    made |= {"is_train": False, "val": {"suffix": None}}
    made["path"]["pretrain_network_g"] = str(tmp_path / "hourglass.pth")
    del made["train"]
    model = build_model(made)
    model.feed_data(faces())
    model.test()
    assert len(model.steps) == 4


def test_same_run_twice_gives_the_same_bits(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        model = from_weights(tmp_path)
        model.feed_data(faces())
        model.optimize_parameters(1)
        found.append(states(model))
    assert moved(*found) == set()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"num_steps": 0}, "train.num_steps must be at least 1, got 0"),
        ({"sigma": 0.0}, "train.sigma must be a positive number of heatmap pixels, got 0.0"),
        ({"heatmap_opt": None}, "train must have at least one loss section such as pixel_opt, got none"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, train: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(options(tmp_path, **train))


def test_data_without_landmarks_are_refused(tmp_path: Path) -> None:
    made = options(tmp_path)
    made["datasets"] = {"train": {"landmarks": False}}
    with pytest.raises(ValueError, match="datasets.train.landmarks must not be false: there would be nothing to learn"):
        build_model(made)
