"""Landmark networks that are small enough for tests."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from facesr_plugin.archs.fan_arch import CompressedFAN
from facesr_plugin.archs.hourglass_arch import StackedHourglass
from facesr_plugin.archs.jasrnet_arch import JASRNet
from facesr_plugin.checkpoints import Weights, make_record, save_weights
from helpers.fill import fill_state


def save_compressed_fan(path: Path, num_landmarks: int = 68) -> Path:
    """Write a filled network of width 2 with its record, as training saves it."""
    return _save(path, CompressedFAN, "progressive", num_landmarks=num_landmarks, num_feat=2)


def save_stacked_hourglass(path: Path) -> Path:
    """Write a filled DIC evaluation network with two stacks of width 4 with its record."""
    return _save(path, StackedHourglass, "dic", num_feat=4, num_stacks=2)


def save_tiny_jasrnet(path: Path, num_landmarks: int = 68, **faces: Any) -> Path:
    """Write a JASRNet of width 4 with PyTorch's initialisation; ``faces`` as its record has them."""
    args = {"num_landmarks": num_landmarks, "num_feat": 4, "num_block": 1}
    torch.manual_seed(0)
    state = JASRNet(**args, init_type="torch").state_dict()
    save_weights(path, Weights("jasrnet", "JASRNet", args, state, "params", path, faces=faces))
    return path


def _save(path: Path, arch: type[nn.Module], system: str, **args: Any) -> Path:
    shapes = {key: tuple(value.shape) for key, value in arch(**args).state_dict().items()}
    state = {key: torch.from_numpy(value) for key, value in fill_state(shapes).items()}
    torch.save({"params": state, "facesr": make_record(system, arch.__name__, args)}, path)
    return path
