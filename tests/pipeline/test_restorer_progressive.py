"""Faces through a network that grows: the call, the steps, and the chain of reductions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import facesr_plugin
from facesr_plugin.cards import get_card
from facesr_plugin.cli import main
from facesr_plugin.pipeline.restorer import Restorer
from facesr_plugin.utils.imageio import read_image, write_png
from helpers.tiny_progressive import save_official_progressive, tiny_progressive


def random_face(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("step", "alpha"), [(1, 1.0), (2, 0.25), (3, 0.5), (3, 1.0)])
def test_load_calls_the_network_as_its_file_says(tmp_path: Path, step: int, alpha: float) -> None:
    """ToTensor, Normalize(0.5, 0.5), network, back to [0, 1] and rounded, written out with NumPy."""
    face = random_face(16, 16)
    weights = save_official_progressive(tmp_path / "w.pth", step=step, alpha=alpha)
    (restored,) = facesr_plugin.load(weights, device="cpu")(face)
    images = (torch.from_numpy(face).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        output = tiny_progressive()(images, step, alpha)[0].permute(1, 2, 0).numpy()
    expected = np.clip((output + 1) / 2 * 255, 0, 255).round()
    assert restored.shape == (16 * 2**step, 16 * 2**step, 3)
    assert expected.std() > 1
    assert np.abs(restored - expected).max() <= 1


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer(tiny_progressive(), get_card("progressive"), "cpu", call={"step": 1, "alpha": 1.0})


@pytest.mark.parametrize(
    ("size", "chain"),
    [
        (16, []),
        (178, [128, 64, 32, 16]),
        (128, [64, 32, 16]),
        (100, [64, 32, 16]),
        (40, [32, 16]),
        (20, [16]),
        (8, [16]),
    ],
)
def test_large_faces_are_halved_in_8_bits(restorer: Restorer, size: int, chain: list[int]) -> None:
    face = random_face(size, size)
    expected = Image.fromarray(face)
    for side in chain:
        expected = expected.resize((side, side), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(restorer.fit(face), np.asarray(expected))


def test_chain_keeps_the_ratio(restorer: Restorer) -> None:
    assert restorer.fit(random_face(160, 128)).shape == (20, 16, 3)
    assert restorer([random_face(160, 128), random_face(16, 18)])[0].shape == (40, 32, 3)


def test_infer_restores_with_a_converted_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_png(tmp_path / "gt" / "a.png", random_face(64, 64))
    official = save_official_progressive(tmp_path / "official.pth", step=2, alpha=0.5)
    assert main(["convert", str(official), str(tmp_path / "ours.safetensors")]) == 0
    assert "progressive ProgressiveFSRNet, 76 tensors (official names): num_feat 8, step 2, alpha 0.5" in (
        capsys.readouterr().out
    )
    arguments = [str(tmp_path / "gt"), "--weights", str(tmp_path / "ours.safetensors"), "--device", "cpu"]
    assert main(["infer", *arguments, "--out", str(tmp_path / "out"), "--gt", str(tmp_path / "gt"), "--grid"]) == 0
    assert "mean of 1, progressive protocol:" in capsys.readouterr().out
    expected = facesr_plugin.load(official, device="cpu")(read_image(tmp_path / "gt" / "a.png"))[0]
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a.png"), expected)


def test_attention_of_a_network_without_any_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_png(tmp_path / "lq" / "a.png", random_face(16, 16))
    weights = save_official_progressive(tmp_path / "w.pth")
    arguments = [str(tmp_path / "lq"), "--weights", str(weights), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["infer", *arguments, "--attention"]) == 2
    assert "must have attention branches, got none" in capsys.readouterr().err
