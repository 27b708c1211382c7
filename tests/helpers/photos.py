"""Synthetic photographs of several people with known points, and networks whose work can be foreseen."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facesr_plugin.data.synthetic import generate_face
from facesr_plugin.ops.landmark import five_points

COLUMNS = ["file", *(f"{name}_{axis}" for name in ("leye", "reye", "nose", "lmouth", "rmouth") for axis in "xy")]
PLACES = ((20, 30, 96), (150, 12, 64), (240, 70, 80))  # left, top, side of the faces in ``group_photo``


def group_photo(places: tuple = PLACES, size: tuple[int, int] = (180, 340)) -> tuple[np.ndarray, np.ndarray]:
    """Return (H, W, 3) uint8 RGB with a face at each place on a slope of colours, and their (N, 5, 2) points."""
    y, x = np.mgrid[: size[0], : size[1]]
    photo = np.stack([x * 200 // size[1] + 20, y * 150 // size[0] + 60, (x + y) % 64 + 90], -1).astype(np.uint8)
    points = []
    for seed, (left, top, side) in enumerate(places):
        face, landmarks = generate_face(seed, side)
        photo[top : top + side, left : left + side] = face
        points.append(five_points(landmarks) + [left, top])
    return photo, np.array(points)


def write_points(path: Path, faces: Mapping[str, np.ndarray]) -> Path:
    """Write the (N, 5, 2) points of each photo as ``--landmarks`` takes them and return the path."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows([name, *five.reshape(-1)] for name, points in faces.items() for five in points)
    return path


class Negative(nn.Module):
    """Gives the negative of its input, in [-1, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to the same shape."""
        return -images


class Constant(nn.Module):
    """Gives one level everywhere."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.value = (level + 0.5) / 127.5 - 1

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to the same shape."""
        return torch.full_like(images, self.value)
