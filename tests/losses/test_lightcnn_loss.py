"""The feature loss of DICGAN; its values are compared with the reference in tests/parity."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facesr_plugin.archs.lightcnn_arch import LightCNNDiscriminator, LightCNNFeature
from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import UnsupportedCheckpointError, to_official
from facesr_plugin.losses.lightcnn_loss import LightCNNFeatureLoss
from helpers.tiny import save_tiny_sparnet


@pytest.fixture(scope="module")
def net() -> LightCNNFeature:
    torch.manual_seed(0)
    return LightCNNFeature()


@pytest.fixture(scope="module")
def weights(net: LightCNNFeature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' file: their names, flat."""
    path = tmp_path_factory.mktemp("weights") / "LightCNN_feature.pth"
    torch.save(to_official("dic", net.state_dict(), {}), path)
    return path


def images(seed: int) -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 0.4


@pytest.mark.parametrize(("criterion", "distance"), [("l1", F.l1_loss), ("l2", F.mse_loss)])
def test_loss_is_the_weighted_distance_of_features(
    net: LightCNNFeature, weights: Path, criterion: str, distance: Any
) -> None:
    sr, gt = images(1), images(2)
    loss = LightCNNFeatureLoss(loss_weight=0.1, weights=weights, criterion=criterion)
    torch.testing.assert_close(loss(sr, gt), 0.1 * distance(net(sr), net(gt)))


def test_loss_of_equal_images_is_zero(weights: Path) -> None:
    assert LightCNNFeatureLoss(weights=weights)(images(1), images(1)) == 0


def test_only_the_restored_image_gets_a_gradient(weights: Path) -> None:
    loss, sr, gt = LightCNNFeatureLoss(weights=weights), images(1).requires_grad_(), images(2).requires_grad_()
    loss(sr, gt).backward()
    assert sr.grad.abs().sum() > 0
    assert gt.grad is None
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_images_of_other_models_are_brought_to_the_networks_range(weights: Path) -> None:
    mean = torch.tensor(get_card("dic").mean).view(1, 3, 1, 1)
    plain, scaled = (
        LightCNNFeatureLoss(weights=weights),
        LightCNNFeatureLoss(weights=weights, mean=(0.5,) * 3, std=[0.5] * 3),
    )
    sr, gt = images(1), images(2)
    torch.testing.assert_close(scaled(2 * (sr + mean) - 1, 2 * (gt + mean) - 1), plain(sr, gt))


def test_features_of_a_discriminator_are_taken(weights: Path, tmp_path: Path) -> None:
    net_d = LightCNNDiscriminator(image_size=32)
    torch.save({"netD": to_official("dic", net_d.state_dict(), {"image_size": 32})}, tmp_path / "d.pth")
    loss = LightCNNFeatureLoss(weights=tmp_path / "d.pth")
    assert torch.equal(loss.extract(images(1)), net_d.features(images(1)))


def test_loss_can_be_copied_and_pickled(weights: Path) -> None:
    loss = LightCNNFeatureLoss(weights=weights)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert twin(images(1), images(2)) == loss(images(1), images(2))


def test_loss_finds_the_authors_file_where_all_weights_lie(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(FileNotFoundError, match=r"LightCNN_feature.pth \(feature loss of DICGAN .*\) is not in"):
        LightCNNFeatureLoss()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / weights.name).symlink_to(weights)
    assert LightCNNFeatureLoss()(images(1), images(2)) > 0


def test_loss_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpointError, match=r"weights of sparnet \(SPARNet\), not of LightCNNFeature"):
        LightCNNFeatureLoss(weights=save_tiny_sparnet(tmp_path / "net.pth"))


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"criterion": "huber"}, "criterion must be one of l1, l2, got 'huber'"),
        ({"mean": [0.5]}, r"mean must have three numbers, for R, G and B, got \[0.5\]"),
        ({"std": [0.5, 0.5]}, r"std must have three numbers, for R, G and B, got \[0.5, 0.5\]"),
    ],
)
def test_loss_refuses_other_arguments(weights: Path, args: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LightCNNFeatureLoss(weights=weights, **args)


def test_loss_refuses_images_of_two_shapes(weights: Path) -> None:
    with pytest.raises(ValueError, match="sr and gt must have one shape"):
        LightCNNFeatureLoss(weights=weights)(images(1), images(2)[:1])
