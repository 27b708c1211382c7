"""Options, faces and batches of DIC for training runs that take seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facesr_plugin.checkpoints import make_record
from helpers.options import model_options
from helpers.tiny_dic import TINY_DIC, draw_weights, save_tiny_dic, tiny_dic

SIDE = 64  # of the faces; the small ones have 8


def dic_options(folder: Path, **train: Any) -> dict[str, Any]:
    """Options of a run of the tiny DIC, from weights whose heatmaps are not 0."""
    defaults = {
        "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.999]},
        "align_opt": {"type": "MSELoss", "loss_weight": 0.1},
        "hourglass_freeze_iter": 0,
    }
    made = model_options(folder, **{**defaults, **train})
    made |= {"model_type": "DICModel", "network_g": {"type": "DICNet", **TINY_DIC}, "scale": 8}
    folder.mkdir(parents=True, exist_ok=True)
    made["path"]["pretrain_network_g"] = str(save_tiny_dic(folder / "start.pth"))
    return made


def dicgan_options(folder: Path, **train: Any) -> dict[str, Any]:
    """Options of a run of the tiny DICGAN, without feature loss (its network is not tiny)."""
    defaults = {
        "optim_d": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.999]},
        "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.005},
        "hourglass_freeze_iter": -1,
    }
    made = dic_options(folder, **{**defaults, **train})
    made |= {"model_type": "DICGANModel", "network_d": {"type": "LightCNNDiscriminator", "image_size": SIDE}}
    return made


def save_hourglass(path: Path, seed: int = 5) -> dict[str, Tensor]:
    """Write weights that fit the landmark branch of the tiny DIC, and return them."""
    hourglass = draw_weights(tiny_dic().hourglass, seed)
    record = make_record("dic", "FeedbackHourglass", {"num_landmarks": 68, "num_feat": TINY_DIC["hourglass_feat"]})
    torch.save({"params": hourglass.state_dict(), "facesr": record}, path)
    return hourglass.state_dict()


def batch(seed: int = 0, number: int = 2, num_landmarks: int = 68) -> dict[str, Any]:
    """A batch as the data sets give it."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "lq": torch.rand(number, 3, SIDE // 8, SIDE // 8, generator=generator),
        "gt": torch.rand(number, 3, SIDE, SIDE, generator=generator),
        "landmarks": torch.rand(number, num_landmarks, 2, generator=generator) * (SIDE - 1),
        "lq_path": [f"{seed}_{i}.png" for i in range(number)],
    }


def step(model: Any, iteration: int, number: int = 2) -> None:
    """Run an iteration on a batch of its own."""
    model.feed_data(batch(iteration, number))
    model.optimize_parameters(iteration)


def states(model: Any) -> dict[str, Tensor]:
    """Copies of all tensors of a model's networks."""
    nets = [name for name in ("net_g", "net_g_ema", "net_d") if hasattr(model, name)]
    return {f"{name}.{key}": v.clone() for name in nets for key, v in getattr(model, name).state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the parts of networks of which a tensor differs: ``net_g.head``."""
    changed = (key for key, value in after.items() if not torch.equal(value, before[key]))
    return {".".join(key.split(".")[:2]) for key in changed}


class Loader(list):
    """Batches as BasicSR's validation takes them."""

    class dataset:  # noqa: N801  BasicSR's name
        opt = {"name": "faces"}
