"""Restoration with JASRNet: its enlargement, and what a file says about range, size and reduction of its faces."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.models import build_model

import facesr_plugin
from facesr_plugin.archs.jasrnet_arch import JASRNet
from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import Weights, save_official, save_weights
from facesr_plugin.cli import main
from facesr_plugin.utils.imageio import read_image, write_png
from helpers.tiny_jasrnet import jasrnet_options

ARGS = {"num_landmarks": 5, "num_feat": 4, "num_block": 1, "upscale": 8, "rgb_range": 1.0}


def random_face(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def tiny(**args):
    torch.manual_seed(0)
    net = JASRNet(**{**ARGS, "init_type": "torch", **args}).eval()
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.startswith("sr_tail"):
                value.mul_(3)
        net.sr_tail.bias.add_(-torch.tensor([0.37, 0.34, 0.31]) * args.get("rgb_range", 1))
    return net


def save(path: Path, faces: dict[str, int] | None = None, writer=save_weights, **args) -> Path:
    weights = Weights(
        "jasrnet", "JASRNet", {**ARGS, **args}, tiny(**args).state_dict(), "params", path, faces=faces or {}
    )
    writer(path, weights)
    return path


@pytest.mark.parametrize("writer", [save_weights, save_official])
@pytest.mark.parametrize("rgb_range", [1.0, 255.0])
def test_load_restores_as_the_published_protocol(tmp_path: Path, rgb_range: float, writer) -> None:
    """OpenCV bicubic on bytes, times rgb_range / 255, network, clamped, rounded."""
    face = random_face(16, 16)
    restorer = facesr_plugin.load(save(tmp_path / "w.pth", writer=writer, rgb_range=rgb_range), device="cpu")
    enlarged = cv2.resize(face, (128, 128), interpolation=cv2.INTER_CUBIC)
    image = torch.from_numpy(enlarged).permute(2, 0, 1)[None].float() * (rgb_range / 255)
    with torch.no_grad():
        output = tiny(rgb_range=rgb_range)(image)[0].permute(1, 2, 0).numpy()
    expected = np.rint(np.clip(output / rgb_range * 255, 0, 255)).astype(np.uint8)
    assert expected.std() > 10
    difference = np.abs(restorer(face)[0].astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize(
    ("faces", "size", "lq_size"),
    [({}, 128, 16), ({"gt_size": 256, "scale": 4}, 256, 64), ({"gt_size": 256, "scale": 2}, 256, 128)],
)
def test_load_takes_faces_of_the_size_and_reduction_of_the_training(tmp_path: Path, faces, size, lq_size) -> None:
    restorer = facesr_plugin.load(save(tmp_path / "w.pth", faces), device="cpu")
    assert (restorer.card.lq_size, restorer.card.gt_size) == (lq_size, size)
    assert restorer(random_face(lq_size, lq_size))[0].shape == (size, size, 3)


@pytest.mark.parametrize(
    ("size", "restored"),
    [((30, 30), (128, 128)), ((31, 40), (128, 168)), ((128, 128), (128, 128)), ((300, 200), (192, 128))],
)
def test_small_images_of_any_size_are_restored(tmp_path: Path, size, restored) -> None:
    write_png(tmp_path / "in/face.png", random_face(*size))
    weights = save(tmp_path / "w.pth")
    arguments = ["infer", str(tmp_path / "in"), "--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert read_image(tmp_path / "out/face.png").shape == (*restored, 3)


def test_load_refuses_faces_that_the_network_cannot_have(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", {"gt_size": 100, "scale": 4})
    with pytest.raises(ValueError, match="faces of jasrnet must have a multiple of 8 pixels, at most 4096, got 100"):
        facesr_plugin.load(path, device="cpu")


def test_a_trainings_file_tells_inference_size_reduction_and_range(tmp_path: Path) -> None:
    options = jasrnet_options(tmp_path)
    options |= {"scale": 4, "datasets": {"train": {"gt_size": 64}}}
    options["network_g"]["rgb_range"] = 255
    build_model(options).save(0, 1)
    card = facesr_plugin.load(tmp_path / "models/net_g_1.pth", device="cpu").card
    assert (card.lq_size, card.scale, card.gt_size) == (16, 4, 64)
    assert card == get_card("jasrnet").sized(64, 4).in_range(255)
