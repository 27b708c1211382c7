"""The perceptual loss; its values are compared with the reference in tests/parity."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.losses.perceptual_loss import SPARNETHD_LAYERS, FacePerceptualLoss, VGGFeatures, layer_names
from facesr_plugin.registry import LOSS_REGISTRY

LAYERS = {"relu1_2": 1.0, "conv2_1": 0.5}


def vgg_state(layers: dict[str, float] = LAYERS) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return VGGFeatures("vgg19", layers).state_dict()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save({**vgg_state(), "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    return tmp_path / "vgg.pth"


def build(weights: Path, **args: Any) -> FacePerceptualLoss:
    return FacePerceptualLoss(**{"layer_weights": LAYERS, "weights": weights, "min_width": 0, **args})


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def reference_features(state: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    x = F.relu(F.conv2d(x, state["features.0.weight"], state["features.0.bias"], padding=1))
    relu1_2 = F.relu(F.conv2d(x, state["features.2.weight"], state["features.2.bias"], padding=1))
    pooled = F.max_pool2d(relu1_2, 2)
    return {
        "relu1_2": relu1_2,
        "conv2_1": F.conv2d(pooled, state["features.5.weight"], state["features.5.bias"], padding=1),
    }


@pytest.fixture(params=[("vgg16", "D"), ("vgg19", "E")], ids=["vgg16", "vgg19"])
def theirs(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    """Name and torchvision's convolutional part."""
    from torchvision.models import vgg

    vgg_type, letter = request.param
    with torch.device("meta"):
        return vgg_type, vgg.make_layers(vgg.cfgs[letter])


def test_layer_names_have_torchvisions_indices(theirs: tuple[str, nn.Module]) -> None:
    vgg_type, features = theirs
    kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}
    for name, layer in zip(layer_names(vgg_type), features, strict=True):
        assert isinstance(layer, kinds[name[:4]]), name


def test_features_have_torchvisions_keys_and_shapes(theirs: tuple[str, nn.Module]) -> None:
    vgg_type, features = theirs
    with torch.device("meta"):
        ours = VGGFeatures(vgg_type, [layer_names(vgg_type)[-1]])
    assert {key: value.shape for key, value in ours.features.state_dict().items()} == {
        key: value.shape for key, value in features.state_dict().items()
    }
    assert all(key.startswith("features.") for key in ours.state_dict())


def test_defaults_are_sparnethds() -> None:
    assert dict.fromkeys(["relu1_2", "relu2_2", "relu3_4", "relu4_4", "conv5_4"], 1.0) == SPARNETHD_LAYERS
    defaults = FacePerceptualLoss.__init__.__kwdefaults__
    assert defaults == {
        "loss_weight": 1.0,
        "vgg_type": "vgg19",
        "layer_weights": None,
        "criterion": "l1",
        "use_input_norm": True,
        "min_width": 224,
        "weights": None,
    }


@pytest.mark.parametrize(("criterion", "distance"), [("l1", F.l1_loss), ("l2", F.mse_loss)])
def test_loss_is_the_weighted_sum_over_layers(weights: Path, criterion: str, distance: Any) -> None:
    sr, gt = images(2, 3, 16, 12), images(2, 3, 16, 12, seed=2)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    found, wanted = (reference_features(vgg_state(), (x * 0.5 + 0.5 - mean) / std) for x in (sr, gt))
    expected = 3 * sum(weight * distance(found[name], wanted[name]) for name, weight in LAYERS.items())
    loss = build(weights, criterion=criterion, loss_weight=3.0)(sr, gt)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_loss_without_input_norm_sees_zero_to_one(weights: Path) -> None:
    x = images(1, 3, 8, 8)
    found = build(weights, use_input_norm=False).extract(x)
    for name, expected in reference_features(vgg_state(), x * 0.5 + 0.5).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "used"), [((40, 15), (16, 16)), ((12, 16), (12, 16)), ((8, 20), (8, 20))])
def test_loss_resizes_images_that_are_not_wide_enough(
    weights: Path, size: tuple[int, int], used: tuple[int, int]
) -> None:
    loss = build(weights, min_width=16)
    x = images(1, 3, *size)
    found = loss.extract(x)["relu1_2"]
    assert found.shape[2:] == used
    resized = F.interpolate(x, used, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, build(weights).extract(resized)["relu1_2"], rtol=1e-4, atol=1e-5)


def test_a_convolutions_output_is_kept_when_asked_for(tmp_path: Path) -> None:
    layers = {"conv1_1": 1.0, "relu1_1": 1.0}
    torch.save(vgg_state(layers), tmp_path / "vgg.pth")
    found = build(tmp_path / "vgg.pth", layer_weights=layers).extract(images(1, 3, 8, 8))
    assert found["conv1_1"].min() < 0
    torch.testing.assert_close(found["relu1_1"], found["conv1_1"].relu(), rtol=0, atol=0)


def test_gradient_reaches_sr_only_and_is_right(weights: Path) -> None:
    loss = build(weights, layer_weights={"relu1_2": 1.0}, criterion="l2").double()
    sr, gt = (images(1, 3, 4, 5, seed=seed).double().requires_grad_() for seed in (1, 2))
    loss(sr, gt).backward()
    assert gt.grad is None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in loss.parameters())
    assert torch.autograd.gradcheck(lambda x: loss(x, gt.detach()), sr.detach().requires_grad_())


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])  # noqa: S301
def test_loss_can_be_copied_after_use(weights: Path, copier: Any) -> None:
    loss = build(weights)
    sr, gt = images(1, 3, 8, 8).requires_grad_(), images(1, 3, 8, 8, seed=2)
    value = loss(sr, gt)
    value.backward()
    assert copier(loss)(sr, gt).item() == value.item()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"vgg_type": "vgg11"}, "vgg_type must be one of vgg16, vgg19, got 'vgg11'"),
        ({"criterion": "huber"}, "criterion must be one of l1, l2, got 'huber'"),
        ({"layer_weights": {}}, "layer_weights must name at least one layer"),
        ({"layer_weights": {"relu1_3": 1.0}}, "a layer of vgg19 must be one of conv1_1, .* got 'relu1_3'"),
        ({"vgg_type": "vgg16", "layer_weights": {"relu3_4": 1.0}}, "a layer of vgg16 must be one of"),
        ({"min_width": -1}, "min_width must be 0 or more, got -1"),
    ],
)
def test_loss_rejects_bad_options(weights: Path, args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(weights, **args)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.2.bias": None}, "'features.2.bias' is missing"),
        ({"features.2.bias": torch.zeros(3)}, r"'features.2.bias' has shape \(3,\) instead of \(64,\)"),
        ({"features.17.weight": torch.zeros(1)}, "vgg19 has no 'features.17.weight'"),  # vgg16 has
        ({"features.0.running_mean": torch.zeros(1)}, "vgg19 has no 'features.0.running_mean'"),
        ({"epoch": 3}, "it is no state dict"),
    ],
)
def test_loss_rejects_other_weights(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    state = {key: value for key, value in {**vgg_state(), **change}.items() if value is not None}
    torch.save(state, tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match=f"weights must be torchvision's vgg19, got .*: {message}"):
        build(tmp_path / "vgg.pth")


def test_loss_rejects_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="weights must be an existing file, got .*none.pth"):
        build(tmp_path / "none.pth")


def test_loss_rejects_other_shapes(weights: Path) -> None:
    with pytest.raises(ValueError, match=r"images must have shape \(N, 3, H, W\), got \(1, 1, 8, 8\)"):
        build(weights)(images(1, 1, 8, 8), images(1, 1, 8, 8))


def test_loss_is_registered() -> None:
    assert LOSS_REGISTRY.get("FacePerceptualLoss") is FacePerceptualLoss
