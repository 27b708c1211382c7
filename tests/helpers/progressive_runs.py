"""Options of a tiny progressive run: faces of 32 pixels from 4, three stages in eight iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.options import model_options
from helpers.tiny_fan import save_tiny_fan

STAGES = [
    {"scale": 2, "iters": 2, "weights": {"pixel": 10, "gan": 1}},
    {"scale": 4, "iters": 3, "fade_iters": 2, "weights": {"pixel": 10, "gan": 1, "attention": 500, "heatmap": 50}},
    {"scale": 8, "iters": 3, "fade_iters": 2, "weights": {"pixel": 10, "attention": 50}},
]


def progressive_options(folder: Path, **train: Any) -> dict[str, Any]:
    """Options as ``parse_options`` gives them; ``train`` over those of the run."""
    adam = {"type": "Adam", "lr": 1e-3, "betas": [0.0, 0.99]}
    fan = str(save_tiny_fan(folder / "fan.pth"))
    defaults = {
        "total_iter": 8,
        "stages": STAGES,
        "optim_g": adam,
        "optim_d": adam,  # one section, as by an anchor of YAML
        "attention_opt": {"type": "FacialAttentionLoss", "weights": fan},
        "heatmap_opt": {"type": "FaceHeatmapLoss", "weights": fan},
        "gan_opt": {"type": "WGANGPLoss"},
    }
    made = model_options(folder, **{**defaults, **train})
    made |= {"model_type": "ProgressiveFSRModel", "scale": 8}
    made["network_g"] = {"type": "ProgressiveFSRNet", "num_feat": 16}
    made["network_d"] = {"type": "ProgressiveFSRDiscriminator", "num_feat": 16}
    made["val"] = {"metrics": {"psnr": {"type": "calculate_progressive_psnr"}}}
    return made
