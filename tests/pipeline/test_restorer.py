from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import facesr_plugin
from facesr_plugin.archs.sparnet_arch import SPARNet
from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import Weights, save_weights
from facesr_plugin.ops.protocol import prepare_input, quantise, to_float
from facesr_plugin.pipeline.restorer import Restorer, fitted_size
from helpers.tiny import save_tiny_sparnet, tiny_sparnet

CARD = get_card("sparnet")


def random_face(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def assert_same_levels(image: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for sums in another order (1e-6) that fall on the other side of a whole number before truncation."""
    assert image.dtype == np.uint8
    difference = np.abs(image.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.fixture
def restorer() -> Restorer:
    return Restorer(tiny_sparnet(), CARD, device="cpu")


def test_load_restores_as_the_published_protocol(tmp_path: Path) -> None:
    """PIL bicubic, ToTensor, Normalize(0.5, 0.5), network, truncation (spec 5.1), written out with Pillow and NumPy."""
    face = random_face(16, 16)
    (restored,) = facesr_plugin.load(save_tiny_sparnet(tmp_path / "w.pth"), device="cpu")(face)
    enlarged = np.asarray(Image.fromarray(face).resize((128, 128), Image.BICUBIC))
    images = (torch.from_numpy(enlarged.copy()).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        output = tiny_sparnet()(images)[0].permute(1, 2, 0).numpy()
    expected = np.clip((output + 1) / 2 * 255, 0, 255).astype(np.uint8)
    assert expected.std() > 10
    assert_same_levels(restored, expected)


def test_load_takes_faces_in_the_size_that_the_network_was_trained_for(tmp_path: Path) -> None:
    args = {"min_ch": 4, "max_ch": 8, "in_size": 64, "out_size": 64, "res_depth": 1, "norm_type": "in"}
    weights = Weights("sparnethd", "SPARNet", args, SPARNet(**args).state_dict(), "params", tmp_path / "w.pth")
    save_weights(weights.path, weights)
    restorer = facesr_plugin.load(weights.path, device="cpu")
    assert restorer(random_face(100, 100))[0].shape == (64, 64, 3)
    assert restorer.card == get_card("sparnethd").sized(64)


def test_restorer_prepares_as_the_card_says(restorer: Restorer) -> None:
    face = random_face(20, 16)
    images = to_float(torch.from_numpy(face).permute(2, 0, 1)[None])
    with torch.no_grad():
        output = restorer.network(prepare_input(images, CARD, (160, 128)))
    assert_same_levels(restorer([face])[0], quantise(output, CARD)[0].permute(1, 2, 0).numpy())


def test_restorer_gives_a_face_the_same_result_alone_and_in_a_batch(restorer: Restorer) -> None:
    faces = [random_face(16, 16, 1), random_face(24, 16, 2), random_face(16, 16, 3), random_face(130, 130, 4)]
    together = restorer(faces, batch=2)
    assert [image.shape for image in together] == [(128, 128, 3), (192, 128, 3), (128, 128, 3), (128, 128, 3)]
    for face, image in zip(faces, together, strict=True):
        assert_same_levels(restorer(face)[0], image)


def test_restorer_accepts_nothing(restorer: Restorer) -> None:
    assert restorer([]) == []


def test_restorer_always_uses_eval_mode() -> None:
    network = tiny_sparnet().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    restorer = Restorer(network, CARD, device="cpu")
    restorer([random_face(16, 16)])
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((16, 16), (128, 128)),
        ((128, 128), (128, 128)),
        ((500, 500), (128, 128)),
        ((20, 16), (160, 128)),
        ((16, 21), (128, 168)),
        ((100, 101), (128, 128)),
        ((160, 128), (160, 128)),
    ],
)
def test_fitted_size_keeps_the_ratio(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fitted_size(size, CARD) == expected
    assert fitted_size(expected, CARD) == expected


def test_restorer_gives_the_scaled_size_for_a_card_without_upsampling() -> None:
    network = nn.Upsample(scale_factor=8)
    restorer = Restorer(network, replace(CARD, upsampling=None), device="cpu")
    images = restorer([random_face(16, 16), random_face(48, 32)])
    assert [image.shape for image in images] == [(128, 128, 3), (192, 128, 3)]


def test_restorer_cuts_what_a_deeper_network_adds() -> None:
    restorer = Restorer(nn.ReplicationPad2d((0, 8, 0, 24)), replace(CARD, output_rounding="round"), device="cpu")
    face = random_face(136, 128)
    np.testing.assert_array_equal(restorer([face])[0], face)


@pytest.mark.parametrize(
    ("face", "error", "message"),
    [
        (random_face(3, 9), ValueError, "face must be at least 4 x 4 pixels, got 9 x 3"),
        (random_face(8, 40), ValueError, "face must be at most 4 times as long as wide, got 40 x 8"),
        (random_face(16, 16)[..., :1], ValueError, r"face must have shape \(H, W, 3\), RGB, got \(16, 16, 1\)"),
        (random_face(16, 16).astype(np.float32), TypeError, "face must be a uint8 array, got float32"),
        ("face.png", TypeError, "face must be a uint8 array, got str"),
    ],
)
def test_restorer_refuses_other_faces(restorer: Restorer, face: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        restorer([face])


def test_restorer_computes_close_to_fp32_in_bf16() -> None:
    face = random_face(16, 16)
    exact, rough = (Restorer(tiny_sparnet(), CARD, "cpu", kind)(face)[0].astype(int) for kind in ("fp32", "bf16"))
    assert 0 < np.abs(exact - rough).mean() < 1.5  # bf16 has 8 significant bits


def test_restorer_refuses_what_torch_cannot_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(nn.functional, "conv2d", refuse)
    with pytest.raises(ValueError, match=r"precision fp16 is not available on cpu with torch .* Use fp32"):
        Restorer(nn.Identity(), CARD, "cpu", "fp16")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_restorer_refuses_a_precision_that_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older torch warns and computes in fp32."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: torch.no_grad())
    with pytest.raises(ValueError, match="precision fp16 is not available on cpu"):
        Restorer(nn.Identity(), CARD, "cpu", "fp16")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "tpu:0"])
def test_restorer_refuses_unknown_devices(device: str) -> None:
    with pytest.raises(ValueError, match=f"device must be auto, cpu, cuda or cuda:N and present here, got '{device}'"):
        Restorer(nn.Identity(), CARD, device)


def test_restorer_refuses_unknown_precisions() -> None:
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, fp16, got 'int8'"):
        Restorer(nn.Identity(), CARD, "cpu", "int8")


def test_restorer_refuses_output_that_is_not_finite() -> None:
    network = tiny_sparnet()
    nn.init.constant_(network.tail.conv.bias, float("nan"))
    with pytest.raises(ValueError, match="output is not finite in fp32"):
        Restorer(network, CARD, "cpu")([random_face(16, 16)])


def test_load_refuses_weights_of_another_network(tmp_path: Path) -> None:
    from facesr_plugin.archs.sparnet_arch import SPARNet

    args = {"min_ch": 4, "max_ch": 8, "res_depth": 0}
    weights = Weights("sparnet", "SPARNet", args, SPARNet(**args).state_dict(), "params", tmp_path)
    save_weights(tmp_path / "w.pth", weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facesr_plugin.pipeline.restorer.get_card", lambda _: replace(CARD, arch="OtherNet"))
        with pytest.raises(ValueError, match=r"must hold weights of OtherNet, got SPARNet"):
            facesr_plugin.load(tmp_path / "w.pth")


def test_load_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        facesr_plugin.load(tmp_path / "none.pth")
