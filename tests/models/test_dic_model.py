"""DIC's model: terms over the steps, the hourglass's start and release, landmarks, validation, refusals, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from basicsr.models import build_model

from facesr_plugin.checkpoints import load_weights, read_checkpoint, save_official
from facesr_plugin.models import dic_heatmaps
from facesr_plugin.models.dic_model import DICModel
from facesr_plugin.ops.heatmap import render_gaussian
from helpers.dic_runs import Loader, batch, dic_options, moved, save_hourglass, states, step
from helpers.tiny_dic import tiny_dic

RECOVERY = {"net_g.head", "net_g.first_block", "net_g.block", "net_g.tail_up", "net_g.tail"}


def build(folder: Path, **train: Any) -> Any:
    return build_model(dic_options(folder, **train))


def test_terms_are_sums_over_the_steps(tmp_path: Path) -> None:
    model = build(tmp_path, sigma=1.5)
    model.feed_data(batch())
    with torch.no_grad():
        sr, heatmaps = model.net_g(model.lq, every_step=True)
    targets = render_gaussian(batch()["landmarks"] / 4, (16, 16), 1.5)
    model.optimize_parameters(1)
    log = model.get_current_log()
    assert list(log) == ["l_g_pixel", "l_g_align"]
    assert log["l_g_pixel"] == pytest.approx(sum(float(F.l1_loss(one, model.gt)) for one in sr))
    assert log["l_g_align"] == pytest.approx(0.1 * sum(float(F.mse_loss(one, targets)) for one in heatmaps))


def test_other_terms_are_of_the_last_image(tmp_path: Path) -> None:
    model = build(tmp_path, more_opt={"type": "L1Loss", "loss_weight": 2.0})
    step(model, 1)
    assert model.get_current_log()["l_g_more"] == pytest.approx(2 * float(F.l1_loss(model.output, model.gt)))


@pytest.mark.parametrize(("freeze", "first"), [(0, 1), (2, 3), (-1, None)])
def test_hourglass_learns_after_the_iterations_stated(tmp_path: Path, freeze: int, first: int | None) -> None:
    model = build(tmp_path, hourglass_freeze_iter=freeze)
    for iteration in (1, 2, 3):
        before = states(model)
        step(model, iteration)
        learns = first is not None and iteration >= first
        assert moved(before, states(model)) == RECOVERY | ({"net_g.hourglass"} if learns else set())
        assert all((value.grad is not None) == learns for value in model.net_g.hourglass.parameters())


def test_gradients_in_parts_are_those_of_the_batch(tmp_path: Path) -> None:
    found = []
    for parts in (1, 2):
        model = build(tmp_path, accumulate=parts)
        step(model, 1, number=4)
        found.append({name: value.grad for name, value in model.net_g.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_steps_are_forgotten_after_an_iteration(tmp_path: Path) -> None:
    model = build(tmp_path)
    step(model, 1)
    assert model.steps is None
    assert model.output.grad_fn is None


def test_run_without_landmarks_trains_on_images_alone(tmp_path: Path) -> None:
    model, data = build(tmp_path, align_opt=None), batch()
    del data["landmarks"]
    model.feed_data(data)
    model.optimize_parameters(1)
    assert list(model.get_current_log()) == ["l_g_pixel"]


# The hourglass's start


def from_hourglass(folder: Path, **train: Any) -> dict[str, Any]:
    made = dic_options(folder, hourglass_freeze_iter=5, **train)
    made["path"] |= {"pretrain_network_g": None, "pretrain_network_hourglass": str(folder / "hourglass.pth")}
    return made


def test_hourglass_starts_from_its_own_file(tmp_path: Path) -> None:
    made = from_hourglass(tmp_path, ema_decay=0.9)
    expected = save_hourglass(tmp_path / "hourglass.pth")
    model = build_model(made)
    for net in (model.net_g, model.net_g_ema):
        assert all(torch.equal(value, expected[key]) for key, value in net.hourglass.state_dict().items())


@pytest.mark.parametrize("dialect", ["official", "mmagic"])
@pytest.mark.parametrize("source", ["own.pth", "start.pth"])
def test_hourglass_starts_from_files_of_other_programs(tmp_path: Path, source: str, dialect: str) -> None:
    made = from_hourglass(tmp_path)
    hourglasses = {"own.pth": save_hourglass(tmp_path / "own.pth"), "start.pth": tiny_dic().hourglass.state_dict()}
    save_official(tmp_path / "hourglass.pth", load_weights(tmp_path / source), dialect)
    found = build_model(made).net_g.hourglass.state_dict()
    assert all(torch.equal(value, hourglasses[source][key]) for key, value in found.items())


@pytest.mark.parametrize(("name", "value"), [("hourglass_feat", 8), ("num_landmarks", 194)])
def test_hourglass_of_another_size_is_refused(tmp_path: Path, name: str, value: int) -> None:
    made = from_hourglass(tmp_path)
    save_hourglass(tmp_path / "hourglass.pth")
    made["network_g"][name] = value
    message = (
        r"hourglass.pth does not fit the options of FeedbackHourglass: it holds .*'num_landmarks': 68, 'num_feat': 4"
    )
    with pytest.raises(ValueError, match=message):
        build_model(made)


def test_resumed_run_does_not_read_the_hourglass_again(tmp_path: Path) -> None:
    made = from_hourglass(tmp_path)
    made["path"] |= {"pretrain_network_g": str(tmp_path / "start.pth"), "resume_state": "5.state"}
    save_hourglass(tmp_path / "hourglass.pth")
    expected = load_weights(tmp_path / "start.pth").state_dict
    assert all(torch.equal(v, expected[k]) for k, v in build_model(made).net_g.state_dict().items())


# Refusals


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"pixel_opt": None}, "train.pixel_opt must be a section, the loss of every step's image, got none"),
        ({"sigma": 0}, "train.sigma must be a positive number of heatmap pixels, got 0"),
        ({"sigma": "1e-1"}, "train.sigma must be a positive number of heatmap pixels, got '1e-1'"),
        ({"hourglass_freeze_iter": None}, "train.hourglass_freeze_iter must be an integer, got None"),
        ({"hourglass_freeze_iter": -2}, "train.hourglass_freeze_iter must be at least -1, got -2"),
        ({"allign_opt": {"type": "MSELoss"}}, "train.allign_opt must not be so like align_opt, whose name decides"),
        ({"sigmas": 1}, "train has no option 'sigmas', did you mean 'sigma'?"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, train: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        build(tmp_path, **train)


def test_all_wrong_numbers_are_reported_together(tmp_path: Path) -> None:
    found = list(DICModel.find_problems(dic_options(tmp_path, sigma=0, hourglass_freeze_iter=-2)))
    assert [problem.split()[0] for problem in found] == ["train.sigma", "train.hourglass_freeze_iter"]


def test_untrained_hourglass_is_not_frozen(tmp_path: Path) -> None:
    made = dic_options(tmp_path, hourglass_freeze_iter=2)
    made["path"]["pretrain_network_g"] = None
    message = r"hourglass_freeze_iter must be 0 without weights of the hourglass, .* got 2. Pretrain it \(opt"
    with pytest.raises(ValueError, match=message):
        build_model(made)
    made["train"]["hourglass_freeze_iter"] = 0
    build_model(made)


def test_two_sources_of_the_hourglass_are_refused(tmp_path: Path) -> None:
    made = dic_options(tmp_path)
    made["path"]["pretrain_network_hourglass"] = "hourglass.pth"
    with pytest.raises(ValueError, match=r"hourglass must be empty with path.pretrain_network_g, whose file has an"):
        build_model(made)


def test_data_without_landmarks_are_refused_before_the_run(tmp_path: Path) -> None:
    made = dic_options(tmp_path)
    made["datasets"] = {"train": {"type": "FaceSRDataset", "landmarks": None}}
    with pytest.raises(ValueError, match=r"datasets.train.landmarks must name the landmark file .* got none. `facesr"):
        build_model(made)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"scale": 4}, "scale must be 8, the only one that DICNet has, got 4"),
        ({"datasets": {"val": {"gt_size": 96}}}, r"datasets.val.gt_size must be a multiple of 64, .* got 96"),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_the_run(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(dic_options(tmp_path) | more)


def test_batch_without_landmarks_or_with_others_is_refused(tmp_path: Path) -> None:
    model, data = build(tmp_path), batch(num_landmarks=5)
    model.feed_data(data)
    with pytest.raises(ValueError, match=r"must have 68 points .* got 5. Set network_g.num_landmarks: 5, or"):
        model.optimize_parameters(1)
    del data["landmarks"]
    model.feed_data(data)
    with pytest.raises(ValueError, match="a batch must have landmarks for the heatmaps to learn, got none. Name"):
        model.optimize_parameters(1)


def test_sides_that_the_hourglass_cannot_halve_are_refused(tmp_path: Path) -> None:
    model = build(tmp_path)
    model.feed_data({"lq": torch.rand(1, 3, 12, 12), "gt": torch.rand(1, 3, 96, 96), "landmarks": torch.rand(1, 68, 2)})
    with pytest.raises(ValueError, match=r"lq must have sides that are multiples of 8, got \(12, 12\)"):
        model.optimize_parameters(1)


# Validation


def validated(folder: Path, data: dict[str, Any], **val: Any) -> Any:
    made = dic_options(folder)
    made["val"] = {"metrics": {"psnr": {"type": "calculate_dic_psnr"}, **val.pop("metrics", {})}, **val}
    model = build_model(made)
    model.calls = []
    model.net_g.hourglass.register_forward_hook(lambda *_: model.calls.append(1))
    model.validation(Loader([data]), 1, None)
    return model


def test_validation_measures_every_step_if_wanted(tmp_path: Path) -> None:
    nme = {"nme": {"type": "calculate_nme", "normaliser": "inter_ocular", "better": "lower"}}
    found = validated(tmp_path, batch(), steps=True, metrics=nme).metric_results
    names = ["", "_step1", "_step2", "_step3"]
    assert sorted(found) == sorted(f"{metric}{name}" for metric in ("psnr", "nme") for name in names)
    assert (found["psnr"], found["nme"]) == (found["psnr_step3"], found["nme_step3"])
    assert found["psnr_step1"] != found["psnr_step3"]


def test_last_landmarks_are_not_looked_for_unless_they_are_measured(tmp_path: Path) -> None:
    data = batch()
    assert len(validated(tmp_path, data).calls) == 3
    del data["landmarks"]
    model = validated(tmp_path, data)
    assert len(model.calls) == 2
    assert model.steps is None


def test_missing_landmarks_of_a_validation_are_said_of_the_data_set(tmp_path: Path) -> None:
    data = batch()
    del data["landmarks"]
    with pytest.raises(ValueError, match="val.metrics.nme needs the true landmarks, which the data set does not"):
        validated(tmp_path, data, metrics={"nme": {"type": "calculate_nme"}})


def test_landmarks_found_are_those_of_the_heatmaps(tmp_path: Path) -> None:
    model = build(tmp_path)
    model.feed_data(batch())
    points = torch.randint(2, 14, (2, 68, 2)).float()
    model.net_g.hourglass.forward = lambda *_: (render_gaussian(points, (16, 16), 1.0), None)
    model.test()
    assert torch.equal(model.current_results()[""].landmarks, 4 * points)


def test_landmarks_of_earlier_steps_are_not_looked_for_unless_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    found = dic_heatmaps.find_landmarks
    monkeypatch.setattr(dic_heatmaps, "find_landmarks", lambda *args: calls.append(1) or found(*args))
    validated(tmp_path, batch())
    assert len(calls) == 1


# Resume


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_run_ends_in_the_bits_of_the_whole_one(tmp_path: Path, stop: int) -> None:
    train = {"hourglass_freeze_iter": 2, "ema_decay": 0.9}
    whole = build(tmp_path, **train)
    for iteration in range(1, 6):
        if iteration == stop + 1:
            whole.save(0, stop)
        step(whole, iteration)
    made = dic_options(tmp_path, **train)
    made["path"] |= {"pretrain_network_g": str(tmp_path / f"models/net_g_{stop}.pth"), "resume_state": "x.state"}
    resumed = build_model(made)
    resumed.resume_training(read_checkpoint(tmp_path / f"states/{stop}.state"))
    for iteration in range(stop + 1, 6):
        step(resumed, iteration)
    assert moved(states(whole), states(resumed)) == set()
