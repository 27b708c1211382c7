"""SPARNetHD's discriminator."""

import copy
import pickle

import pytest
import torch
from torch import nn

from facesr_plugin.archs import arch_util
from facesr_plugin.archs.arch_util import SpectralConv2d
from facesr_plugin.archs.sparnet_discriminator_arch import SPARNetDiscriminator
from facesr_plugin.ops.fused import fused_leaky_relu
from facesr_plugin.registry import ARCH_REGISTRY

TINY = {"base_ch": 4, "n_layers": 2, "num_d": 2}


def tiny(**args):
    torch.manual_seed(0)
    return SPARNetDiscriminator(**{**TINY, **args})


def image(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("args", "parameters", "entries"),
    [
        ({}, 11_750_403, 84),
        ({"spectral_norm": False}, 11_750_403, 48),
        ({"norm_type": "none"}, 11_746_179, 72),
        ({"norm_type": "none", "spectral_norm": False}, 11_746_179, 36),
    ],
)
def test_discriminator_has_the_published_counts(args, parameters, entries):
    with torch.device("meta"):
        net = SPARNetDiscriminator(**args)
    assert sum(value.numel() for value in net.parameters()) == parameters
    assert len(net.state_dict()) == entries
    assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == 18


def test_discriminator_scores_have_the_published_sizes():
    with torch.no_grad():
        judgements = SPARNetDiscriminator(base_ch=2, max_ch=4).eval()(image(1, 3, 512, 512))
    assert [tuple(judgement.score.shape) for judgement in judgements] == [(1, 1, 30, 30), (1, 1, 14, 14), (1, 1, 6, 6)]
    assert [feature.shape[-1] for feature in judgements[1].features] == [256, 128, 64, 32, 16]


def test_discriminator_smallest_input_is_the_published_one():
    net = SPARNetDiscriminator(base_ch=2, max_ch=4).eval()
    assert net(image(1, 3, 132, 132))[-1].score.shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="image must be at least 132x132, got 131x200. Use fewer scales"):
        net(image(1, 3, 131, 200))


def test_discriminator_has_no_norm_in_its_first_layers_and_spectral_norm_everywhere():
    net = tiny()
    assert all(isinstance(scale.layers[0].norm, nn.Identity) for scale in net.scales)
    assert all(isinstance(scale.layers[1].norm, nn.InstanceNorm2d) for scale in net.scales)
    assert all(isinstance(module, SpectralConv2d) for module in net.modules() if isinstance(module, nn.Conv2d))


def test_discriminator_features_do_not_include_the_score():
    judgement = tiny()(image(2, 3, 40, 40))[0]
    assert [tuple(feature.shape) for feature in judgement.features] == [
        (2, 4, 40, 40),
        (2, 8, 20, 20),
        (2, 16, 10, 10),
    ]
    assert judgement.score.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("args", [{}, {"norm_type": "none", "spectral_norm": False}])
def test_discriminator_gives_the_same_through_fused_layers(monkeypatch, args):
    net = tiny(**args).eval()
    for scale in net.scales:
        for layer in scale.layers:
            nn.init.uniform_(layer.conv.bias, -1, 1) if layer.conv.bias is not None else None
    expected = net(image(1, 3, 41, 40))
    fused = []
    monkeypatch.setattr(arch_util, "choose_backend", lambda x: "other")
    monkeypatch.setattr(arch_util, "fused_leaky_relu", lambda *given: fused.append(given) or fused_leaky_relu(*given))
    actual = net(image(1, 3, 41, 40))
    assert len(fused) == (6 if args else 2)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours.score, theirs.score)


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ({"num_d": 0}, ValueError, "num_d must be at least 1, got 0"),
        ({"base_ch": 4.0}, TypeError, "base_ch must be an integer, got 4.0"),
        ({"norm_type": "batch"}, ValueError, "norm_type must be one of"),
        ({"spectral_norm": 1}, TypeError, "spectral_norm must be true or false, got 1"),
    ],
)
def test_discriminator_rejects_bad_options(args, error, text):
    with pytest.raises(error, match=text):
        tiny(**args)


def test_discriminator_rejects_other_shapes():
    with pytest.raises(ValueError, match=r"image must have shape \(N, 3, H, W\), got \(1, 1, 40, 40\)"):
        tiny()(image(1, 1, 40, 40))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301
def test_discriminator_can_be_copied_after_a_training_step(copier):
    net = tiny()
    sum(judgement.score.mean() for judgement in net(image(2, 3, 40, 40))).backward()
    twin = copier(net).eval()
    net.eval()
    for ours, theirs in zip(net(image(1, 3, 40, 40)), twin(image(1, 3, 40, 40)), strict=True):
        torch.testing.assert_close(ours.score, theirs.score, atol=0, rtol=0)


def test_discriminator_in_eval_mode_treats_samples_alone():
    """In float64: the norm of maps of few pixels amplifies how kernels for other batch sizes sum in float32."""
    net = tiny().double().eval()
    batch = image(2, 3, 40, 40).double()
    for both, alone in zip(net(batch), net(batch[1:]), strict=True):
        torch.testing.assert_close(both.score[1:], alone.score, atol=1e-10, rtol=1e-10)


def test_discriminator_is_registered():
    assert ARCH_REGISTRY.get("SPARNetDiscriminator") is SPARNetDiscriminator
