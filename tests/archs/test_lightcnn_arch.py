"""LightCNN as discriminator and as feature network: layout, sizes, max-feature-map, errors."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from facesr_plugin.archs.lightcnn_arch import LightCNNDiscriminator, LightCNNFeature, MaxFeatureConv


def image(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 0.4


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_networks_have_the_published_counts():
    with torch.device("meta"):
        assert count(LightCNNDiscriminator()) == 5_485_921
        assert count(LightCNNFeature()) == 1_290_848


def test_max_feature_keeps_the_larger_half():
    layer, x = MaxFeatureConv(3, 2, 3), image(1, 3, 5, 4)
    both = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)
    assert torch.equal(layer(x), torch.where(both[:, :2] > both[:, 2:], both[:, :2], both[:, 2:]))


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(32, 48, 2, 3), (33, 17, 3, 2), (1, 16, 1, 1)])
def test_features_round_sizes_up(height, width, rows, columns):
    assert LightCNNFeature()(image(2, 3, height, width)).shape == (2, 128, rows, columns)


@pytest.mark.parametrize("size", [16, 48])
def test_discriminator_scores_images_of_its_size(size):
    logits = LightCNNDiscriminator(image_size=size)(image(2, 3, size, size))
    assert logits.shape == (2, 1)
    assert logits.isfinite().all()


def test_discriminator_gives_an_image_the_same_score_alone():
    net, x = LightCNNDiscriminator(image_size=32), image(3, 3, 32, 32)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]))


def test_discriminator_can_be_copied_and_pickled():
    net, x = LightCNNDiscriminator(image_size=16), image(1, 3, 16, 16)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x), net(x))


@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        (100, ValueError, "image_size must be a multiple of 16, got 100"),
        (0, ValueError, "image_size must be at least 16, got 0"),
        ("128", TypeError, "image_size must be an integer, got '128'"),
    ],
)
def test_discriminator_refuses_other_sizes(size, error, text):
    with pytest.raises(error, match=text):
        LightCNNDiscriminator(image_size=size)


def test_networks_refuse_other_images():
    with pytest.raises(ValueError, match=r"shape \(N, 3, 32, 32\), got \(1, 3, 64, 64\). Set image_size in network_d"):
        LightCNNDiscriminator(image_size=32)(image(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"image must have shape \(N, 3, H, W\), got \(1, 1, 64, 64\)"):
        LightCNNFeature()(image(1, 1, 64, 64))
