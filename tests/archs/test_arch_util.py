"""Spectral norm and checkpointing of SPARNet's blocks, and convolutions of joined maps."""

import copy

import pytest
import torch
import torch.nn.functional as F

from facesr_plugin.archs.arch_util import JoinedConv2d, refine_spectral_norm
from facesr_plugin.archs.sparnet_arch import SPARNet

TINY = {"min_ch": 8, "max_ch": 16, "in_size": 32, "out_size": 32, "res_depth": 0, "bottleneck_size": 16}


def tiny(**args):
    torch.manual_seed(0)
    return SPARNet(**{**TINY, **args})


def test_checkpointing_gives_the_same_gradients_and_vectors():
    nets = [tiny(norm_type="in", spectral_norm=True, checkpointing=value) for value in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    lq = torch.rand(2, 3, 64, 64)
    outputs = [net(lq) for net in nets]
    for output in outputs:
        output.square().mean().backward()
    assert torch.equal(*outputs)
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert torch.equal(one, other)
    assert not any(getattr(module, "recomputing", False) for module in nets[1].modules())


def test_checkpointing_keeps_fewer_features():
    kept = []
    for checkpointing in (False, True):
        net, sizes = tiny(norm_type="in", checkpointing=checkpointing), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            net(torch.rand(1, 3, 64, 64))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 4


def test_checkpointing_is_refused_with_batch_norm():
    with pytest.raises(ValueError, match="checkpointing must be false for norm_type 'bn'"):
        tiny(norm_type="bn", checkpointing=True)
    with pytest.raises(TypeError, match="checkpointing must be true or false, got 1"):
        tiny(norm_type="in", checkpointing=1)


def test_refine_spectral_norm_does_what_a_forward_in_train_mode_does():
    net = tiny(norm_type="in", spectral_norm=True)
    twin = copy.deepcopy(net)
    net(torch.rand(1, 3, 64, 64))
    refine_spectral_norm(twin)
    for one, other in zip(net.buffers(), twin.buffers(), strict=True):
        assert torch.equal(one, other)


def test_joined_convolution_is_that_of_the_joined_maps():
    torch.manual_seed(0)
    conv = JoinedConv2d(4, 6, num_parts=3)
    parts = [torch.randn(2, 4, 5, 7) for _ in range(3)]
    expected = F.conv2d(torch.cat(parts, 1), conv.weight, conv.bias)
    torch.testing.assert_close(conv(parts), expected)
    torch.testing.assert_close(sum(conv.convolve_part(i, part) for i, part in enumerate(parts)), expected)
    assert [tuple(value.shape) for value in conv.state_dict().values()] == [(6, 12, 1, 1), (6,)]
