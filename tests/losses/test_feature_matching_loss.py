"""Feature matching: formula, detached target, gradients."""

import pytest
import torch

from facesr_plugin.losses.feature_matching_loss import SPARNetFeatureMatchingLoss


def features(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(2, 3, size, size, generator=generator, dtype=dtype) for size in sizes]
        for sizes in ((4, 2), (2, 1))
    ]


def test_feature_matching_sums_layers_and_averages_scales():
    sr, gt = features(0), features(1)
    means = [(sr[i][j] - gt[i][j]).abs().mean() for i in range(2) for j in range(2)]
    assert torch.allclose(SPARNetFeatureMatchingLoss(loss_weight=4.0)(sr, gt), 4 * sum(means) / 2)


def test_feature_matching_gives_the_target_no_gradient():
    sr, gt = features(0), features(1)
    for tensor in [tensor for scale in [*sr, *gt] for tensor in scale]:
        tensor.requires_grad_()
    SPARNetFeatureMatchingLoss()(sr, gt).backward()
    assert all(tensor.grad is None for scale in gt for tensor in scale)
    assert all(tensor.grad is not None for scale in sr for tensor in scale)


def test_feature_matching_has_the_gradient_of_its_value():
    sr, gt = features(0, torch.float64), features(1, torch.float64)
    loss = SPARNetFeatureMatchingLoss()
    target = [[gt[0][0], gt[0][0][..., :1]]]
    assert torch.autograd.gradcheck(lambda x: loss([[x, x[..., :1]]], target), sr[0][0].requires_grad_())


def test_feature_matching_refuses_other_numbers_of_scales_and_layers():
    sr = features(0)
    with pytest.raises(ValueError, match="features of the same scales, got 2 and 1"):
        SPARNetFeatureMatchingLoss()(sr, sr[:1])
    with pytest.raises(ValueError, match="features of the same layers, got 2 and 1"):
        SPARNetFeatureMatchingLoss()(sr, [sr[0], sr[1][:1]])
