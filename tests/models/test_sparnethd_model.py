"""SPARNetHD's model: order inside an iteration, moving average, memory options, files, resume."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model

from facesr_plugin.checkpoints import load_weights, read_checkpoint
from helpers.options import hd_model_options

NETWORKS = ("net_g", "net_g_ema", "net_d")


def batch(seed: int = 0, number: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gt = torch.randint(0, 256, (number, 3, 32, 32), generator=generator) / 255
    return {"lq": (gt + torch.rand(gt.shape, generator=generator)) / 2, "gt": gt}


def build(folder: Path, seed: int = 0, network_g: dict | None = None, **train: Any) -> Any:
    options = hd_model_options(folder, **train)
    options["network_g"] |= network_g or {}
    torch.manual_seed(seed)
    return build_model(options)


def step(model: Any, iteration: int, **data: Any) -> None:
    model.feed_data(batch(iteration, **data))
    model.optimize_parameters(iteration)


def states(model: Any) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name in NETWORKS
        for key, value in model.get_bare_model(getattr(model, name)).state_dict().items()
    }


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_iteration_logs_the_terms_of_both_sides(tmp_path: Path) -> None:
    model = build(tmp_path)
    step(model, 1)
    log = model.get_current_log()
    assert list(log) == ["l_g_pixel", "l_g_gan", "l_g_feature_matching", "l_d_real", "l_d_fake"]
    expected = 10 * (model.output - model.gt).abs().mean()
    assert log["l_g_pixel"] == pytest.approx(float(expected), rel=1e-5)


def test_feature_matching_and_pixel_loss_can_be_left_out(tmp_path: Path) -> None:
    model = build(tmp_path, feature_matching_opt=None, pixel_opt=None)
    step(model, 1)
    assert list(model.get_current_log()) == ["l_g_gan", "l_d_real", "l_d_fake"]


def test_loss_with_a_gradient_penalty_can_take_the_place_of_the_published_one(tmp_path: Path) -> None:
    model = build(tmp_path, gan_opt={"type": "WGANGPLoss", "gp_weight": 5})
    step(model, 1)
    log = model.get_current_log()
    assert [name for name in log if name.startswith("l_d_")] == ["l_d_real", "l_d_fake", "l_d_penalty"]
    assert log["l_d_penalty"] > 0
    assert all(value.grad is not None for name, value in model.net_d.named_parameters() if name.endswith("weight_orig"))


def test_iteration_moves_generator_and_discriminator_with_their_own_settings(tmp_path: Path) -> None:
    model = build(tmp_path)
    before = states(model)
    step(model, 1)
    moved = {key for key, value in states(model).items() if not torch.equal(value, before[key])}
    assert {"net_g.tail.conv.weight_orig", "net_d.scales.0.score.conv.weight_orig"} <= moved
    assert (model.optimizer_g.defaults["lr"], model.optimizer_d.defaults["lr"]) == (1e-3, 4e-3)
    assert [list(o.defaults["betas"]) for o in model.optimizers] == [[0.5, 0.99], [0.5, 0.99]]


def test_discriminator_gets_no_gradients_from_the_generators_terms(tmp_path: Path) -> None:
    model = build(tmp_path)
    gradients: list[torch.Tensor | None] = []
    judge = model.judge

    def note(optimizer: torch.optim.Optimizer, net: torch.nn.Module) -> None:
        if net is model.net_g:
            gradients.extend(parameter.grad for parameter in model.net_d.parameters())
        judge(optimizer, net)

    model.judge = note
    step(model, 1)
    assert gradients
    assert all(gradient is None for gradient in gradients)
    assert all(parameter.requires_grad and parameter.grad is not None for parameter in model.net_d.parameters())


def test_discriminator_judges_the_result_of_before_the_generators_step(tmp_path: Path) -> None:
    model = build(tmp_path)
    seen = []
    model.net_d.register_forward_pre_hook(lambda _net, images: seen.append(images[0]))
    step(model, 1)
    gt, sr, gt_again, judged = seen
    assert torch.equal(gt, model.gt)
    assert torch.equal(gt_again, model.gt)
    assert torch.equal(sr, judged)
    assert sr.requires_grad
    assert not judged.requires_grad
    assert not model.output.requires_grad


def test_discriminator_step_is_half_hinge_on_both(tmp_path: Path) -> None:
    model = build(tmp_path)
    model.feed_data(batch())
    model.output = torch.zeros_like(model.gt)
    twin = deepcopy(model.net_d)
    terms = model.discriminator_losses()
    real = torch.stack([(1 - judgement.score).relu().mean() for judgement in twin(model.gt)]).mean() / 2
    fake = torch.stack([(1 + judgement.score).relu().mean() for judgement in twin(model.output)]).mean() / 2
    assert torch.allclose(terms["real"], real)
    assert torch.allclose(terms["fake"], fake)


def test_average_takes_the_generator_of_before_its_step(tmp_path: Path) -> None:
    model = build(tmp_path, ema_decay=0.5)
    start = model.net_g.state_dict()["tail.conv.weight_orig"].clone()
    step(model, 1)
    average = model.net_g_ema.state_dict()["tail.conv.weight_orig"]
    assert torch.equal(average, start)
    first = model.net_g.state_dict()["tail.conv.weight_orig"].clone()
    assert not torch.equal(first, start)
    step(model, 2)
    assert torch.allclose(average, (start + first) / 2)


def test_average_keeps_spectral_vectors_as_its_own_forward_would(tmp_path: Path) -> None:
    """The released program averages the vectors and refines them by a forward of the average in train mode."""
    model = build(tmp_path, ema_decay=0.5)
    own = build(tmp_path, seed=1).net_g.state_dict()  # vectors that are not those of the generator
    mixed = {key: own[key] if key.endswith(("_u", "_v")) else value for key, value in model.net_g.state_dict().items()}
    model.net_g_ema.load_state_dict(mixed)
    expected = deepcopy(model.net_g_ema)
    source = model.net_g.state_dict()
    for key, value in expected.state_dict().items():
        value.lerp_(source[key], 0.5)
    expected.train()(torch.zeros(1, 3, 32, 32))
    model.model_ema(0.5)
    assert equal(model.net_g_ema.state_dict(), expected.state_dict())


def test_average_of_parameters_alone_explodes_and_ours_does_not(tmp_path: Path) -> None:
    model = build(tmp_path, ema_decay=0.9)
    torch.manual_seed(2)
    alone = build_network(hd_model_options(tmp_path)["network_g"]).eval()  # vectors of its own initial weights
    for iteration in range(1, 9):
        step(model, iteration)
        for parameter, source in zip(alone.parameters(), model.net_g.parameters(), strict=True):
            parameter.data.lerp_(source.detach(), 0.1 if iteration > 1 else 1.0)
    model.feed_data(batch())
    with torch.no_grad():
        own = model.net_g.eval()(model.lq).abs().max()
        exploded = alone(model.lq).abs().max()
    model.test()
    assert model.output.abs().max() < 5 * own
    assert exploded > 1000 * own


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    whole, divided = build(tmp_path), build(tmp_path, accumulate=2)
    for model in (whole, divided):
        for layer in [m for net in (model.net_g, model.net_d) for m in net.modules() if hasattr(m, "weight_u")]:
            layer.recomputing = True  # two forwards would refine the vectors twice
        step(model, 1, number=4)
    assert torch.allclose(divided.output, whole.output, atol=1e-5)
    assert divided.get_current_log() == pytest.approx(whole.get_current_log(), rel=1e-5)
    for name in ("net_g", "net_d"):
        one, other = (torch.cat([p.grad.flatten() for p in getattr(m, name).parameters()]) for m in (whole, divided))
        assert (one - other).norm() < 1e-3 * one.norm()


def test_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    model = build(tmp_path, accumulate=2)
    with pytest.raises(ValueError, match=r"batch_size_per_gpu must be a multiple of train.accumulate \(2\), got 3"):
        step(model, 1, number=3)


@pytest.mark.parametrize("accumulate", [0, 1.5])
def test_accumulate_must_be_a_positive_integer(tmp_path: Path, accumulate: Any) -> None:
    with pytest.raises(ValueError, match="train.accumulate must be"):
        build(tmp_path, accumulate=accumulate)


def test_checkpointing_changes_no_bit(tmp_path: Path) -> None:
    plain, saving = build(tmp_path), build(tmp_path, network_g={"checkpointing": True})
    for model in (plain, saving):
        for iteration in (1, 2):
            step(model, iteration)
    assert equal(states(plain), states(saving))


def test_resume_continues_both_networks_bit_for_bit(tmp_path: Path) -> None:
    whole = build(tmp_path)
    for iteration in (1, 2):
        step(whole, iteration)
    whole.save(0, 2)
    for iteration in (3, 4):
        step(whole, iteration)

    options = hd_model_options(tmp_path)
    options["path"] |= {f"pretrain_network_{side}": str(tmp_path / f"models/net_{side}_2.pth") for side in "gd"}
    resumed = build_model(options)
    resumed.resume_training(read_checkpoint(tmp_path / "states/2.state"))
    for iteration in (3, 4):
        step(resumed, iteration)
    assert equal(states(resumed), states(whole))


def test_checkpoints_say_what_they_hold(tmp_path: Path) -> None:
    model = build(tmp_path)
    model.save(0, 1)
    generator = load_weights(tmp_path / "models/net_g_1.pth")
    discriminator = load_weights(tmp_path / "models/net_d_1.pth")
    assert (generator.system, generator.arch, generator.kind) == ("sparnethd", "SPARNet", "params_ema")
    assert (discriminator.system, discriminator.arch) == ("sparnethd", "SPARNetDiscriminator")
    assert discriminator.args["num_d"] == 2
    assert len(read_checkpoint(tmp_path / "states/1.state")["optimizers"]) == 2


def test_failed_save_of_the_discriminator_leaves_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(tmp_path)

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.save(0, 1)
    assert not list((tmp_path / "models").iterdir())
    assert not (tmp_path / "states").exists()


def test_generators_weights_are_refused_for_the_discriminator(tmp_path: Path) -> None:
    build(tmp_path).save(0, 1)
    options = hd_model_options(tmp_path)
    options["path"]["pretrain_network_d"] = str(tmp_path / "models/net_g_1.pth")
    with pytest.raises(ValueError, match=r"weights of sparnethd \(SPARNet\), not of SPARNetDiscriminator"):
        build_model(options)


@pytest.mark.parametrize("name", ["network_d", "optim_d", "gan_opt"])
def test_missing_section_is_named(tmp_path: Path, name: str) -> None:
    options = hd_model_options(tmp_path)
    (options if name == "network_d" else options["train"])[name] = None
    with pytest.raises(ValueError, match=f"{name} must be in the options"):
        build_model(options)


def test_model_without_training_needs_no_discriminator(tmp_path: Path) -> None:
    options = hd_model_options(tmp_path)
    options["is_train"] = False
    del options["train"], options["network_d"]
    model = build_model(options)
    model.feed_data(batch())
    model.test()
    assert model.get_current_visuals()["result"].shape == (2, 3, 32, 32)
