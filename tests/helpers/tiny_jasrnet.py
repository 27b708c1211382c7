"""Options of a tiny JASRNet run, and batches for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from helpers.options import model_options

SIDE = 32
POINTS = 68


def jasrnet_options(folder: Path, **train: Any) -> dict[str, Any]:
    """Options as ``parse_options`` gives them, for 68 points; ``train`` over the published losses."""
    made = model_options(folder, **{"landmark_opt": {"type": "CPMLoss", "loss_weight": 1.0}, **train})
    made |= {
        "model_type": "JASRNetModel",
        "scale": 8,
        "network_g": {"type": "JASRNet", "num_feat": 4, "num_block": 1, "init_type": "torch"},
        "val": {"metrics": None, "suffix": None},
    }
    made["path"]["visualization"] = str(folder / "pictures")
    return made


def jasrnet_batch(seed: int = 0, number: int = 2, points: int = POINTS) -> dict[str, Any]:
    """Random faces of 32 pixels with their small inputs and landmarks."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "lq": torch.randint(0, 256, (number, 3, SIDE // 8, SIDE // 8), generator=generator) / 255,
        "gt": torch.randint(0, 256, (number, 3, SIDE, SIDE), generator=generator) / 255,
        "landmarks": torch.rand(number, points, 2, generator=generator) * (SIDE - 1),
        "lq_path": [f"{seed}_{face}.png" for face in range(number)],
    }
