"""A progressive generator small enough for tests, with random but fixed weights."""

from pathlib import Path

import torch

from facesr_plugin.archs.progressive_arch import ProgressiveFSRNet
from facesr_plugin.checkpoints import to_official

TINY_PROGRESSIVE = {"num_feat": 8}


def tiny_progressive(seed: int = 0) -> ProgressiveFSRNet:
    """Return the network in eval mode, with statistics that are not the initial ones."""
    torch.manual_seed(seed)
    net = ProgressiveFSRNet(**TINY_PROGRESSIVE)
    with torch.no_grad():
        net(torch.rand(4, 3, 8, 8) * 2 - 1)
    return net.eval()


def save_official_progressive(path: Path, *, step: int = 3, alpha: float = 1.0) -> Path:
    """Write the network as the authors' program saves it from several GPUs and return its path."""
    official = to_official("progressive", tiny_progressive().state_dict(), TINY_PROGRESSIVE)
    state = {f"module.{key}": value for key, value in official.items()}
    torch.save({"step": step, "alpha": alpha, "iteration": 5, "model_state_dict": state}, path)
    return path
