"""Progressive FSR's model: stages, order inside an iteration, what is computed, validation, files, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from PIL import Image

from facesr_plugin.checkpoints import read_checkpoint
from facesr_plugin.data.transforms import make_lq
from helpers.progressive_runs import progressive_options

FADING = 3  # the first iteration at scale 4


def build(folder: Path, **train: Any) -> Any:
    torch.manual_seed(0)
    return build_model(progressive_options(folder, **train))


def faces(seed: int = 0, number: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.array(Image.fromarray(face).resize((32, 32), Image.Resampling.BICUBIC)) for face in small])


def batch(model: Any, seed: int = 0, number: int = 3) -> dict[str, Any]:
    gt = faces(seed, number)
    lq = np.stack([make_lq(face, 8, model.card.reduction) for face in gt])
    tensors = {name: torch.from_numpy(v).permute(0, 3, 1, 2) / 255 for name, v in (("lq", lq), ("gt", gt))}
    return {**tensors, "lq_path": [f"{i}.png" for i in range(number)]}


def step(model: Any, iteration: int) -> None:
    model.feed_data(batch(model, iteration))
    model.optimize_parameters(iteration)


def states(model: Any) -> dict[str, torch.Tensor]:
    names = [name for name in ("net_g", "net_g_ema", "net_d") if hasattr(model, name)]
    return {f"{name}.{key}": v.clone() for name in names for key, v in getattr(model, name).state_dict().items()}


class Loader(list):
    """Batches of one image, as BasicSR's validation takes them."""

    class dataset:  # noqa: N801  BasicSR's name
        opt = {"name": "faces"}


def test_iterations_run_through_the_stages(tmp_path: Path) -> None:
    model, seen = build(tmp_path), []
    for iteration in range(1, 9):
        step(model, iteration)
        log = model.get_current_log()
        seen.append((log["step"], log["alpha"], model.output.shape[-1], sorted(k[2:] for k in log if k[:2] == "l_")))
    first = ["d_fake", "d_penalty", "d_real", "g_gan", "g_pixel"]
    second = sorted([*first, "g_attention", "g_heatmap"])
    third = ["g_attention", "g_pixel"]
    expected = [(1, 1.0, 8, first)] * 2 + [(2, a, 16, second) for a in (0.0, 0.5, 1.0)]
    assert seen == expected + [(3, a, 32, third) for a in (0.0, 0.5, 1.0)]


@pytest.mark.parametrize(("iteration", "factor"), [(1, 4), (FADING, 2), (6, 1)])
def test_ground_truth_of_a_stage_is_the_chain_of_the_data_sets(tmp_path: Path, iteration: int, factor: int) -> None:
    model = build(tmp_path)
    step(model, iteration)
    expected = np.stack([make_lq(face, factor, model.card.reduction) for face in faces(iteration)])
    assert np.array_equal(((model.gt + 1) * 127.5).round().permute(0, 2, 3, 1).numpy(), expected)


def test_terms_are_weighted_by_the_stage_and_the_section(tmp_path: Path) -> None:
    model = build(tmp_path, pixel_opt={"type": "L1Loss", "loss_weight": 2.0})
    seen = []
    model.update_generator = lambda: seen.append((model.output - model.gt).abs().mean())
    step(model, 1)
    assert model.get_current_log()["l_g_pixel"] == pytest.approx(20 * float(seen[0]), rel=1e-5)


def test_critic_judges_what_the_generator_makes_after_its_step(tmp_path: Path) -> None:
    model = build(tmp_path)
    seen = []
    model.net_d.register_forward_pre_hook(lambda _net, images: seen.append(images[0]))
    step(model, FADING)
    before, judged, _penalty = seen
    model.net_g.train()
    with torch.no_grad():
        after = model.predict(model.net_g)
    assert torch.equal(judged, torch.cat([after, model.gt]))
    assert before.requires_grad
    assert not torch.equal(before, after)


def test_passes_of_the_critic_are_not_merged_where_devices_would_divide_them(tmp_path: Path) -> None:
    model = build(tmp_path)
    step(model, FADING)
    merged = model._scores()
    model.net_d = torch.nn.DataParallel(model.net_d)
    for one, other in zip(merged, model._scores(), strict=True):
        assert one.shape == (3,)
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_statistics_of_batch_norm_move_twice_in_an_iteration(tmp_path: Path) -> None:
    model = build(tmp_path)
    step(model, 1)
    assert model.net_g.head_norm.num_batches_tracked == 2


def test_critic_stands_still_in_a_stage_without_it(tmp_path: Path) -> None:
    model = build(tmp_path)
    before = states(model)
    step(model, 6)
    moved = {key.partition(".")[0] for key, value in states(model).items() if not torch.equal(value, before[key])}
    assert moved == {"net_g"}
    assert model.net_g.head_norm.num_batches_tracked == 1


@pytest.mark.parametrize(("iteration", "passes"), [(1, 0), (FADING, 2), (6, 1)])
def test_landmarks_are_found_once_for_both_losses(tmp_path: Path, iteration: int, passes: int) -> None:
    model, seen = build(tmp_path), []
    attention, heatmap = (model.criteria[name].aligner for name in ("attention", "heatmap"))
    attention.register_forward_hook(lambda *_: seen.append(1))
    step(model, iteration)
    assert attention is heatmap
    assert len(seen) == passes


def test_sharing_the_heatmaps_does_not_change_the_losses(tmp_path: Path) -> None:
    model = build(tmp_path)
    step(model, FADING)
    shared = model._image_losses(["attention", "heatmap"])
    for name, value in shared.items():
        assert torch.equal(value, model.criteria[name](model.output, model.gt))


def test_parameters_of_later_steps_do_not_move(tmp_path: Path) -> None:
    model = build(tmp_path)
    before = states(model)
    step(model, 1)
    later = [key for key in before if ".stages.1." in key or ".stages.2." in key]
    assert later
    assert all(torch.equal(states(model)[key], before[key]) for key in later)
    assert len(model.optimizer_g.state) < len(list(model.net_g.parameters()))


def test_average_follows_parameters_and_statistics(tmp_path: Path) -> None:
    model = build(tmp_path, ema_decay=0.5)
    before = states(model)
    updated = []
    update, model.model_ema = model.model_ema, lambda decay: (updated.append(states(model)), update(decay))
    step(model, 1)
    for key in ("head.weight", "head_norm.running_mean"):
        expected = (before[f"net_g_ema.{key}"] + updated[0][f"net_g.{key}"]) / 2
        assert torch.allclose(states(model)[f"net_g_ema.{key}"], expected)


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6])
def test_resumed_run_ends_in_the_bits_of_the_whole_one(tmp_path: Path, stop: int) -> None:
    whole = build(tmp_path, ema_decay=0.9)
    for iteration in range(1, 9):
        if iteration == stop + 1:
            whole.save(0, stop)
        step(whole, iteration)
    made = progressive_options(tmp_path, ema_decay=0.9)
    made["path"] |= {f"pretrain_network_{side}": str(tmp_path / f"models/net_{side}_{stop}.pth") for side in "gd"}
    resumed = build_model(made)
    resumed.resume_training(read_checkpoint(tmp_path / f"states/{stop}.state"))
    for iteration in range(stop + 1, 9):
        step(resumed, iteration)
    expected = states(whole)
    assert all(torch.equal(value, expected[key]) for key, value in states(resumed).items())


def test_checkpoint_says_how_the_generator_is_called(tmp_path: Path) -> None:
    model = build(tmp_path)
    step(model, 4)
    model.save(0, 4)
    assert read_checkpoint(tmp_path / "models/net_g_4.pth")["facesr"]["call"] == {"step": 2, "alpha": 0.5}
    assert "call" not in read_checkpoint(tmp_path / "models/net_d_4.pth")["facesr"]


def test_a_test_calls_the_generator_as_its_file_says(tmp_path: Path) -> None:
    trained = build(tmp_path)
    step(trained, 4)
    trained.save(0, 4)
    made = progressive_options(tmp_path)
    made |= {"is_train": False, "path": {"pretrain_network_g": str(tmp_path / "models/net_g_4.pth")}}
    model = build_model(made)
    model.validation(Loader([batch(model, number=1)]), "name", None)
    trained.validation(Loader([batch(trained, number=1)]), 4, None)
    assert model.call == {"step": 2, "alpha": 0.5}
    assert model.metric_results == trained.metric_results


def test_resumed_run_that_was_finished_saves_the_place_of_its_end(tmp_path: Path) -> None:
    model = build(tmp_path)
    model.save(0, 8)
    model.resume_training(read_checkpoint(tmp_path / "states/8.state"))
    model.save(-1, -1)
    assert read_checkpoint(tmp_path / "models/net_g_latest.pth")["facesr"]["call"] == {"step": 3, "alpha": 1.0}


@pytest.mark.parametrize(("iteration", "factor"), [(2, 4), (5, 2), (9, 1)])
def test_validation_compares_in_the_size_of_the_stage(tmp_path: Path, iteration: int, factor: int) -> None:
    model = build(tmp_path)
    loader = Loader([batch(model, number=1)])
    model.validation(loader, iteration, None)
    gt = make_lq(faces(number=1)[0], factor, model.card.reduction)
    with torch.no_grad():
        sr = model.net_g.eval()(loader[0]["lq"] * 2 - 1, **model.call)
    level = ((sr + 1) * 127.5).round().clamp(0, 255)[0].permute(1, 2, 0).numpy().astype(np.float64)
    assert model.metric_results["psnr"] == pytest.approx(10 * np.log10(255**2 / ((level - gt) ** 2).mean()), abs=1e-3)


def test_best_metric_begins_anew_in_each_stage(tmp_path: Path) -> None:
    model = build(tmp_path)
    model.best_metric_results = {"faces": {"psnr": {"better": "higher", "val": 99.0, "iter": 2}}}
    model.validation(Loader([batch(model, number=1)]), 3, None)
    best = dict(model.best_metric_results["faces"]["psnr"])
    assert best["iter"] == 3
    assert best["val"] < 99
    model.best_metric_results["faces"]["psnr"]["val"] = 99.0
    model.validation(Loader([batch(model, number=1)]), 4, None)
    assert model.best_metric_results["faces"]["psnr"] == {"better": "higher", "val": 99.0, "iter": 3}


def test_faces_smaller_than_the_result_are_refused(tmp_path: Path) -> None:
    model = build(tmp_path)
    data = batch(model)
    model.feed_data({**data, "gt": data["gt"][..., ::2, ::2]})
    with pytest.raises(ValueError, match="gt must have 32 pixels or a multiple, as the result of 4 pixels, got 16"):
        model.optimize_parameters(6)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"accumulate": 2}, "train.accumulate must be 1: the critic compares the images of a whole batch, got 2"),
        ({"total_iter": 9}, r"train.total_iter must be the sum of the stages' iters, 2 \+ 3 \+ 3 = 8, got 9"),
        ({"heatmap_opt": None}, r"train.stages\[1\].weights has no loss 'heatmap'"),
        ({"stages": None}, "train.stages must be a list of at least one stage, got None"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, train: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(tmp_path, **train)
