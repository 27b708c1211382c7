"""One tiny training of every model, in a process, without files of data: options and batches by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from basicsr.models import build_model

from helpers import dic_runs
from helpers.options import hd_model_options, model_options
from helpers.progressive_runs import progressive_options
from helpers.tiny_dic import TINY_DIC
from helpers.tiny_jasrnet import jasrnet_batch, jasrnet_options


class TinySystem(NamedTuple):
    """``options(folder, **train)`` as ``parse_options`` gives them, ``batch(seed)``, and the first iteration of all."""

    options: Callable[..., dict[str, Any]]
    batch: Callable[[int], dict[str, Any]]
    first: int = 1

    def build(self, folder: Path, **train: Any) -> Any:
        """Build the model; weights differ with each one."""
        folder.mkdir(parents=True, exist_ok=True)
        return build_model(self.options(folder, **train))

    def step(self, model: Any, iteration: int, **changes: Any) -> None:
        """Run an iteration on a batch of its own, with some of its entries changed."""
        model.feed_data(self.batch(iteration) | changes)
        model.optimize_parameters(iteration)


def _faces(side: int, small: int) -> Callable[[int], dict[str, Any]]:
    def batch(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        return {
            "lq": torch.rand(2, 3, small, small, generator=generator),
            "gt": torch.rand(2, 3, side, side, generator=generator),
            "lq_path": [f"{seed}_{face}.png" for face in range(2)],
        }

    return batch


def _points(side: int, number: int) -> Callable[[int], dict[str, Any]]:
    def batch(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        lq = torch.rand(2, 3, side, side, generator=generator)
        return {"lq": lq, "landmarks": torch.rand(2, number, 2, generator=generator) * (side - 1)}

    return batch


def _hourglass_options(folder: Path, **train: Any) -> dict[str, Any]:
    dic_runs.save_hourglass(folder / "hourglass.pth")
    terms = {"pixel_opt": None, "heatmap_opt": {"type": "MSELoss", "loss_weight": 1.0}, "num_steps": 2}
    made = model_options(folder, **{**terms, **train}) | {"model_type": "DICHourglassModel"}
    made["network_g"] = {"type": "FeedbackHourglass", "num_feat": TINY_DIC["hourglass_feat"]}
    made["path"]["pretrain_network_g"] = str(folder / "hourglass.pth")
    return made


def _fan_options(folder: Path, **train: Any) -> dict[str, Any]:
    terms = {"pixel_opt": None, "heatmap_opt": {"type": "MSELoss", "loss_weight": 1.0}}
    made = model_options(folder, **{**terms, **train}) | {"model_type": "FANDistillModel"}
    made["network_g"] = {"type": "CompressedFAN", "num_landmarks": 3, "num_feat": 4}
    return made


SYSTEMS = {
    "sparnet": TinySystem(model_options, _faces(32, 4)),
    "sparnethd": TinySystem(hd_model_options, _faces(32, 32)),
    "dic": TinySystem(dic_runs.dic_options, dic_runs.batch),
    "dicgan": TinySystem(dic_runs.dicgan_options, dic_runs.batch),
    "jasrnet": TinySystem(jasrnet_options, jasrnet_batch),
    "progressive": TinySystem(progressive_options, _faces(32, 4), first=4),  # all losses, in the middle of a fade
    "dic_hourglass": TinySystem(_hourglass_options, _points(64, 68)),
    "fan_distill": TinySystem(_fan_options, _points(32, 3)),
}
GANS = ("sparnethd", "dicgan", "progressive")
FUSED = {"type": "Adam", "lr": 1e-3, "betas": [0.5, 0.99], "fused": True}
FUSED_ON_CPU = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)


def copy_networks(source: Any, target: Any) -> None:
    """Give a model the weights and buffers of another one."""
    for name in ("net_g", "net_g_ema", "net_d"):
        if hasattr(source, name):
            getattr(target, name).load_state_dict(getattr(source, name).state_dict())


def state(model: Any) -> dict[str, Any]:
    """Copies of all that an iteration may change: networks with buffers, and optimisers."""
    networks = [name for name in ("net_g", "net_g_ema", "net_d") if hasattr(model, name)]
    tensors = {f"{name}.{key}": v for name in networks for key, v in getattr(model, name).state_dict().items()}
    for number, optimizer in enumerate(model.optimizers):
        for parameter, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer{number}.{parameter}.{key}": value for key, value in entry.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}
