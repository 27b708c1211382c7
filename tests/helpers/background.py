"""Background networks of BasicSR, small enough for tests, and their files."""

from pathlib import Path

import torch
from basicsr.archs.rrdbnet_arch import RRDBNet
from basicsr.archs.srvgg_arch import SRVGGNetCompact
from torch import nn


def rrdbnet(scale: int, seed: int = 0) -> RRDBNet:
    """Return one with other sizes than the published ones; it gives a sharper picture, roughly."""
    torch.manual_seed(seed)
    return _near_identity(RRDBNet(3, 3, scale=scale, num_feat=8, num_block=1, num_grow_ch=4))


def compact_net(scale: int) -> SRVGGNetCompact:
    """Return one with other sizes than the published ones."""
    torch.manual_seed(0)
    return SRVGGNetCompact(num_feat=6, num_conv=2, upscale=scale, act_type="prelu").eval()


def save_background(path: Path, network: nn.Module, kind: str = "params_ema") -> Path:
    """Write the network as BasicSR does and return the path."""
    torch.save({kind: network.state_dict()}, path)
    return path


def _near_identity(network: RRDBNet) -> RRDBNet:
    """Scale the last layer so that the output fills [0, 1]."""
    with torch.no_grad():
        output = network(torch.rand(1, 3, 16, 16))
        network.conv_last.weight.mul_(0.25 / output.std())
        network.conv_last.bias.fill_(0.5)
    return network.eval()
