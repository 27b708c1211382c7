"""A validation of five faces on one rank or, by ``helpers.ranks``, on several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import facesr_plugin
from facesr_plugin.metrics import fid_metric
from facesr_plugin.models.validation import Result
from helpers.faces import make_image
from helpers.options import model_options

VAL = {
    "metrics": {
        "psnr": {"type": "calculate_psnr", "crop_border": 0},
        "ssim": {"type": "calculate_ssim", "crop_border": 0},
        "nme": {"type": "calculate_nme", "normaliser": "box"},
        "fid": {"type": "calculate_fid"},
    },
    "best": "fid",
}


class Faces(Dataset):
    """Five faces with seven points each."""

    opt = {"name": "faces"}

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Any]:
        gt = torch.from_numpy(make_image(index).copy()).permute(2, 0, 1) / 255
        points = np.random.default_rng(index).uniform(4, 28, (7, 2)).astype(np.float32)
        return {"lq": gt[:, 4::8, 4::8], "gt": gt, "landmarks": torch.from_numpy(points), "lq_path": f"{index:03d}.png"}


class Means(torch.nn.Module):
    """Twelve features, in place of Inception's."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def validate_faces(rank: int, count: int, folder: Path) -> dict[str, float]:
    """Return the values that a rank knows afterwards; on another rank than 0 the statistics are wrong before."""
    facesr_plugin.register()
    from basicsr.models import build_model

    fid_metric.NUM_FEATURES, fid_metric._load_network = 12, lambda weights: Means()
    options = model_options(folder) | {"dist": count > 1, "rank": rank, "world_size": count, "val": VAL}
    options["path"]["visualization"] = str(folder / "pictures")
    torch.manual_seed(0)
    model = build_model(options)
    for buffer in model.net_g.buffers():
        buffer.add_(rank)
    shift = torch.linspace(0, 3, 14).view(7, 2)
    model.current_results = lambda: {
        "": Result(model.output, model.landmarks + shift * model.lq.mean((1, 2, 3), keepdim=True)[..., 0])
    }
    model.validation(DataLoader(Faces(), 1), 7, None, save_img=True)
    return getattr(model, "metric_results", {})
