"""Heatmap loss: the formula by hand in both normalisations, gradients through the extremes, errors."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facesr_plugin.losses.alignment import HeatmapPair
from facesr_plugin.losses.facial_attention_loss import FacialAttentionLoss
from facesr_plugin.losses.heatmap_loss import FaceHeatmapLoss, heatmap_distance
from facesr_plugin.registry import LOSS_REGISTRY
from helpers.tiny_fan import save_tiny_fan, tiny_fan

SR = [[-1.0, 0.0, 1.0, 3.0], [2.0, 2.0, 4.0, 3.0]]
GT = [[-2.0, 1.0, 2.0, 0.0], [1.0, 3.0, 2.0, 2.0]]
SCALED = {  # by hand: SR by its own extremes, SR from GT's smallest value to its own largest
    "corrected": [[0, 1 / 4, 2 / 4, 1], [0, 0, 1, 1 / 2]],
    "official": [[1 / 5, 2 / 5, 3 / 5, 1], [1 / 3, 1 / 3, 1, 2 / 3]],
}
SCALED_GT = [[0, 3 / 4, 1, 1 / 2], [0, 1, 1 / 2, 1 / 2]]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_tiny_fan(tmp_path / "fan.pth")


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape or (2, 3, 8, 6), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def as_maps(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).view(2, 2, 1, 2)


@pytest.mark.parametrize("normalisation", SCALED)
def test_distance_is_the_mean_square_of_heatmaps_scaled_per_image(normalisation: str) -> None:
    expected = (torch.tensor(SCALED[normalisation]) - torch.tensor(SCALED_GT)).square().mean().item()
    found = heatmap_distance(HeatmapPair(as_maps(SR), as_maps(GT)), normalisation)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("normalisation", SCALED)
def test_distance_has_the_gradient_of_its_value_at_the_extremes_too(normalisation: str) -> None:
    sr, gt = as_maps([[-1.0, 0.1, 1.0, 3.0], [1.9, 2.0, 4.0, 3.0]]).requires_grad_(), as_maps(GT).requires_grad_()
    heatmap_distance(HeatmapPair(sr, gt), normalisation).backward()
    assert gt.grad is None
    assert sr.grad.flatten(1)[:, [0, 2, 3]].abs().amax() > 0
    assert torch.autograd.gradcheck(lambda x: heatmap_distance(HeatmapPair(x, gt.detach()), normalisation), sr)


def test_corrected_distance_does_not_change_with_scale_and_offset() -> None:
    sr, gt = images().double(), images(seed=1).double()
    moved = heatmap_distance(HeatmapPair(3 * sr + 2, gt - 7))
    torch.testing.assert_close(moved, heatmap_distance(HeatmapPair(sr, gt)))


@pytest.mark.parametrize("normalisation", ["corrected", "official"])
def test_loss_compares_what_the_network_finds(weights: Path, normalisation: str) -> None:
    loss = FaceHeatmapLoss(loss_weight=3.0, weights=weights, normalisation=normalisation)
    sr, gt = images(), images(seed=1)
    found, wanted = (tiny_fan()((x + 1) / 2).detach() for x in (sr, gt))
    expected = 3 * heatmap_distance(HeatmapPair(found, wanted), normalisation)
    torch.testing.assert_close(loss(sr, gt), expected, rtol=1e-5, atol=0)


def test_one_run_of_the_network_serves_both_losses(weights: Path) -> None:
    heatmap, attention = FaceHeatmapLoss(weights=weights), FacialAttentionLoss(weights=weights)
    assert heatmap.aligner is attention.aligner
    runs = []
    heatmap.aligner.net.register_forward_hook(lambda _net, _inputs, _output: runs.append(1))
    sr, gt = images().requires_grad_(), images(seed=1)

    def gradient(pair: HeatmapPair | None) -> Tensor:
        return torch.autograd.grad(attention(sr, gt, pair) + heatmap(sr, gt, pair), sr)[0]

    shared = gradient(heatmap.aligner.pair(sr, gt))
    assert len(runs) == 2
    assert torch.equal(shared, gradient(None))
    assert len(runs) == 5


def test_loss_has_the_gradient_of_its_value_and_none_for_the_target(weights: Path) -> None:
    loss = copy.deepcopy(FaceHeatmapLoss(weights=weights)).double()
    sr, gt = (images(1, 3, 4, 3, seed=seed).double().requires_grad_() for seed in (0, 1))
    loss(sr, gt).backward()
    assert gt.grad is None
    assert all(parameter.grad is None for parameter in loss.parameters())
    assert torch.autograd.gradcheck(lambda x: loss(x, gt.detach()), sr.detach().requires_grad_())


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])  # noqa: S301
def test_loss_can_be_copied_after_use(weights: Path, copier: Any) -> None:
    loss, sr, gt = FaceHeatmapLoss(weights=weights), images().requires_grad_(), images(seed=1)
    value = loss(sr, gt)
    value.backward()
    assert copier(loss)(sr, gt).item() == value.item()


def test_loss_serves_a_model_of_another_system(weights: Path) -> None:
    from helpers.tiny import TINY
    from helpers.training import build_model

    section = {"type": "FaceHeatmapLoss", "loss_weight": 5, "weights": str(weights), "mode": "train"}
    train = {"optim_g": {"type": "Adam", "lr": 1e-3}, "heatmap_opt": section}
    model = build_model("SPARNetModel", {"type": "SPARNet", **TINY}, train)
    model.feed_data({"lq": images(1, 3, 16, 16).abs(), "gt": images(1, 3, 128, 128).abs()})
    model.optimize_parameters(1)
    expected = FaceHeatmapLoss(loss_weight=5, weights=weights, mode="train")(model.output, model.gt)
    assert model.get_current_log()["l_g_heatmap"] == pytest.approx(expected.item())


def test_loss_is_registered_with_defaults() -> None:
    assert LOSS_REGISTRY.get("FaceHeatmapLoss") is FaceHeatmapLoss
    defaults = {"loss_weight": 1.0, "weights": None, "normalisation": "corrected", "mode": "eval"}
    assert FaceHeatmapLoss.__init__.__kwdefaults__ == defaults


def test_loss_asks_for_missing_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"compressed_fan.pth \(.*\) is not in .*\. Put the compressed FAN"):
        FaceHeatmapLoss()


def test_loss_refuses_other_options_and_shapes(weights: Path) -> None:
    with pytest.raises(ValueError, match="normalisation must be one of corrected, official, got 'none'"):
        FaceHeatmapLoss(weights=weights, normalisation="none")
    loss, maps = FaceHeatmapLoss(weights=weights), torch.zeros(2, 3, 8, 6)
    with pytest.raises(ValueError, match=r"one shape \(N, 3, H, W\), got \(2, 1, 8, 6\) and \(2, 1, 8, 6\)"):
        loss(images(2, 1, 8, 6), images(2, 1, 8, 6))
    with pytest.raises(
        ValueError, match=r"heatmaps.sr must have shape \(2, K, 8, 6\) as the images, got \(1, 3, 8, 6\)"
    ):
        loss(images(), images(), HeatmapPair(maps[:1], maps))
