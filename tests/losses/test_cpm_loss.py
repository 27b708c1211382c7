"""The loss of the heatmaps of all stages."""

import pytest
import torch

from facesr_plugin.losses.cpm_loss import CPMLoss, stage_distance
from facesr_plugin.ops.heatmap_targets import render_targets
from facesr_plugin.registry import LOSS_REGISTRY
from helpers.jasrnet_literal import literal_cpm


def maps(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def given():
    """Three stages, target and mask."""
    mask = (maps(2, 5, 1, 1, seed=9) < 0.6).double()
    return [maps(2, 5, 4, 6, seed=i) for i in range(3)], maps(2, 5, 4, 6, seed=5), mask


def test_cpm_loss_equals_the_selection_of_visible_maps(given):
    assert CPMLoss(loss_weight=0.5)(*given).item() == pytest.approx(0.5 * literal_cpm(*given).item(), rel=1e-12)


def test_cpm_loss_has_the_gradient_of_its_formula(given):
    stages, target, mask = given
    stages = [stage.requires_grad_() for stage in stages]
    assert torch.autograd.gradcheck(lambda *stages: stage_distance(stages, target, mask), stages)


def test_cpm_loss_gives_nothing_to_hidden_maps_and_targets(given):
    stages, target, mask = given
    stages, target = [stage.requires_grad_() for stage in stages], target.requires_grad_()
    CPMLoss()(stages, target, mask).backward()
    hidden = (mask == 0).expand_as(target)
    assert target.grad is None
    assert all((stage.grad[hidden] == 0).all() and (stage.grad[~hidden] != 0).all() for stage in stages)


def test_cpm_loss_of_no_prediction_is_that_of_the_specification():
    """68 points spread over a box of 68 pixels: about 370, most of it from the background."""
    landmarks = torch.rand(16, 68, 2, generator=torch.Generator().manual_seed(0)) * 68 + 30
    target = render_targets(landmarks, (128, 128))
    loss = CPMLoss()([torch.zeros_like(target.heatmaps)] * 3, *target)
    assert loss.item() == pytest.approx(370, rel=0.03)


def test_cpm_loss_is_a_sum_over_stages_and_a_mean_over_images(given):
    stages, target, mask = given
    alone = sum(CPMLoss()([stage], target, mask) for stage in stages)
    twice = CPMLoss()(
        [stage.repeat(2, 1, 1, 1) for stage in stages], target.repeat(2, 1, 1, 1), mask.repeat(2, 1, 1, 1)
    )
    torch.testing.assert_close(CPMLoss()(*given), alone)
    torch.testing.assert_close(twice, alone)


def test_cpm_loss_of_half_precision_is_summed_in_float32():
    stages = [torch.full((1, 69, 32, 32), 0.5, dtype=torch.bfloat16)] * 3
    loss = CPMLoss()(stages, torch.zeros(1, 69, 32, 32), torch.ones(1, 69, 1, 1))
    assert (loss.dtype, loss.item()) == (torch.float32, 3 * 69 * 1024 / 8)


def test_cpm_loss_refuses_other_shapes(given):
    stages, target, mask = given
    with pytest.raises(
        ValueError, match=r"heatmaps must have the shape of target, \(2, 5, 4, 6\), got \[\(2, 5, 4, 5\)\]"
    ):
        CPMLoss()([stage[..., :5] for stage in stages], target, mask)
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 5, 1, 1\), got \(2, 5\)"):
        CPMLoss()(stages, target, mask.flatten(1))
    with pytest.raises(ValueError, match=r"heatmaps must have the shape of target, .*, got \[\]"):
        CPMLoss()([], target, mask)


def test_cpm_loss_is_registered():
    assert LOSS_REGISTRY.get("CPMLoss") is CPMLoss
