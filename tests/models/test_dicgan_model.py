"""DICGAN's model: terms, order inside an iteration, schedule of the discriminator, refusals, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from basicsr.models import build_model

from facesr_plugin.archs.lightcnn_arch import LightCNNFeature
from facesr_plugin.checkpoints import make_record, read_checkpoint
from facesr_plugin.models.dicgan_model import DICGANModel
from helpers.dic_runs import batch, dicgan_options, moved, states, step


def build(folder: Path, **train: Any) -> Any:
    torch.manual_seed(0)
    return build_model(dicgan_options(folder, **train))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of a feature network with random weights."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("features") / "features.pth"
    record = make_record("dic", "LightCNNFeature", {})
    torch.save({"params": LightCNNFeature().state_dict(), "facesr": record}, path)
    return str(path)


def test_generator_has_the_terms_of_dic_and_two_of_the_last_image(tmp_path: Path, features: str) -> None:
    model = build(tmp_path, feature_opt={"type": "LightCNNFeatureLoss", "loss_weight": 0.1, "weights": features})
    model.feed_data(batch())
    with torch.no_grad():
        sr = model.net_g(model.lq, every_step=True).sr
        gan = 0.005 * F.softplus(-model.net_d(sr[-1])).mean()
        feature = model.criteria["feature"](sr[-1], model.gt)
        expected = {"pixel": sum(F.l1_loss(one, model.gt) for one in sr), "feature": feature, "gan": gan}
    model.optimize_parameters(1)
    log = model.get_current_log()
    assert list(log) == [*(f"l_g_{name}" for name in ("pixel", "align", "feature", "gan")), "l_d_real", "l_d_fake"]
    for name, value in expected.items():
        assert log[f"l_g_{name}"] == pytest.approx(float(value), rel=1e-5)


def test_released_pixel_term_is_the_last_one_as_often(tmp_path: Path) -> None:
    found = {}
    for name in ("all", "released"):
        model = build(tmp_path, pixel_steps=name)
        step(model, 1)
        found[name] = model.get_current_log()["l_g_pixel"]
    assert found["released"] == pytest.approx(3 * float(F.l1_loss(model.output, model.gt)), rel=1e-6)
    assert found["all"] != pytest.approx(found["released"], rel=1e-4)


def test_discriminator_judges_the_image_of_before_the_generators_step(tmp_path: Path) -> None:
    model, seen = build(tmp_path), []
    model.net_d.register_forward_pre_hook(lambda _net, images: seen.append(images[0]))
    model.feed_data(batch())
    with torch.no_grad():
        before = model.net_g(model.lq)
    model.optimize_parameters(1)
    of_generator, real, fake = seen
    assert torch.equal(of_generator, before)
    assert torch.equal(real, model.gt)
    assert torch.equal(fake, before)
    assert not fake.requires_grad


def test_discriminator_terms_are_neither_weighted_nor_halved(tmp_path: Path) -> None:
    model = build(tmp_path)
    model.feed_data(batch())
    with torch.no_grad():
        real = F.softplus(-model.net_d(model.gt)).mean()
        fake = F.softplus(model.net_d(model.net_g(model.lq))).mean()
    model.optimize_parameters(1)
    log = model.get_current_log()
    assert (log["l_d_real"], log["l_d_fake"]) == pytest.approx((float(real), float(fake)), rel=1e-5)


def test_hourglass_stands_still_as_published(tmp_path: Path) -> None:
    model = build(tmp_path)
    before = states(model)
    step(model, 1)
    after = moved(before, states(model))
    assert "net_g.hourglass" not in after
    assert {"net_g.tail", "net_d.score", "net_d.features"} <= after


def test_schedule_of_one_run_for_both(tmp_path: Path) -> None:
    """The second implementation's: DIC's terms first, then two steps of the discriminator in an iteration."""
    model = build(tmp_path, gan_start_iter=1, d_steps=2)
    before = states(model)
    step(model, 1)
    assert list(model.get_current_log()) == ["l_g_pixel", "l_g_align"]
    assert not any(name.startswith("net_d") for name in moved(before, states(model)))
    step(model, 2)
    assert {"l_g_gan", "l_d_real", "l_d_fake"} < model.get_current_log().keys()
    assert model.optimizer_d.state[model.net_d.score.weight]["step"] == 2


def test_map_of_the_unet_discriminator_is_taken_as_scores(tmp_path: Path) -> None:
    made = dicgan_options(tmp_path)
    made["network_d"] = {"type": "UNetFeatureDiscriminator"}
    model = build_model(made)
    step(model, 1, number=1)
    assert model.get_current_log()["l_d_real"] == pytest.approx(0.69, abs=0.1)


def test_start_from_scratch_against_a_discriminator_is_refused(tmp_path: Path) -> None:
    made = dicgan_options(tmp_path, hourglass_freeze_iter=0)
    made["path"]["pretrain_network_g"] = None
    with pytest.raises(
        ValueError, match=r"pretrain_network_g must name weights of DIC .* set train.gan_start_iter: 10"
    ):
        build_model(made)
    made["train"]["gan_start_iter"] = 1
    build_model(made)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"pixel_steps": "last"}, "train.pixel_steps must be one of all, released, got 'last'"),
        ({"d_steps": 0}, "train.d_steps must be at least 1, got 0"),
        ({"gan_start_iter": 1.5}, "train.gan_start_iter must be an integer, got 1.5"),
        ({"gan_opt": None}, "gan_opt must be in the options of a training with a discriminator, got none"),
        ({"sigma": -1}, "train.sigma must be a positive number of heatmap pixels, got -1"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, train: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(tmp_path, **train)


def test_all_wrong_numbers_are_reported_together(tmp_path: Path) -> None:
    found = list(DICGANModel.find_problems(dicgan_options(tmp_path, d_steps=0, gan_start_iter=-1)))
    assert [problem.split()[0] for problem in found] == ["train.d_steps", "train.gan_start_iter"]


def test_discriminator_without_scores_is_refused_before_the_run(tmp_path: Path) -> None:
    made = dicgan_options(tmp_path)
    made["network_d"] = {"type": "UNetFeatureDiscriminator", "feature_only": True}
    with pytest.raises(ValueError, match="network_d.feature_only must be false, got True: features alone are no"):
        build_model(made)


def test_faces_of_another_size_than_the_discriminators_are_refused(tmp_path: Path) -> None:
    made = dicgan_options(tmp_path)
    made["network_d"]["image_size"] = 128
    with pytest.raises(
        ValueError, match=r"image must have shape \(N, 3, 128, 128\), got .* Set image_size in network_d"
    ):
        step(build_model(made), 1)


def test_resumed_run_ends_in_the_bits_of_the_whole_one(tmp_path: Path) -> None:
    train = {"hourglass_freeze_iter": 2, "gan_start_iter": 1, "ema_decay": 0.9}
    whole = build(tmp_path, **train)
    for iteration in range(1, 5):
        if iteration == 3:
            whole.save(0, 2)
        step(whole, iteration)
    made = dicgan_options(tmp_path, **train)
    made["path"] |= {f"pretrain_network_{side}": str(tmp_path / f"models/net_{side}_2.pth") for side in "gd"}
    made["path"]["resume_state"] = "2.state"
    resumed = build_model(made)
    resumed.resume_training(read_checkpoint(tmp_path / "states/2.state"))
    for iteration in (3, 4):
        step(resumed, iteration)
    assert moved(states(whole), states(resumed)) == set()
