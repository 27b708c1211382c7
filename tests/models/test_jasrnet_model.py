"""JASRNet's training: terms and heads, targets, what is refused, validation, files, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from torch.utils.data import DataLoader, Dataset

from facesr_plugin.checkpoints import load_weights, read_checkpoint
from facesr_plugin.losses.cpm_loss import stage_distance
from facesr_plugin.metrics.landmark_metric import calculate_nme
from facesr_plugin.models.jasrnet_model import JASRNetModel
from facesr_plugin.ops.heatmap_targets import decode_centroid, render_targets
from facesr_plugin.utils.imageio import read_image
from helpers.tiny_jasrnet import POINTS, SIDE, jasrnet_batch, jasrnet_options

SR_ONLY = [{"landmark_opt": None}, {"landmark_opt": {"type": "CPMLoss", "loss_weight": 0}}]
LANDMARKS_ONLY = [{"pixel_opt": None}, {"pixel_opt": {"type": "L1Loss", "loss_weight": 0}}]
METRICS = {
    "psnr": {"type": "calculate_psnr", "crop_border": 0},
    "nme": {"type": "calculate_nme", "normaliser": "box", "better": "lower"},
}


def step(model: Any, iteration: int, batch: dict[str, Any] | None = None) -> dict[str, float]:
    model.feed_data(batch or jasrnet_batch(iteration))
    model.optimize_parameters(iteration)
    return model.get_current_log()


def heads_called(model: Any) -> list[str]:
    """Fill while the network is called."""
    called: list[str] = []
    model.net_g.register_forward_pre_hook(lambda _net, _args, given: called.append(given["heads"]), with_kwargs=True)
    return called


class Faces(Dataset):
    """Four faces."""

    opt = {"name": "faces"}

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: value[0] for key, value in jasrnet_batch(index, 1).items()}


def test_both_terms_are_those_of_the_batch(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path, landmark_opt={"type": "CPMLoss", "loss_weight": 0.5}))
    batch = jasrnet_batch(1)
    model.feed_data(batch)
    with torch.no_grad():
        sr, heatmaps = model.net_g(model.lq, heads="both")
    targets = render_targets(batch["landmarks"], (SIDE, SIDE))
    log = step(model, 1, batch)
    assert log["l_g_pixel"] == pytest.approx(float((sr - batch["gt"]).abs().mean()), rel=1e-5)
    assert log["l_g_landmark"] == pytest.approx(0.5 * float(stage_distance(heatmaps, *targets)), rel=1e-5)


def test_small_input_is_enlarged_to_the_size_of_the_ground_truth(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path) | {"scale": 4})
    model.feed_data(jasrnet_batch() | {"lq": torch.full((2, 3, SIDE // 4, SIDE // 4), 0.2)})
    assert torch.equal(model.lq, torch.full((2, 3, SIDE, SIDE), 51 / 255))


@pytest.mark.parametrize(("scale", "size"), [(8, (16, 16)), (4, (64, 64)), (4, (30, 24))])
def test_small_input_without_ground_truth_is_enlarged_by_the_scale(
    tmp_path: Path, scale: int, size: tuple[int, int]
) -> None:
    model = build_model(jasrnet_options(tmp_path) | {"scale": scale, "is_train": False})
    model.feed_data({"lq": torch.full((1, 3, *size), 0.2)})
    assert model.lq.shape == (1, 3, scale * size[0], scale * size[1])


@pytest.mark.parametrize("rgb_range", [1, 255])
def test_images_have_the_range_of_the_network(tmp_path: Path, rgb_range: int) -> None:
    options = jasrnet_options(tmp_path)
    options["network_g"]["rgb_range"] = rgb_range
    model = build_model(options)
    batch = jasrnet_batch()
    model.feed_data(batch)
    assert torch.allclose(model.gt, batch["gt"] * rgb_range)
    model.output = model.gt
    assert torch.allclose(model.get_current_visuals()["result"], batch["gt"])


def test_sigma_and_kind_of_the_targets_are_options(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path, sigma=6.0, heatmap="laplacian"))
    batch = jasrnet_batch(1)
    model.feed_data(batch)
    with torch.no_grad():
        heatmaps = model.net_g(model.lq, heads="landmarks")
    targets = render_targets(batch["landmarks"], (SIDE, SIDE), sigma=6.0, kind="laplacian")
    assert step(model, 1, batch)["l_g_landmark"] == pytest.approx(float(stage_distance(heatmaps, *targets)), rel=1e-5)


@pytest.mark.parametrize("train", SR_ONLY)
def test_restoration_alone_needs_no_landmarks_and_skips_their_head(tmp_path: Path, train: dict) -> None:
    model = build_model(jasrnet_options(tmp_path, **train))
    called = heads_called(model)
    batch = jasrnet_batch()
    del batch["landmarks"]
    assert list(step(model, 1, batch)) == ["l_g_pixel"]
    assert called == ["sr"]
    assert all(parameter.grad is None for parameter in model.net_g.stages.parameters())


@pytest.mark.parametrize("train", LANDMARKS_ONLY)
def test_landmarks_alone_skip_the_head_of_restoration(tmp_path: Path, train: dict) -> None:
    model = build_model(jasrnet_options(tmp_path, **train))
    called = heads_called(model)
    assert list(step(model, 1)) == ["l_g_landmark"]
    assert called == ["landmarks"]
    assert all(parameter.grad is None for parameter in model.net_g.skip.parameters())


def test_network_learns_both(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path, optim_g={"type": "Adam", "lr": 3e-3}))
    logs = [step(model, iteration, jasrnet_batch(0)) for iteration in range(1, 41)]
    assert logs[-1]["l_g_pixel"] < 0.5 * logs[0]["l_g_pixel"]
    assert logs[-1]["l_g_landmark"] < 0.7 * logs[0]["l_g_landmark"]


def test_parts_of_the_batch_have_the_gradients_of_the_whole(tmp_path: Path) -> None:
    models = [build_model(jasrnet_options(tmp_path, accumulate=parts)) for parts in (1, 2)]
    models[1].net_g.load_state_dict(models[0].net_g.state_dict())
    logs = [step(model, 1) for model in models]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    for one, other in zip(*(model.net_g.parameters() for model in models), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_unknown_points_have_no_share_in_the_loss(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path))
    batch = jasrnet_batch()
    batch["landmarks"][:, 1:] = torch.nan
    model.feed_data(batch)
    model.optimize_parameters(1)
    biases = [stage[-1].bias.grad for stage in model.net_g.stages]
    assert all(bias[0] != 0 and bias[-1] != 0 and bool((bias[1:-1] == 0).all()) for bias in biases[-1:])
    assert all(torch.isfinite(bias).all() for bias in biases)


def test_batch_without_landmarks_is_refused(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path))
    batch = jasrnet_batch()
    del batch["landmarks"]
    with pytest.raises(ValueError, match=r"a batch must have landmarks .* Name their file in datasets.train.landmarks"):
        step(model, 1, batch)


def test_other_number_of_points_is_refused(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path))
    message = r"landmarks must have 68 points as the network has heatmaps, got 19. Set network_g.num_landmarks: 19"
    with pytest.raises(ValueError, match=message):
        step(model, 1, jasrnet_batch(points=19))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_opt": None, "landmark_opt": None}, "train must have a loss section with a loss_weight above 0"),
        ({"sigma": 0}, "train.sigma must be a positive number of pixels, got 0"),
        ({"sigma": True}, "train.sigma must be a positive number of pixels, got True"),
        ({"heatmap": "disc"}, "train.heatmap must be one of gaussian, laplacian, got 'disc'"),
        ({"heatmap": ["disc"]}, r"train.heatmap must be one of gaussian, laplacian, got \['disc'\]"),
        ({"landmark_opt": {"type": "MSELoss"}}, "train.landmark_opt.type must be CPMLoss, .* got 'MSELoss'"),
        ({"sigmas": 4}, "train has no option 'sigmas', did you mean 'sigma'"),
    ],
)
def test_wrong_training_options_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(jasrnet_options(tmp_path, **changes))


def test_factor_of_the_tail_is_not_that_of_the_reduction(tmp_path: Path) -> None:
    options = jasrnet_options(tmp_path)
    options["network_g"]["upscale"] = 4
    with pytest.raises(ValueError, match=r"network_g.upscale must be 8 .*, got 4. .* is scale, at the top of the file"):
        build_model(options)
    assert (
        list(JASRNetModel.find_problems(jasrnet_options(tmp_path, pixel_opt=None) | {"network_g": {"upscale": 4}}))
        == []
    )


def with_data(folder: Path, scale: Any = 8, **section: Any) -> dict[str, Any]:
    return jasrnet_options(folder) | {"scale": scale, "datasets": {"train": {"type": "FaceSRDataset", **section}}}


@pytest.mark.parametrize(
    ("scale", "size", "message"),
    [
        (8, 100, "datasets.train.gt_size must be a multiple of 8, for the scale 8 and the heatmaps' stride 8, got 100"),
        (
            3,
            None,
            "datasets.train.gt_size must be a multiple of 24, for the scale 3 and the heatmaps' stride 8, got 128",
        ),
        (2.5, 128, "scale must be a whole number, the factor by which faces are reduced, got 2.5"),
    ],
)
def test_sizes_that_cannot_work_are_found(tmp_path: Path, scale: Any, size: int | None, message: str) -> None:
    options = with_data(tmp_path, scale, gt_size=size, landmarks="x.npz")
    assert list(JASRNetModel.find_problems(options)) == [message]


def test_missing_landmarks_are_found(tmp_path: Path) -> None:
    options = with_data(tmp_path)
    (problem,) = JASRNetModel.find_problems(options)
    assert problem.startswith(
        "datasets.train.landmarks must name the landmark file of the faces for train.landmark_opt"
    )
    assert list(JASRNetModel.find_problems(options | {"train": options["train"] | SR_ONLY[1]})) == []


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (SR_ONLY[0], "val.metrics.nme must be ~ without train.landmark_opt: nothing trains what it measures"),
        (LANDMARKS_ONLY[1], "val.metrics.psnr must be ~ without a loss of images: nothing trains what it measures"),
    ],
)
def test_metric_of_a_head_that_nothing_trains_is_found(tmp_path: Path, train: dict, message: str) -> None:
    options = jasrnet_options(tmp_path, **train) | {"val": {"metrics": METRICS}}
    assert list(JASRNetModel.find_problems(options)) == [message]


def test_validation_reports_restoration_and_landmarks(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path) | {"val": {"metrics": METRICS}})
    model.validation(DataLoader(Faces(), 3), 7, None, save_img=True)
    assert list(model.metric_results) == ["psnr", "nme"]
    found, truth = [], []
    for sample in DataLoader(Faces()):
        model.feed_data(sample)
        model.test()
        found.append(decode_centroid(model.heatmaps[-1][:, :POINTS]).points)
        truth.append(sample["landmarks"])
    expected = calculate_nme(torch.cat(found).numpy(), torch.cat(truth).numpy(), normaliser="box")
    assert model.metric_results["nme"] == pytest.approx(expected, rel=1e-4)
    assert read_image(tmp_path / "pictures/3_0/3_0_7.png").shape == (SIDE, SIDE, 3)
    assert read_image(tmp_path / "pictures/3_0/landmarks/3_0_7.png").shape == (256, 256, 3)


@pytest.mark.parametrize("train", [{}, LANDMARKS_ONLY[0]])
def test_validation_leaves_points_beside_the_picture_out_as_training_does(tmp_path: Path, train: dict) -> None:
    model = build_model(jasrnet_options(tmp_path, **train) | {"val": {"metrics": {"nme": METRICS["nme"]}}})

    class Moved(Faces):
        def __getitem__(self, index: int) -> dict[str, Any]:
            sample = super().__getitem__(index)
            sample["landmarks"][0, 0] = self.place
            return sample

    def measure(place: float) -> float:
        faces = Moved()
        faces.place = place
        model.validation(DataLoader(faces, 2), 7, None)
        return model.metric_results["nme"]

    assert measure(-0.5) == measure(SIDE + 0.5) == measure(float("nan"))
    assert measure(0.0) != measure(float("nan")) != measure(SIDE)


@pytest.mark.parametrize(("train", "measured"), [(SR_ONLY[0], "psnr"), (LANDMARKS_ONLY[0], "nme")])
def test_validation_of_one_head_computes_that_alone(tmp_path: Path, train: dict, measured: str) -> None:
    options = jasrnet_options(tmp_path, **train) | {"val": {"metrics": {measured: METRICS[measured]}}}
    model = build_model(options)
    called = heads_called(model)
    model.validation(DataLoader(Faces(), 2), 7, None)
    assert list(model.metric_results) == [measured]
    assert set(called) == {model.heads} != {"both"}


def test_test_measures_both_heads(tmp_path: Path) -> None:
    options = jasrnet_options(tmp_path) | {"is_train": False, "val": {"metrics": METRICS, "suffix": None}}
    model = build_model(options)
    model.validation(DataLoader(Faces()), "faces", None)
    assert list(model.metric_results) == ["psnr", "nme"]


def test_validation_leaves_nothing_of_its_faces(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path))
    model.validation(DataLoader(Faces()), 7, None)
    assert (model.heatmaps, hasattr(model, "lq"), hasattr(model, "gt")) == (None, False, False)


def test_checkpoint_states_network_and_faces(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path) | {"scale": 4})
    step(model, 1)
    model.save(0, 1)
    weights = load_weights(tmp_path / "models/net_g_1.pth")
    assert (weights.system, weights.arch, weights.args["num_feat"]) == ("jasrnet", "JASRNet", 4)
    assert weights.faces["scale"] == 4


@pytest.mark.parametrize("train", [{}, SR_ONLY[0], LANDMARKS_ONLY[0]])
def test_resume_continues_bit_for_bit(tmp_path: Path, train: dict) -> None:
    whole = build_model(jasrnet_options(tmp_path, ema_decay=0.9, **train))
    for iteration in (1, 2):
        step(whole, iteration)
    whole.save(0, 2)
    step(whole, 3)
    options = jasrnet_options(tmp_path, ema_decay=0.9, **train)
    options["path"]["pretrain_network_g"] = str(tmp_path / "models/net_g_2.pth")
    resumed = build_model(options)
    resumed.resume_training(read_checkpoint(tmp_path / "states/2.state"))
    step(resumed, 3)
    for name in ("net_g", "net_g_ema"):
        expected = getattr(whole, name).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in getattr(resumed, name).state_dict().items())


def test_best_landmarks_are_kept_apart_from_the_best_image(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path) | {"val": {"metrics": METRICS}})
    model.validation(DataLoader(Faces()), 1, None)
    with torch.no_grad():
        model.net_g.sr_tail.bias += 10  # ruins the image, not the landmarks
    model.validation(DataLoader(Faces()), 2, None)
    best = model.best_metric_results["faces"]
    assert (best["psnr"]["iter"], best["nme"]["iter"]) == (1, 2)
    assert np.isfinite(best["nme"]["val"])
