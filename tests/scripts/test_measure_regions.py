"""The regions that ``scripts/measure_regions.py`` measures, and what it says of errors in them."""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from facesr_plugin.data.synthetic import generate_face

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_regions.py"
SPEC = importlib.util.spec_from_file_location("measure_regions", SCRIPT)
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)


class EmptyMaps(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images), 68, *images.shape[2:])


def test_regions_hold_eyes_and_mouth_only() -> None:
    _, points = generate_face(0, 96)
    mask = script.region_mask(points, 96)
    inside, outside = (points[chosen].round().astype(int) for chosen in (np.r_[36:60], np.r_[4:13, 27:31]))
    assert mask[inside[:, 1], inside[:, 0]].all()
    assert not mask[outside[:, 1], outside[:, 0]].any()
    assert 0.02 < mask.mean() < 0.3


def test_errors_in_the_regions_count_there() -> None:
    face, points = generate_face(0, 96)
    mask = script.region_mask(points, 96)
    image = face.copy()
    image[mask] ^= 16
    whole, regions, share, nme = script.measure(image, face, points, EmptyMaps())
    assert regions < whole - 5
    assert np.isclose(share, 1 / mask.mean())
    assert nme > 0.5
