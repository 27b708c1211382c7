"""Adversarial objectives: formulas, factors, gradients."""

import math
import pickle

import pytest
import torch

from facesr_plugin.losses.gan_loss import OBJECTIVES, SPARNetGANLoss, gan_term

SCORE = 0.25
FORMULAS = {  # of one score: discriminator on real, on fake, generator
    "hinge": (1 - SCORE, 1 + SCORE, -SCORE),
    "lsgan": ((SCORE - 1) ** 2, SCORE**2, (SCORE - 1) ** 2),
    "vanilla": (math.log1p(math.exp(-SCORE)), math.log1p(math.exp(SCORE)), math.log1p(math.exp(-SCORE))),
    "wgan": (-SCORE, SCORE, -SCORE),
    "softwgan": (math.log1p(math.exp(-SCORE)), math.log1p(math.exp(SCORE)), math.log1p(math.exp(-SCORE))),
}


@pytest.mark.parametrize("gan_type", OBJECTIVES)
def test_gan_loss_halves_the_discriminators_terms_and_weights_the_generators(gan_type):
    loss = SPARNetGANLoss(gan_type=gan_type, loss_weight=3.0)
    scores = [torch.full((2, 1, 3, 3), SCORE), torch.full((2, 1, 1, 1), SCORE)]
    found = [loss(scores, True, is_disc=True), loss(scores, False, is_disc=True), loss(scores, True)]
    real, fake, generator = FORMULAS[gan_type]
    assert [float(value) for value in found] == pytest.approx([real / 2, fake / 2, 3 * generator], rel=1e-6)


@pytest.mark.parametrize("gan_type", OBJECTIVES)
def test_gan_loss_is_the_mean_over_scales_of_any_size(gan_type):
    loss = SPARNetGANLoss(gan_type=gan_type)
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(2, 1, size, size, generator=generator) for size in (5, 2)]
    assert torch.allclose(loss(scores, True), (loss(scores[0], True) + loss([scores[1]], True)) / 2)


@pytest.mark.parametrize("gan_type", OBJECTIVES)
@pytest.mark.parametrize(("target_is_real", "is_disc"), [(True, True), (False, True), (True, False)])
def test_gan_loss_has_the_gradient_of_its_value(gan_type, target_is_real, is_disc):
    scores = torch.linspace(-2.2, 2.3, 12, dtype=torch.float64).view(2, 1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gan_term([x, x[..., :1]], gan_type, target_is_real, is_disc), scores)


def test_gan_loss_stays_finite_for_large_scores():
    loss = SPARNetGANLoss(gan_type="vanilla")
    assert float(loss(torch.tensor([-1e4]), True)) == 1e4


def test_gan_loss_can_be_pickled():
    assert pickle.loads(pickle.dumps(SPARNetGANLoss(gan_type="wgan"))).gan_type == "wgan"


def test_gan_loss_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"gan_type must be one of hinge, .*, got 'wgangp'"):
        SPARNetGANLoss(gan_type="wgangp")
    with pytest.raises(ValueError, match="scores must have at least one scale"):
        SPARNetGANLoss()([], True)
    with pytest.raises(ValueError, match="target_is_real must be true"):
        SPARNetGANLoss()(torch.zeros(1), False)
