"""Weights of the small face detector with which it finds faces in any picture, for tests that look at what follows."""

from pathlib import Path

import torch

from helpers.fill import fill_state

_OFFSETS = (-0.5, -0.5, 0.5, -0.5, 0.0, 0.0, -0.45, 0.5, 0.45, 0.5)  # tenths of an anchor's side: the five points


def save_detector(path: Path) -> Path:
    """Write weights of ``mobile0.25`` that see a face at every anchor of 64 and of 128 pixels; NMS leaves a few."""
    from facexlib.detection.retinaface import RetinaFace

    network = RetinaFace(network_name="mobile0.25", device=torch.device("cpu"))
    state = fill_state({key: tuple(value.shape) for key, value in network.state_dict().items()})
    for key, value in state.items():
        if "Head" in key:
            value[:] = 0
    for level in range(3):
        certain = 10.0 if level == 1 else -10.0
        state[f"ClassHead.{level}.conv1x1.bias"][:] = [-certain, certain] * 2  # background, face
        state[f"LandmarkHead.{level}.conv1x1.bias"][:] = _OFFSETS * 2
    torch.save({key: torch.from_numpy(value) for key, value in state.items()}, path)
    return path
