"""Landmark networks of DIC: counts, hidden features, stacks, errors."""

import pytest
import torch

from facesr_plugin.archs.hourglass_arch import FeedbackHourglass, StackedHourglass
from helpers.tiny_dic import draw_weights

NETWORKS = (FeedbackHourglass, StackedHourglass)


def image(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.4


def tiny(network, **args):
    return draw_weights(network(**{"num_feat": 16, **args})).eval()


def count(network, **args):
    with torch.device("meta"):
        return sum(value.numel() for value in network(**args).parameters())


@pytest.mark.parametrize(
    ("network", "args", "expected"),
    [
        (FeedbackHourglass, {}, 11_999_172),
        (FeedbackHourglass, {"num_landmarks": 194}, 12_031_554),
        (StackedHourglass, {"num_stacks": 1}, 3_440_964),
        (StackedHourglass, {"num_stacks": 1, "connect": "cat"}, 3_440_964),
        (StackedHourglass, {"num_stacks": 2}, 6_611_592),
        (StackedHourglass, {}, 12_952_848),
        (StackedHourglass, {"connect": "cat"}, 13_346_832),
    ],
)
def test_networks_have_the_published_counts(network, args, expected):
    assert count(network, **args) == expected


@pytest.mark.parametrize("num_landmarks", [5, 68, 194])
@pytest.mark.parametrize("network", NETWORKS)
def test_heatmaps_have_a_quarter_of_the_side(network, num_landmarks):
    assert tiny(network, num_landmarks=num_landmarks)(image(2, 3, 64, 128)).heatmaps.shape == (2, num_landmarks, 16, 32)


def test_hourglass_uses_the_hidden_features_it_is_given():
    net, face = tiny(FeedbackHourglass), image(2, 3, 64, 64)
    first = net(face)
    assert first.hidden.shape == (2, 16, 16, 16)
    assert not torch.allclose(net(face, first.hidden).heatmaps, first.heatmaps)


def test_hourglass_keeps_nothing_between_calls():
    net, face = tiny(FeedbackHourglass), image(1, 3, 64, 64)
    first = net(face)
    net(image(1, 3, 64, 64, seed=2), first.hidden)
    assert torch.equal(net(face).heatmaps, first.heatmaps)


def test_hidden_features_pass_gradients_on():
    net = tiny(FeedbackHourglass)
    face = image(1, 3, 64, 64).requires_grad_()
    net(torch.zeros(1, 3, 64, 64), net(face).hidden).heatmaps.square().sum().backward()
    assert face.grad.abs().max() > 0


@pytest.mark.parametrize("num_stacks", [1, 2, 4])
@pytest.mark.parametrize("connect", ["mean", "cat"])
def test_stacks_hand_on_one_hidden_map_each_but_the_last(num_stacks, connect):
    net, face = tiny(StackedHourglass, num_stacks=num_stacks, connect=connect), image(1, 3, 64, 64)
    found = net(face)
    assert [x.shape for x in found.hidden] == [(1, 16, 16, 16)] * (num_stacks - 1)
    again = net(face, [x + 1 for x in found.hidden]).heatmaps
    assert torch.equal(again, found.heatmaps) == (num_stacks == 1)


def test_the_mean_of_the_same_hidden_maps_changes_nothing():
    net, face = tiny(StackedHourglass, num_stacks=2), image(1, 3, 64, 64)
    found = net(face)
    torch.testing.assert_close(net(face, found.hidden).heatmaps, found.heatmaps)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 4, 64, 64), r"image must have shape \(N, 3, H, W\), got \(1, 4, 64, 64\)"),
        ((1, 3, 64, 96), r"image must have sides that are multiples of 64, got \(64, 96\)"),
    ],
)
def test_networks_refuse_other_images(network, shape, text):
    with pytest.raises(ValueError, match=text):
        tiny(network)(torch.zeros(shape))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ({"num_feat": 6}, ValueError, "num_feat must be a multiple of 4, got 6"),
        ({"num_feat": "64"}, TypeError, "num_feat must be an integer, got '64'"),
        ({"num_landmarks": 0}, ValueError, "num_landmarks must be at least 1, got 0"),
    ],
)
def test_networks_refuse_other_sizes(network, args, error, text):
    with pytest.raises(error, match=text):
        network(**args)


def test_stacks_refuse_other_arguments():
    with pytest.raises(ValueError, match="num_stacks must be at least 1, got 0"):
        StackedHourglass(num_stacks=0)
    with pytest.raises(ValueError, match="connect must be one of mean, cat, got 'sum'"):
        StackedHourglass(connect="sum")


def test_stacks_refuse_another_number_of_hidden_maps():
    with pytest.raises(ValueError, match=r"hidden must have one map for each stack but the last \(1\), got 2"):
        tiny(StackedHourglass, num_stacks=2)(image(1, 3, 64, 64), [image(1, 16, 16, 16)] * 2)
