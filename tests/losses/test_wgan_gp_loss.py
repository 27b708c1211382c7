"""WGAN-GP: terms by hand, the penalty and its second derivatives, merged passes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from basicsr.losses import build_loss
from torch import Tensor, nn

from facesr_plugin.archs.progressive_discriminator_arch import ProgressiveFSRDiscriminator
from facesr_plugin.losses.wgan_gp_loss import WGANGPLoss, penalty_norms
from facesr_plugin.registry import register


def images(number: int, *, side: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, 3, side, side, generator=generator, dtype=dtype) * 2 - 1


class SmoothCritic(nn.Module):
    """Twice differentiable everywhere; couples the images of a batch as the real one does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2, 3, padding=1)
        self.linear = nn.Linear(3, 1)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        feat = torch.tanh(self.conv(x)).mean((2, 3))
        spread = x.std(0).mean().expand(len(x), 1)
        return self.linear(torch.cat([feat, spread], 1)).squeeze(1)


def test_terms_are_the_formulas() -> None:
    loss = WGANGPLoss(loss_weight=3.0, drift_weight=0.01)
    scores = torch.tensor([1.0, 2.0, -4.0])
    assert loss(scores, True).item() == pytest.approx(-3 * (-1 / 3))
    assert loss(scores, False, is_disc=True).item() == pytest.approx(-1 / 3)
    assert loss(scores, True, is_disc=True).item() == pytest.approx(1 / 3 + 0.01 * (1 + 4 + 16) / 3)


def test_drift_is_the_mean_of_the_squares_by_scale() -> None:
    loss = WGANGPLoss(drift_weight=1.0)
    scales = [torch.tensor([1.0, -1.0]), torch.tensor([[3.0], [-3.0]])]
    assert loss(scales, True, is_disc=True).item() == pytest.approx((1 + 9) / 2)


def test_defaults_are_the_published_ones() -> None:
    defaults = {"loss_weight": 1.0, "gp_weight": 10.0, "drift_weight": 0.001}
    assert WGANGPLoss.__init__.__kwdefaults__ == defaults


def test_penalty_of_a_linear_critic_is_known() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64).view(3, 1, 1)
    norm = (5.25 * 16) ** 0.5  # of the sum over 4x4 pixels

    def critic(x: Tensor) -> Tensor:
        return (weight * x).sum((1, 2, 3))

    gt, sr = images(3), images(3, seed=1)
    torch.testing.assert_close(penalty_norms(critic, gt, sr), torch.full((1, 3), norm, dtype=torch.float64))
    assert WGANGPLoss(gp_weight=7.0).gradient_penalty(critic, gt, sr).item() == pytest.approx(7 * (norm - 1) ** 2)


def test_penalty_is_two_sided() -> None:
    loss = WGANGPLoss(gp_weight=1.0)
    assert loss.gradient_penalty(lambda x: 0 * x.sum((1, 2, 3)), images(2), images(2, seed=1)).item() == 1


def test_penalty_is_taken_between_the_images() -> None:
    gt, sr = images(2), images(2, seed=1)
    share = torch.tensor([0.25, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    norms = penalty_norms(lambda x: x.square().sum((1, 2, 3)) / 2, gt, sr, share)
    between = torch.stack([0.25 * gt[0] + 0.75 * sr[0], gt[1]])
    torch.testing.assert_close(norms[0], between.flatten(1).norm(dim=1))


def test_penalty_draws_one_share_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.sum((1, 2, 3))

    torch.manual_seed(0)
    penalty_norms(critic, torch.ones(64, 3, 4, 4), torch.zeros(64, 3, 4, 4))
    assert torch.equal(seen[0], seen[0][:, :1, :1, :1].expand(64, 3, 4, 4))
    shares = seen[0][:, 0, 0, 0]
    assert len(shares.unique()) == 64
    assert 0 <= shares.min() < 0.1 < 0.9 < shares.max() < 1


def test_penalty_of_scales_is_their_mean_over_scores_of_any_shape() -> None:
    loss, gt, sr = WGANGPLoss(), images(2), images(2, seed=1)
    torch.manual_seed(0)
    expected = loss.gradient_penalty(lambda x: x.square().mean((1, 2, 3)), gt, sr)
    torch.manual_seed(0)
    found = loss.gradient_penalty(lambda x: [x.square().mean((1, 2, 3)), x.square()], gt, sr)
    assert found.item() == pytest.approx(expected.item())


def test_penalty_has_the_gradient_of_its_value_in_the_weights() -> None:
    critic, loss = SmoothCritic(), WGANGPLoss()
    gt, sr = images(2), images(2, seed=1)
    names, weights = zip(*critic.named_parameters(), strict=True)

    def penalty(*values: Tensor) -> Tensor:
        torch.manual_seed(0)
        state = dict(zip(names, values, strict=True))
        return loss.gradient_penalty(lambda x: torch.func.functional_call(critic, state, (x,)), gt, sr)

    assert torch.autograd.gradcheck(penalty, weights)


@pytest.mark.parametrize(("step", "alpha"), [(1, 1.0), (2, 0.4)])
def test_critic_of_progressive_fsr_has_right_second_derivatives(step: int, alpha: float) -> None:
    torch.manual_seed(0)
    critic = ProgressiveFSRDiscriminator(num_feat=8).double()
    x = images(2, side=2**step).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda images: critic(images, step, alpha), x)


def test_penalty_reaches_weights_and_not_images() -> None:
    torch.manual_seed(0)
    critic = ProgressiveFSRDiscriminator(num_feat=8).double()
    gt, sr = (images(2, side=8, seed=seed).requires_grad_() for seed in (0, 1))
    WGANGPLoss().gradient_penalty(lambda x: critic(x, 2, 0.5), gt, sr).backward()
    assert gt.grad is None
    assert sr.grad is None
    assert critic.stages[1].conv1.weight_orig.grad.abs().max() > 0


def test_one_pass_over_both_gives_the_terms_and_gradients_of_two() -> None:
    torch.manual_seed(0)
    critic, loss = ProgressiveFSRDiscriminator(num_feat=8).double(), WGANGPLoss()
    sr, gt = images(3, side=8), images(3, side=8, seed=1)

    def terms(found: Tensor, wanted: Tensor) -> Tensor:
        return torch.stack([loss(found, False, is_disc=True), loss(wanted, True, is_disc=True)])

    apart = terms(critic(sr, 2, 0.5), critic(gt, 2, 0.5))
    merged = terms(*critic(torch.cat([sr, gt]), 2, 0.5, groups=2).chunk(2))
    torch.testing.assert_close(merged, apart, rtol=1e-12, atol=0)
    used = [value for name, value in critic.named_parameters() if not name.startswith(("from_rgb.2", "stages.2"))]
    for one, other in zip(*(torch.autograd.grad(total.sum(), used) for total in (merged, apart)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)


def test_terms_have_the_gradient_of_their_value() -> None:
    scores = torch.linspace(-2, 3, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: WGANGPLoss(loss_weight=2.0)(x, True), scores)
    assert torch.autograd.gradcheck(lambda x: WGANGPLoss(drift_weight=0.5)(x, True, is_disc=True), scores)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])  # noqa: S301
def test_loss_can_be_copied(copier: Any) -> None:
    assert copier(WGANGPLoss(gp_weight=3.0)).gp_weight == 3


def test_loss_is_built_by_name() -> None:
    register()
    assert build_loss({"type": "WGANGPLoss", "gp_weight": 1}).gp_weight == 1


@pytest.mark.parametrize("name", ["gp_weight", "drift_weight"])
def test_loss_refuses_a_negative_weight(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be 0 or more, got -1"):
        WGANGPLoss(**{name: -1})


def test_loss_refuses_no_scores_and_other_shapes() -> None:
    with pytest.raises(ValueError, match="scores must have at least one scale"):
        WGANGPLoss()([], True)
    with pytest.raises(ValueError, match=r"one shape \(N, C, H, W\), got \(2, 3, 4, 4\) and \(2, 3, 2, 2\)"):
        penalty_norms(torch.sum, images(2), images(2, side=2))
