"""Small option dictionaries in the form that BasicSR's ``parse_options`` gives to models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TINY_SPARNET = {
    "type": "SPARNet",
    "min_ch": 4,
    "max_ch": 8,
    "in_size": 32,
    "out_size": 32,
    "min_feat_size": 16,
    "res_depth": 0,
    "bottleneck_size": 16,
}


def model_options(folder: Path, **train: Any) -> dict[str, Any]:
    """Options of a tiny SPARNet run whose files go below ``folder``."""
    return {
        "name": "tiny",
        "model_type": "SPARNetModel",
        "num_gpu": 0,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "is_train": True,
        "manual_seed": 7,
        "network_g": dict(TINY_SPARNET),
        "path": {"models": str(folder / "models"), "training_states": str(folder / "states")},
        "train": {
            "total_iter": 100,
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
            **train,
        },
    }


def hd_model_options(folder: Path, **train: Any) -> dict[str, Any]:
    """Options of a tiny SPARNetHD run, without perceptual loss (it needs VGG's weights)."""
    options = model_options(
        folder,
        **{
            "ema_decay": 0.9,
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.5, 0.99]},
            "optim_d": {"type": "Adam", "lr": 4e-3, "betas": [0.5, 0.99]},
            "pixel_opt": {"type": "L1Loss", "loss_weight": 10.0, "reduction": "mean"},
            "feature_matching_opt": {"type": "SPARNetFeatureMatchingLoss", "loss_weight": 1.0},
            "gan_opt": {"type": "SPARNetGANLoss", "gan_type": "hinge", "loss_weight": 1.0},
            **train,
        },
    )
    options["model_type"] = "SPARNetHDModel"
    options["network_g"] |= {"norm_type": "in", "spectral_norm": True}
    options["network_d"] = {"type": "SPARNetDiscriminator", "base_ch": 4, "n_layers": 1, "num_d": 2}
    return options
