"""Faces through DIC: sizes that enter as they are, and the steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import facesr_plugin
from facesr_plugin.archs.dic_arch import DICOutput
from facesr_plugin.cards import get_card
from facesr_plugin.cli import main
from facesr_plugin.ops.heatmap import render_gaussian
from facesr_plugin.pipeline.restorer import Restorer
from facesr_plugin.pipeline.steps import find_steps
from facesr_plugin.utils.imageio import read_image, write_png
from helpers.tiny import tiny_sparnet
from helpers.tiny_dic import save_tiny_dic, tiny_dic

MEAN = torch.tensor([0.509, 0.424, 0.378]).view(3, 1, 1)


def random_face(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer(tiny_dic(), get_card("dic"), "cpu")


def test_dic_subtracts_the_mean_and_rounds(restorer: Restorer) -> None:
    face = random_face(16, 16)
    with torch.no_grad():
        output = restorer.network(torch.from_numpy(face).permute(2, 0, 1)[None] / 255 - MEAN)[0] + MEAN
    expected = (output.permute(1, 2, 0) * 255).clamp(0, 255).round().numpy()
    assert expected.std() > 1
    np.testing.assert_array_equal(restorer(face)[0], expected)


@pytest.mark.parametrize("size", [(16, 16), (8, 8), (24, 16), (32, 40), (120, 120)])
def test_dic_takes_small_multiples_of_8_as_they_are(restorer: Restorer, size: tuple[int, int]) -> None:
    face = random_face(*size)
    assert restorer.fit(face) is face


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((128, 128), (16, 16)),
        ((20, 20), (16, 16)),
        ((12, 16), (16, 24)),
        ((178, 178), (16, 16)),
        ((192, 128), (24, 16)),
    ],
)
def test_dic_reduces_other_faces_to_the_published_size(restorer: Restorer, size: tuple, fitted: tuple) -> None:
    face = random_face(*size)
    found = restorer.fit(face)
    assert found.shape[:2] == fitted
    if size == (178, 178):  # by way of the face that training has
        steps = [128, 16]
        for side in steps:
            face = np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(found, face)


def test_restorer_takes_faces_as_they_are_when_told() -> None:
    restorer = Restorer(tiny_dic(), get_card("dic"), "cpu", as_is=True)
    assert restorer.fit(random_face(128, 136)).shape == (128, 136, 3)
    with pytest.raises(ValueError, match="face must have sides of multiples of 8 to enter dic as it is, got 30 x 20"):
        restorer.fit(random_face(20, 30))
    with pytest.raises(ValueError, match="as_is must be unset for sparnet, which enlarges the small image"):
        Restorer(tiny_sparnet(), get_card("sparnet"), "cpu", as_is=True)


def test_restorer_runs_fewer_large_faces_at_a_time() -> None:
    seen = []

    class Network(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(images.shape))
            return nn.functional.interpolate(images, scale_factor=8)

    Restorer(Network(), get_card("dic"), "cpu")([random_face(32, 32)] * 3 + [random_face(16, 16)] * 5, batch=4)
    assert seen == [(1, 3, 32, 32)] * 3 + [(4, 3, 16, 16), (1, 3, 16, 16)]


def test_find_steps_gives_every_step(restorer: Restorer) -> None:
    face = random_face(24, 16)
    steps = find_steps(restorer, face)
    assert len(steps) == 3
    np.testing.assert_array_equal(steps[-1].image, restorer(face)[0])
    assert not np.array_equal(steps[0].image, steps[1].image)
    assert steps[0].image.shape == (192, 128, 3)
    assert steps[0].heatmaps.shape == (68, 48, 32)


def test_find_steps_reads_points_in_the_frame_of_training() -> None:
    """Pixel p of the image is p / 4 of the heatmaps; a quarter of a heatmap pixel is the decoder's own error."""
    true = torch.from_numpy(np.random.default_rng(0).uniform(8, 119, (1, 68, 2)))

    class Network(nn.Module):
        def forward(self, images: torch.Tensor, every_step: bool) -> DICOutput:
            return DICOutput([images.repeat(1, 1, 8, 8)], [render_gaussian(true / 4, (32, 32), 1.0)])

    (step,) = find_steps(Restorer(Network(), get_card("dic"), "cpu"), random_face(16, 16))
    error = step.points - true[0].numpy()
    assert np.abs(error).max() <= 1 + 1e-5
    assert np.abs(error.mean(0)).max() < 0.2


def test_find_steps_needs_a_network_with_steps() -> None:
    with pytest.raises(
        ValueError, match=r"steps must be of a network that has them, such as DIC's, got one of sparnet"
    ):
        find_steps(Restorer(tiny_sparnet(), get_card("sparnet"), "cpu"), random_face(16, 16))


def test_infer_draws_the_steps(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_png(tmp_path / "lq" / "a.png", random_face(16, 16))
    write_png(tmp_path / "gt" / "a.png", random_face(128, 128))
    weights, out = save_tiny_dic(tmp_path / "w.pth"), tmp_path / "out"
    arguments = [str(tmp_path / "lq"), "--weights", str(weights), "--out", str(out), "--device", "cpu", "--steps"]
    assert main(["infer", *arguments, "--gt", str(tmp_path / "gt")]) == 0
    assert "mean of 1, dic protocol:" in capsys.readouterr().out
    picture = read_image(out / "steps" / "a.png")
    assert picture.shape[1] > 5 * 256  # bicubic, three steps, ground truth
    assert picture.shape[0] > 3 * 256  # images, heatmaps, landmarks
    (expected,) = facesr_plugin.load(weights, device="cpu")(read_image(tmp_path / "lq" / "a.png"))
    np.testing.assert_array_equal(read_image(out / "a.png"), expected)


def test_infer_says_what_cannot_enter_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_png(tmp_path / "lq" / "a.png", random_face(20, 20))
    weights = save_tiny_dic(tmp_path / "w.pth")
    arguments = [str(tmp_path / "lq"), "--weights", str(weights), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["infer", *arguments, "--as-is"]) == 1
    assert "face must have sides of multiples of 8 to enter dic as it is, got 20 x 20" in capsys.readouterr().err
    assert main(["infer", *arguments]) == 0
