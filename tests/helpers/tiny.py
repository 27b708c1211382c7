"""A SPARNet small enough for tests, with random but fixed weights."""

from pathlib import Path

import torch

from facesr_plugin.archs.sparnet_arch import SPARNet
from facesr_plugin.checkpoints import Weights, save_weights

TINY = {"min_ch": 4, "max_ch": 8, "res_depth": 1, "bottleneck_size": 16}


def tiny_sparnet(seed: int = 0) -> SPARNet:
    """Return the network with weights large enough that its output has structure and stays mostly in range."""
    torch.manual_seed(seed)
    network = SPARNet(**TINY).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 4:
                torch.nn.init.kaiming_normal_(parameter)
        network.tail.conv.weight.mul_(0.3)
    return network


def save_tiny_sparnet(path: Path, seed: int = 0) -> Path:
    """Write the network as a weight file of ours and return its path."""
    save_weights(path, Weights("sparnet", "SPARNet", dict(TINY), tiny_sparnet(seed).state_dict(), "params", path))
    return path
