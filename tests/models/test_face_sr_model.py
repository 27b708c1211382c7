"""The base model: one iteration, moving averages, files, resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from basicsr.models import build_model

from facesr_plugin.checkpoints import load_weights, read_checkpoint
from facesr_plugin.utils.resume import POSITION
from facesr_plugin.utils.weights import WEIGHTS, KnownWeights
from helpers.options import model_options


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "lq": torch.randint(0, 256, (2, 3, 4, 4), generator=generator) / 255,
        "gt": torch.randint(0, 256, (2, 3, 32, 32), generator=generator) / 255,
    }


def step(model: object, iteration: int) -> None:
    model.feed_data(batch(iteration))
    model.optimize_parameters(iteration)


def test_feed_data_upsamples_the_small_input_and_maps_to_the_range_of_the_card(tmp_path: Path) -> None:
    model = build_model(model_options(tmp_path))
    model.feed_data(batch())
    assert model.lq.shape == model.gt.shape == (2, 3, 32, 32)
    assert torch.allclose(model.gt, batch()["gt"] * 2 - 1, atol=1e-6)


def test_iteration_logs_the_weighted_terms_by_name(tmp_path: Path) -> None:
    model = build_model(model_options(tmp_path, pixel_opt={"type": "L1Loss", "loss_weight": 3.0}))
    step(model, 1)
    expected = 3 * (model.output - model.gt).abs().mean()
    assert model.get_current_log() == {"l_g_pixel": pytest.approx(float(expected.detach()), rel=1e-5)}


def test_iteration_does_not_depend_on_draws_between_iterations(tmp_path: Path) -> None:
    model = build_model(model_options(tmp_path))
    draws = []
    for disturb in (0, 3):
        torch.rand(disturb)
        step(model, 5)
        draws.append(torch.rand(2))
    assert torch.equal(*draws)


def test_ema_follows_parameters_and_batch_norm_statistics(tmp_path: Path) -> None:
    model = build_model(model_options(tmp_path, ema_decay=0.5))
    key = "encoder.1.norm.running_mean"
    before = model.net_g_ema.state_dict()[key].clone()
    step(model, 1)
    now = model.net_g.state_dict()
    assert torch.allclose(model.net_g_ema.state_dict()[key], (before + now[key]) / 2)
    assert torch.equal(model.net_g_ema.state_dict()["encoder.1.norm.num_batches_tracked"], torch.tensor(1))


def test_ema_of_spectral_norm_keeps_the_size_of_the_output(tmp_path: Path) -> None:
    options = model_options(tmp_path, ema_decay=0.5)
    options["network_g"].update(norm_type="in", spectral_norm=True)
    model = build_model(options)
    for iteration in range(1, 6):
        step(model, iteration)
    model.feed_data(batch())
    model.test()
    own = model.net_g.eval()(model.lq).abs().max()
    assert model.output.abs().max() < 10 * own


def test_test_leaves_the_network_in_its_mode_and_its_statistics_alone(tmp_path: Path) -> None:
    model = build_model(model_options(tmp_path))
    model.feed_data(batch())
    before = {key: value.clone() for key, value in model.net_g.state_dict().items()}
    model.test()
    assert model.net_g.training
    assert all(torch.equal(before[key], value) for key, value in model.net_g.state_dict().items())


def test_visuals_are_images_in_eight_bit_steps_rounded_as_the_card_says(tmp_path: Path) -> None:
    model = build_model(model_options(tmp_path))
    model.feed_data(batch())
    model.output = torch.full((2, 3, 32, 32), 2 * 100.9 / 255 - 1)
    visuals = model.get_current_visuals()
    assert torch.allclose(visuals["result"] * 255, torch.tensor(100.0))
    assert torch.allclose(visuals["gt"], batch()["gt"], atol=1e-6)


def test_checkpoint_says_what_it_holds_and_loads_again(tmp_path: Path) -> None:
    model = build_model(model_options(tmp_path, ema_decay=0.9))
    step(model, 1)
    model.save(0, 1)
    path = tmp_path / "models/net_g_1.pth"
    content = read_checkpoint(path)
    assert set(content) == {"params", "params_ema", "facesr"}
    assert content["facesr"]["args"]["res_depth"] == 0
    assert content["facesr"]["args"]["norm_type"] == "bn"
    weights = load_weights(path, prefer="params_ema")
    assert weights.system == "sparnet"
    assert torch.equal(weights.state_dict["tail.conv.weight"], model.net_g_ema.state_dict()["tail.conv.weight"])


def test_resume_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = build_model(model_options(tmp_path, ema_decay=0.9))
    for iteration in range(1, 3):
        step(whole, iteration)
    whole.save(0, 2)
    for iteration in range(3, 5):
        step(whole, iteration)

    options = model_options(tmp_path, ema_decay=0.9)
    options["path"]["pretrain_network_g"] = str(tmp_path / "models/net_g_2.pth")
    resumed = build_model(options)
    resumed.resume_training(read_checkpoint(tmp_path / "states/2.state"))
    for iteration in range(3, 5):
        step(resumed, iteration)
    for name in ("net_g", "net_g_ema"):
        expected = getattr(whole, name).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in getattr(resumed, name).state_dict().items())


def test_state_keeps_place_seed_and_best_metrics(tmp_path: Path) -> None:
    model = build_model(model_options(tmp_path))
    POSITION.start(3)
    step(model, 1)
    model.best_metric_results = {"val": {"psnr": {"better": "higher", "val": 30.0, "iter": 1}}}
    model.save(3, 1)
    run = read_checkpoint(tmp_path / "states/1.state")["facesr"]
    assert (run["manual_seed"], run["epoch"], run["samples"]) == (7, 3, 2)
    assert run["best_metrics"]["val"]["psnr"]["val"] == 30.0


def test_failed_save_is_an_error_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(model_options(tmp_path))
    model.save(0, 1)
    before = (tmp_path / "models/net_g_1.pth").read_bytes()

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.save(0, 1)
    assert (tmp_path / "models/net_g_1.pth").read_bytes() == before
    assert len(list((tmp_path / "models").iterdir())) == 1


def test_unknown_train_key_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train has no option 'ema_deacy', did you mean 'ema_decay'"):
        build_model(model_options(tmp_path, ema_deacy=0.9))


def test_betas_of_the_optimiser_may_be_whole_numbers(tmp_path: Path) -> None:
    model = build_model(model_options(tmp_path, optim_g={"type": "Adam", "lr": 1e-3, "betas": [0, 0.99]}))
    step(model, 1)
    assert model.optimizer_g.defaults["betas"] == (0.0, 0.99)


@pytest.mark.parametrize(("limit", "largest"), [(0, 1.0), (1e-5, 1e-5)])
def test_gradients_are_clipped_by_value(tmp_path: Path, limit: float, largest: float) -> None:
    models = [build_model(model_options(tmp_path, clip_grad_value=value, ema_decay=0)) for value in (0, limit)]
    models[1].net_g.load_state_dict(models[0].net_g.state_dict())
    for model in models:
        step(model, 1)
    for free, clipped in zip(models[0].net_g.parameters(), models[1].net_g.parameters(), strict=True):
        assert torch.equal(clipped.grad, free.grad.clamp(-largest, largest))


def test_negative_limit_of_gradients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.clip_grad_value must be 0 \(off\) or more, got -1"):
        build_model(model_options(tmp_path, clip_grad_value=-1))


def test_training_without_a_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one loss section"):
        build_model(model_options(tmp_path, pixel_opt=None))


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    build_model(model_options(tmp_path)).save(0, 1)
    options = model_options(tmp_path)
    options["network_g"]["max_ch"] = 16
    options["path"]["pretrain_network_g"] = str(tmp_path / "models/net_g_1.pth")
    with pytest.raises(ValueError, match="does not fit the options of SPARNet"):
        build_model(options)


def test_weights_of_the_list_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setitem(WEIGHTS, "small", KnownWeights("net_g_1.pth", None, None, "tests", "none", "nowhere"))
    options = model_options(tmp_path)
    options["path"]["pretrain_network_g"] = "small"
    with pytest.raises(FileNotFoundError, match=r"net_g_1.pth \(tests\) is not in .* Put nowhere into"):
        build_model(options)
    saved = build_model(model_options(tmp_path))
    saved.save(0, 1)
    (tmp_path / "models").rename(tmp_path / "weights")
    loaded = build_model(options).net_g.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in saved.net_g.state_dict().items())


def test_options_given_are_not_changed(tmp_path: Path) -> None:
    options = model_options(tmp_path)
    build_model(options)
    assert options == model_options(tmp_path)


def test_channels_last_trains_the_same_network(tmp_path: Path) -> None:
    plain, fast = (build_model(model_options(tmp_path, channels_last=last)) for last in (False, True))
    fast.net_g.load_state_dict(plain.net_g.state_dict())
    for model in (plain, fast):
        step(model, 1)
    assert fast.lq.is_contiguous(memory_format=torch.channels_last)
    assert fast.net_g.tail.conv.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fast.output, plain.output, atol=1e-5, rtol=1e-4)
    fast.save(0, 1)
    stored = read_checkpoint(tmp_path / "models/net_g_1.pth")["params"]["tail.conv.weight"]
    assert stored.is_contiguous()
