"""Bicubic halving; the comparison of its backends is in test_backends."""

import torch

from facesr_plugin.ops.upfirdn import halve


def test_halve_steps_exactly_two_pixels_also_for_odd_sizes():
    ramp = torch.arange(11.0).expand(1, 1, 11, 11)
    halved = halve(ramp)
    assert halved.shape == (1, 1, 5, 5)
    torch.testing.assert_close(halved[0, 0, 0, 1:4], torch.tensor([2.5, 4.5, 6.5]))


def test_halve_does_not_smooth_first():
    checks = (torch.arange(16)[:, None] % 4 < 2).float().expand(1, 1, 16, 16)
    assert halve(checks).max() > 1
