"""The progressive critic: layout, the batch's statistic, groups, errors."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from facesr_plugin.archs import arch_util
from facesr_plugin.archs.progressive_discriminator_arch import ProgressiveFSRDiscriminator, batch_deviation
from facesr_plugin.ops.fused import fused_leaky_relu
from facesr_plugin.registry import ARCH_REGISTRY


def tiny(**args):
    torch.manual_seed(0)
    return ProgressiveFSRDiscriminator(**{"num_feat": 8, **args})


def image(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_critic_has_the_published_count():
    with torch.device("meta"):
        net = ProgressiveFSRDiscriminator()
    assert sum(parameter.numel() for parameter in net.parameters()) == 8_065_537


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_critic_scores_the_images_of_its_step(step, alpha):
    scores = tiny()(image(4, 3, 2 * 2**step, 3 * 2**step), step, alpha)
    assert scores.shape == (4,)
    assert scores.isfinite().all()


@pytest.mark.parametrize("step", [2, 3])
def test_critic_fades_from_the_halved_image(step):
    net, x = tiny(), image(2, 3, 16, 16)
    small = F.avg_pool2d(x, 2)
    torch.nn.init.zeros_(net.mix.weight_orig[:, -1])  # the statistic is that of the image that is given
    torch.testing.assert_close(net(x, step, 0.0), net(small, step - 1))
    torch.testing.assert_close(net(x, step, 0.999), net(x, step), atol=1e-2, rtol=0)
    assert torch.equal(net(x, step, -1.0), net(x, step))
    assert not torch.allclose(net(x, step, 0.5), net(x, step))


def test_critic_runs_no_stage_of_a_later_step():
    net = tiny()
    net(image(2, 3, 8, 8), step=2).sum().backward()
    unused = {name for name, value in net.named_parameters() if value.grad is None}
    assert unused == {
        name for name, _ in net.named_parameters() if name.startswith(("from_rgb.0", "from_rgb.2", "stages.2"))
    }


def test_deviation_is_the_mean_over_the_values_of_the_unbiased_one():
    x = image(3, 2, 4, 5)
    torch.testing.assert_close(batch_deviation(x), x.std(dim=0, unbiased=True).mean().expand(3))


def test_deviation_of_one_image_is_zero():
    assert torch.equal(batch_deviation(image(1, 3, 4, 4)), torch.zeros(1))
    assert torch.equal(batch_deviation(image(2, 3, 4, 4), groups=2), torch.zeros(2))
    assert tiny()(image(1, 3, 8, 8)).isfinite().all()


def test_deviation_is_differentiable_twice():
    x = torch.rand(3, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradgradcheck(batch_deviation, (x,))


def test_deviation_has_finite_second_gradients_where_all_images_agree():
    x = image(3, 1, 2, 2)
    x[:, :, 0] = 0.5  # as black borders do
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(batch_deviation(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert gradient.isfinite().all()
    assert x.grad.isfinite().all()


def test_critic_sees_the_batch_through_its_deviation():
    net, x = tiny(), image(4, 3, 8, 8)
    assert not torch.allclose(net(x)[:2], net(x[:2]))
    x.requires_grad_()
    net(x)[0].backward()
    assert (x.grad[1:] != 0).any()


@pytest.mark.parametrize("step", [1, 3])
def test_groups_are_judged_as_if_alone(step):
    net, sr, gt = tiny(), image(3, 3, 8, 8), image(3, 3, 8, 8, seed=2)
    together = net(torch.cat([sr, gt]), step, 0.5, groups=2)
    torch.testing.assert_close(together, torch.cat([net(sr, step, 0.5), net(gt, step, 0.5)]))


@pytest.mark.parametrize(
    ("shape", "call", "text"),
    [
        ((2, 1, 8, 8), {}, r"x must have shape \(N, 3, H, W\), got \(2, 1, 8, 8\)"),
        ((2, 3, 8, 12), {}, r"sides that are multiples of 8 in step 3, got \(8, 12\)"),
        ((2, 3, 0, 8), {}, r"sides that are multiples of 8 in step 3, got \(0, 8\)"),
        ((2, 3, 8, 8), {"step": 4}, "step must be 1, 2 or 3, got 4"),
        ((3, 3, 8, 8), {"groups": 2}, "groups must divide the batch of 3, got 2"),
        ((3, 3, 8, 8), {"groups": 0}, "groups must divide the batch of 3, got 0"),
    ],
)
def test_critic_refuses_what_it_cannot_judge(shape, call, text):
    with pytest.raises(ValueError, match=text):
        tiny()(torch.zeros(shape), **call)


def test_critic_refuses_other_widths():
    with pytest.raises(ValueError, match="num_feat must be a multiple of 8, got 20"):
        ProgressiveFSRDiscriminator(num_feat=20)


def test_critic_gives_the_same_through_fused_layers(monkeypatch):
    net = tiny()
    for stage in net.stages:
        torch.nn.init.uniform_(stage.conv1.bias, -1, 1)
    expected = net(image(2, 3, 8, 8))
    fused = []
    monkeypatch.setattr(arch_util, "choose_backend", lambda x: "other")
    monkeypatch.setattr(arch_util, "fused_leaky_relu", lambda *given: fused.append(given) or fused_leaky_relu(*given))
    torch.testing.assert_close(net(image(2, 3, 8, 8)), expected)
    assert len(fused) == 6


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301
def test_critic_can_be_copied_after_a_training_step(copier):
    net, x = tiny(), image(2, 3, 8, 8)
    net(x, 3, 0.5).mean().backward()
    assert torch.equal(copier(net)(x), net(x))


def test_critic_is_registered():
    assert ARCH_REGISTRY.get("ProgressiveFSRDiscriminator") is ProgressiveFSRDiscriminator
