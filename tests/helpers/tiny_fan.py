"""A landmark network small enough for tests, with random but fixed weights."""

from pathlib import Path

import torch

from facesr_plugin.archs.fan_arch import CompressedFAN
from facesr_plugin.checkpoints import Weights, save_weights

TINY_FAN = {"num_landmarks": 3, "num_feat": 2}


def tiny_fan(seed: int = 0) -> CompressedFAN:
    """Return the network in eval mode, with statistics that are not the initial ones."""
    torch.manual_seed(seed)
    net = CompressedFAN(**TINY_FAN)
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(4, 3, 8, 8))
    return net.eval()


def save_tiny_fan(path: Path, seed: int = 0) -> Path:
    """Write the network as a weight file of ours and return its path."""
    save_weights(path, Weights("progressive", "CompressedFAN", TINY_FAN, tiny_fan(seed).state_dict(), "params", path))
    return path
