"""DICGAN's U-Net discriminator: layout, odd sizes, features, errors."""

import copy
import pickle

import pytest
import torch

from facesr_plugin.archs.unet_discriminator_arch import UNetFeatureDiscriminator, _enlarge


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return UNetFeatureDiscriminator()


def image(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 0.4


@pytest.mark.parametrize(("feature_only", "count"), [(False, 3_358_467), (True, 2_325_568)])
def test_network_has_the_published_count(feature_only, count):
    with torch.device("meta"):
        net = UNetFeatureDiscriminator(feature_only=feature_only)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


@pytest.mark.parametrize(("height", "width"), [(8, 16), (19, 13)])
def test_network_judges_every_pixel(net, height, width):
    found = net(image(2, 3, height, width), features=True)
    assert found.logits.shape == (2, 3, height, width)
    expected = [(2, ch, height >> i, width >> i) for i, ch in ((1, 128), (2, 256), (3, 256))]
    assert [feat.shape for feat in found.features] == expected


def test_network_gives_the_map_alone_by_default(net):
    x = image(1, 3, 16, 16)
    assert torch.equal(net(x), net(x, features=True).logits)


def test_features_need_no_way_up(net):
    half, x = UNetFeatureDiscriminator(feature_only=True), image(1, 3, 16, 16)
    half.load_state_dict({key: net.state_dict()[key] for key in half.state_dict()})
    found = half(x, features=True)
    assert found.logits is None
    assert all(map(torch.equal, found.features, net(x, features=True).features))


def test_enlarged_features_are_padded_at_the_end_first():
    padded = _enlarge(torch.ones(1, 1, 2, 2), torch.empty(1, 1, 7, 5))[0, 0]
    torch.testing.assert_close(padded[1:5, 0:4], torch.ones(4, 4))
    assert padded.count_nonzero() == 16


def test_network_can_be_copied_and_pickled(net):
    x = image(1, 3, 8, 8)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x), net(x))


def test_network_refuses_other_images_and_calls(net):
    with pytest.raises(ValueError, match=r"sides of 8 and more, got \(1, 3, 7, 8\)"):
        net(image(1, 3, 7, 8))
    with pytest.raises(ValueError, match="feature_only must be false for logits, got True"):
        UNetFeatureDiscriminator(feature_only=True)(image(1, 3, 8, 8))
