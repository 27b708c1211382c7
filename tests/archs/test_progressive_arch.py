"""The progressive generator: layout, steps and fade-in, errors, and that it keeps nothing between calls."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facesr_plugin.archs.arch_util import EqualConv2d
from facesr_plugin.archs.progressive_arch import ProgressiveFSRNet
from facesr_plugin.archs.progressive_discriminator_arch import ProgressiveFSRDiscriminator
from facesr_plugin.registry import ARCH_REGISTRY


def tiny(**args):
    torch.manual_seed(0)
    return ProgressiveFSRNet(**{"num_feat": 8, **args})


def image(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def net():
    """A network in eval mode whose statistics are not the initial ones."""
    net = tiny()
    with torch.no_grad():
        net(image(4, 3, 8, 8, seed=2))
    return net.eval()


def test_generator_has_the_published_counts():
    with torch.device("meta"):
        net = ProgressiveFSRNet()
        used = {step: sum(parameter.numel() for parameter in _reached(net, step)) for step in (1, 2, 3)}
    assert sum(parameter.numel() for parameter in net.parameters()) == 8_969_097
    assert used == {1: 6_835_715, 2: 8_541_187, 3: 8_967_939}


def _reached(net, step):
    """Parameters that take part in a step without fading."""
    parts = [net.head, net.head_norm, *net.stages[:step], net.to_rgb[step - 1]]
    return [parameter for part in parts for parameter in part.parameters()]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_generator_gives_gradients_to_the_parameters_of_its_step_alone(step):
    net = tiny()
    net(image(2, 3, 4, 4), step).square().mean().backward()
    reached = {id(parameter) for parameter in _reached(net, step)}
    assert {id(value) for value in net.parameters() if value.grad is not None} == reached


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_generator_enlarges_by_its_step(net, step, alpha):
    with torch.no_grad():
        assert net(image(2, 3, 6, 10), step, alpha).shape == (2, 3, 6 * 2**step, 10 * 2**step)


def test_generator_runs_its_last_step_by_default(net):
    lq = image(1, 3, 4, 4)
    assert torch.equal(net(lq), net(lq, step=3, alpha=1.0))


@pytest.mark.parametrize("step", [2, 3])
def test_generator_fades_from_the_step_before(net, step):
    lq = image(1, 3, 4, 4)
    with torch.no_grad():
        before, newest = F.interpolate(net(lq, step - 1), scale_factor=2, mode="nearest"), net(lq, step)
        torch.testing.assert_close(net(lq, step, 0.0), before)
        torch.testing.assert_close(net(lq, step, 0.25), 0.75 * before + 0.25 * newest)


@pytest.mark.parametrize(("step", "alpha"), [(1, 0.5), (2, -1.0), (2, 1.0), (3, 1.5), (3, -0.01)])
def test_generator_does_not_fade_elsewhere(net, step, alpha):
    lq = image(1, 3, 4, 4)
    assert torch.equal(net(lq, step, alpha), net(lq, step))


def test_generator_does_not_run_later_stages(net):
    nn.init.constant_(net.stages[2].up.weight, float("nan"))
    assert net(image(1, 3, 4, 4), step=2).isfinite().all()


@pytest.mark.parametrize("step", [0, 4, 1.5, None, "2"])
def test_generator_refuses_other_steps(net, step):
    with pytest.raises(ValueError, match=f"step must be 1, 2 or 3, got {step!r}"):
        net(image(1, 3, 4, 4), step)


def test_generator_refuses_other_shapes(net):
    with pytest.raises(ValueError, match=r"lq must have shape \(N, 3, H, W\), got \(1, 1, 4, 4\)"):
        net(image(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("num_feat", "error", "text"),
    [
        (12, ValueError, "num_feat must be a multiple of 8, got 12"),
        (0, ValueError, "num_feat must be at least 8, got 0"),
        (16.0, TypeError, "num_feat must be an integer, got 16.0"),
    ],
)
def test_generator_refuses_other_widths(num_feat, error, text):
    with pytest.raises(error, match=text):
        ProgressiveFSRNet(num_feat=num_feat)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301
def test_generator_can_be_copied_after_a_training_step(copier):
    net = tiny()
    net(image(2, 3, 4, 4), 3, 0.5).square().mean().backward()
    twin = copier(net).eval()
    assert torch.equal(net.eval()(image(1, 3, 4, 4)), twin(image(1, 3, 4, 4)))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_generator_in_eval_mode_treats_samples_alone(net, step):
    batch = image(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(net(batch, step, 0.5)[1:2], net(batch[1:2], step, 0.5), atol=1e-5, rtol=1e-5)


def test_generator_keeps_nothing_between_calls(net):
    lq = image(2, 3, 4, 4)
    with torch.no_grad():
        first = net(lq, 2, 0.5)
        net(lq, 3)
        net(lq, 1)
        assert torch.equal(net(lq, 2, 0.5), first)


def test_generator_in_train_mode_moves_only_the_statistics_that_it_used():
    net = tiny()
    net(image(2, 3, 4, 4), step=1)
    moved = {name for name, value in net.named_buffers() if name.endswith("num_batches_tracked") and value == 1}
    used = ("head_norm", "stages.0.block.norm1", "stages.0.block.norm2", "stages.0.norm")
    assert moved == {f"{name}.num_batches_tracked" for name in used}


@pytest.mark.parametrize("network", [ProgressiveFSRNet, ProgressiveFSRDiscriminator])
@pytest.mark.parametrize(("step", "alpha"), [(1, 1.0), (2, 0.0), (2, 0.5), (2, 1.0), (3, 0.5), (3, 1.0)])
def test_idle_parts_are_those_without_gradients(network, step, alpha):
    net = network(num_feat=8)
    net(image(2, 3, 8, 8), step, alpha).square().mean().backward()
    idle = {parameter for part in net.idle_parts(step, alpha) for parameter in part.parameters()}
    assert idle == {parameter for parameter in net.parameters() if parameter.grad is None}


def test_equal_convolution_scales_its_weight_but_not_its_bias():
    torch.manual_seed(0)
    conv = EqualConv2d(6, 64)
    assert (conv.bias == 0).all()
    assert conv.weight_orig.std().item() == pytest.approx(1, abs=0.05)
    assert list(conv.state_dict()) == ["bias", "weight_orig"]
    nn.init.ones_(conv.bias)
    x = image(1, 6, 5, 5)
    expected = F.conv2d(x, conv.weight_orig, padding=1) * (2 / (6 * 9)) ** 0.5
    torch.testing.assert_close(conv(x), expected + 1)
    torch.testing.assert_close(conv(x, add_bias=False), expected)


def test_generator_is_registered():
    assert ARCH_REGISTRY.get("ProgressiveFSRNet") is ProgressiveFSRNet
