"""Heatmaps of aligned faces: frame of the points, sizes, files that hold no alignment network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from facesr_plugin.pipeline.heatmaps import HeatmapFinder
from helpers.tiny import save_tiny_sparnet
from helpers.tiny_fan import save_tiny_fan


def test_points_are_in_pixels_of_the_face(tmp_path: Path) -> None:
    finder = HeatmapFinder(save_tiny_fan(tmp_path / "fan.pth"), "cpu")
    finder.network = nn.Identity()  # the colours are the heatmaps
    face = np.zeros((128, 256, 3), np.uint8)
    for channel, (x, y) in enumerate([(20, 30), (200, 64), (100, 90)]):
        face[y - 2 : y + 3, x - 2 : x + 3, channel] = 255
    found = finder(face)
    assert found.heatmaps.shape == (3, 64, 128)
    assert np.allclose(found.points, [(20, 30), (200, 64), (100, 90)], atol=1)


def test_face_is_reduced_to_the_chosen_side(tmp_path: Path) -> None:
    finder = HeatmapFinder(save_tiny_fan(tmp_path / "fan.pth"), "cpu", side=50)
    assert finder(np.zeros((128, 128, 3), np.uint8)).heatmaps.shape == (3, 50, 50)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold weights of CompressedFAN, got SPARNet"):
        HeatmapFinder(save_tiny_sparnet(tmp_path / "sparnet.pth"), "cpu")
