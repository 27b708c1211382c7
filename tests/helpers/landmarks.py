"""A landmark network that is small enough for tests."""

from pathlib import Path

import torch

from facesr_plugin.archs.fan_arch import CompressedFAN
from facesr_plugin.checkpoints import make_record
from helpers.fill import fill_state


def save_compressed_fan(path: Path, num_landmarks: int = 68) -> Path:
    """Write a filled network of width 2 with its record, as training saves it."""
    args = {"num_landmarks": num_landmarks, "num_feat": 2}
    shapes = {key: tuple(value.shape) for key, value in CompressedFAN(**args).state_dict().items()}
    state = {key: torch.from_numpy(value) for key, value in fill_state(shapes).items()}
    torch.save({"params": state, "facesr": make_record("progressive", "CompressedFAN", args)}, path)
    return path
