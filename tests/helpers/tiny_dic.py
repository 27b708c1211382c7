"""A DIC generator small enough for tests, with random but fixed weights."""

from pathlib import Path

import torch
from torch import nn

from facesr_plugin.archs.dic_arch import DICNet
from facesr_plugin.checkpoints import make_record

TINY_DIC = {"num_feat": 4, "num_groups": 2, "num_steps": 3, "num_fusion_block": 1, "hourglass_feat": 4}


def tiny_dic(seed: int = 0, **args: int) -> DICNet:
    """Return the network in eval mode, as if it were trained; ``args`` change its size."""
    net = DICNet(**TINY_DIC | args)
    return draw_weights(net, seed).eval()


def draw_weights(net: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all weights as torch does for its layers: DIC's hourglass starts with heatmaps of 0, which shows nothing."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    return net


def save_tiny_dic(path: Path) -> Path:
    """Write the network with its record, as training saves it, and return its path."""
    torch.save({"params": tiny_dic().state_dict(), "facesr": make_record("dic", "DICNet", TINY_DIC)}, path)
    return path
