"""Facial attention: the formula by hand, gradients, errors, use in a model of another system."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facesr_plugin.losses.alignment import HeatmapPair
from facesr_plugin.losses.facial_attention_loss import FacialAttentionLoss, attention_map, attention_weighted_error
from facesr_plugin.registry import LOSS_REGISTRY
from helpers.tiny_fan import save_tiny_fan, tiny_fan


@pytest.fixture
def loss(tmp_path: Path) -> FacialAttentionLoss:
    return FacialAttentionLoss(loss_weight=3.0, weights=save_tiny_fan(tmp_path / "fan.pth"))


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape or (2, 3, 8, 6), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_attention_is_the_largest_heatmap_after_all_are_scaled_together() -> None:
    maps = torch.tensor([[[[-1.0, 0.0]], [[1.0, 3.0]]], [[[2.0, 3.0]], [[2.5, 4.0]]]])
    assert attention_map(maps).tolist() == [[[[0.5, 1.0]]], [[[0.25, 1.0]]]]


def test_attention_is_not_stretched_to_0() -> None:
    maps = torch.rand(2, 9, 5, 5, generator=torch.Generator().manual_seed(0))
    assert (attention_map(maps).amin((1, 2, 3)) > 0.3).all()


def test_error_is_the_mean_over_all_colours() -> None:
    sr, gt = torch.zeros(1, 3, 1, 2), torch.tensor([1.0, 2.0]).expand(1, 3, 1, 2)
    attention = torch.tensor([0.5, 1.0]).view(1, 1, 1, 2)
    assert attention_weighted_error(sr, gt, attention).item() == (0.5 + 2) / 2


def test_loss_weighs_by_the_heatmaps_of_the_real_images(loss: FacialAttentionLoss) -> None:
    sr, gt = images(), images(seed=1)
    maps = tiny_fan()((gt + 1) / 2).detach()
    low, high = (getattr(maps.flatten(1), name)(1).view(2, 1, 1, 1) for name in ("amin", "amax"))
    expected = 3 * (((maps - low) / (high - low)).amax(1, keepdim=True) * (sr - gt).abs()).mean()
    torch.testing.assert_close(loss(sr, gt), expected, rtol=1e-5, atol=0)


def test_loss_takes_heatmaps_that_are_there(loss: FacialAttentionLoss) -> None:
    sr, gt = images(), images(seed=1)
    assert torch.equal(loss(sr, gt, loss.aligner.pair(sr, gt)), loss(sr, gt))
    maps = HeatmapPair(sr=torch.rand(2, 1, 8, 6), gt=torch.eye(8)[:, :6].expand(2, 1, 8, 6))
    expected = 3 * (torch.eye(8)[:, :6] * (sr - gt).abs()).mean()
    torch.testing.assert_close(loss(sr, gt, maps), expected)


def test_loss_has_the_gradient_of_its_value_and_none_for_the_target(loss: FacialAttentionLoss) -> None:
    sr, gt = (images(1, 3, 4, 3, seed=seed).double().requires_grad_() for seed in (0, 1))
    loss = copy.deepcopy(loss).double()
    loss(sr, gt).backward()
    assert gt.grad is None
    assert all(parameter.grad is None for parameter in loss.parameters())
    assert torch.autograd.gradcheck(lambda x: loss(x, gt.detach()), sr.detach().requires_grad_())


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])  # noqa: S301
def test_loss_can_be_copied_after_use(loss: FacialAttentionLoss, copier: Any) -> None:
    sr, gt = images().requires_grad_(), images(seed=1)
    value = loss(sr, gt)
    value.backward()
    assert copier(loss)(sr, gt).item() == value.item()


def test_loss_serves_a_model_of_another_system(tmp_path: Path) -> None:
    from helpers.tiny import TINY
    from helpers.training import build_model

    path = save_tiny_fan(tmp_path / "fan.pth")
    section = {"type": "FacialAttentionLoss", "loss_weight": 5, "weights": str(path)}
    train = {"optim_g": {"type": "Adam", "lr": 1e-3}, "attention_opt": section}
    model = build_model("SPARNetModel", {"type": "SPARNet", **TINY}, train)
    before = model.net_g.tail.conv.weight.detach().clone()
    model.feed_data({"lq": images(1, 3, 16, 16).abs(), "gt": images(1, 3, 128, 128).abs()})
    model.optimize_parameters(1)
    expected = FacialAttentionLoss(loss_weight=5, weights=path)(model.output, model.gt)
    assert model.get_current_log()["l_g_attention"] == pytest.approx(expected.item())
    assert not torch.equal(model.net_g.tail.conv.weight, before)


def test_loss_is_registered_with_defaults() -> None:
    assert LOSS_REGISTRY.get("FacialAttentionLoss") is FacialAttentionLoss
    assert FacialAttentionLoss.__init__.__kwdefaults__ == {"loss_weight": 1.0, "weights": None, "mode": "eval"}


def test_loss_asks_for_missing_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"compressed_fan.pth \(.*\) is not in .*\. Put the compressed FAN"):
        FacialAttentionLoss()


def test_loss_refuses_other_shapes(loss: FacialAttentionLoss) -> None:
    with pytest.raises(ValueError, match=r"one shape \(N, 3, H, W\), got \(2, 3, 8, 6\) and \(2, 3, 4, 3\)"):
        loss(images(), images(2, 3, 4, 3))
    maps = torch.zeros(2, 3, 4, 3)
    with pytest.raises(
        ValueError, match=r"heatmaps.gt must have shape \(2, K, 8, 6\) as the images, got \(2, 3, 4, 3\)"
    ):
        loss(images(), images(), HeatmapPair(maps, maps))
    with pytest.raises(ValueError, match=r"attention must have shape \(2, 1, 8, 6\), got \(1, 1, 8, 6\)"):
        attention_weighted_error(images(), images(), torch.ones(1, 1, 8, 6))
