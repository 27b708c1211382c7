import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from facesr_plugin.cards import get_card
from facesr_plugin.pipeline.background import Background, load_background
from facesr_plugin.pipeline.restorer import Restorer
from helpers.background import compact_net, rrdbnet, save_background
from helpers.photos import Constant, group_photo

PHOTO, POINTS = group_photo()
SMALL = cv2.GaussianBlur(PHOTO, (0, 0), 1)[:90, :150]


class Nearest(nn.Module):
    """Repeats every pixel and writes down the sizes that come in."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.sizes: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(tuple(images.shape[2:]))
        return nn.functional.interpolate(images, scale_factor=self.scale, mode="nearest")


def run_whole(network: nn.Module, photo: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 through the network at once, sides multiples of 4."""
    with torch.no_grad():
        output = network(torch.from_numpy(photo / np.float32(255)).permute(2, 0, 1)[None])
    return np.rint(output[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_load_background_finds_an_rrdbnets_arguments(tmp_path: Path, scale: int) -> None:
    network = rrdbnet(scale)
    photo = SMALL[:40, :48]
    background = load_background(save_background(tmp_path / "w.pth", network), device="cpu")
    result = background(photo, scale)
    expected = run_whole(network, photo)
    assert expected.std() > 10
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("scale", [2, 4])
def test_load_background_finds_a_compact_nets_arguments(tmp_path: Path, scale: int) -> None:
    network = compact_net(scale)
    background = load_background(save_background(tmp_path / "w.pth", network, "params"), device="cpu")
    result = background(SMALL[:40, :48], scale)
    assert np.abs(result.astype(int) - run_whole(network, SMALL[:40, :48])).max() <= 1


def test_load_background_prefers_the_average_and_takes_flat_and_half_files(tmp_path: Path) -> None:
    state, other = (rrdbnet(2, seed).state_dict() for seed in (0, 1))
    torch.save({"params": other, "params_ema": state}, tmp_path / "both.pth")
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "flat.pth")
    both, flat = (load_background(tmp_path / name, device="cpu")(SMALL, 2) for name in ("both.pth", "flat.pth"))
    expected = load_background(save_background(tmp_path / "w.pth", rrdbnet(2)), device="cpu")(SMALL, 2)
    np.testing.assert_array_equal(both, expected)
    assert np.abs(flat.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("scale", [2, 4])
def test_background_leaves_no_seam_between_tiles(tmp_path: Path, scale: int) -> None:
    """The network sees beyond a tile's margin of 16 pixels only faintly."""
    path = save_background(tmp_path / "w.pth", rrdbnet(scale))
    tiles, whole = (load_background(path, device="cpu", tile=tile)(SMALL, scale) for tile in (64, 512))
    assert np.abs(tiles.astype(int) - whole).max() <= 1


def test_background_fades_where_tiles_disagree() -> None:
    """A network that darkens each tile differently leaves slopes, no step."""

    class Drifting(nn.Module):
        level = 0.0

        def forward(self, images: Tensor) -> Tensor:
            self.level += 0.1
            return torch.full_like(images, self.level)

    image = Background(Drifting(), 1, device="cpu", tile=64)(SMALL, 1).astype(int)
    assert np.ptp(image) > 100
    assert max(np.abs(np.diff(image, axis=axis)).max() for axis in (0, 1)) <= 4


def test_background_bounds_what_the_network_sees_at_once() -> None:
    network = Nearest(2)
    photo = np.random.default_rng(0).integers(0, 256, (301, 203, 3), np.uint8)
    result = Background(network, 2, device="cpu", tile=64)(photo, 2)
    np.testing.assert_array_equal(result, photo.repeat(2, 0).repeat(2, 1))
    assert len(network.sizes) == 5 * 4
    assert max(max(size) for size in network.sizes) <= 64 + 2 * 32 + 4
    assert all(side % 4 == 0 for size in network.sizes for side in size)


@pytest.mark.parametrize(("scale", "factor"), [(4, 2), (2, 3), (4, 1), (1, 2)])
def test_background_reaches_other_factors_by_lanczos(scale: int, factor: int) -> None:
    photo = SMALL[:88, :148]
    result = Background(Nearest(scale), scale, device="cpu", tile=64)(photo, factor)
    repeated = Image.fromarray(photo.repeat(scale, 0).repeat(scale, 1))
    expected = np.array(repeated.resize((148 * factor, 88 * factor), Image.Resampling.LANCZOS))
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 70, 3), (65, 2)])
def test_background_takes_photos_of_any_size(shape: tuple[int, ...]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    result = Background(Nearest(2), 2, device="cpu", tile=64)(photo, 2)
    np.testing.assert_array_equal(result, photo.repeat(2, 0).repeat(2, 1))


def test_background_keeps_sixteen_bits() -> None:
    photo = np.random.default_rng(0).integers(0, 65536, (30, 70, 3), np.uint16)
    result = Background(Nearest(2), 2, device="cpu")(photo, 2)
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, photo.repeat(2, 0).repeat(2, 1))


def test_background_keeps_grey() -> None:
    class Red(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images * torch.tensor([1.0, 0, 0])[:, None, None]

    result = Background(Red(), 1, device="cpu")(np.full((9, 9), 200, np.uint8), 1)
    assert result.shape == (9, 9)
    assert (result == round(200 * 0.299)).all()


@pytest.mark.parametrize("upscale", [1, 2])
def test_restore_pastes_faces_into_the_networks_background(upscale: int) -> None:
    class Darker(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images / 2

    background = Background(Darker(), 1, device="cpu")
    hd = replace(get_card("sparnethd"), lq_size=128)
    result = Restorer(Constant(250), hd, device="cpu").restore(
        PHOTO, landmarks=POINTS[:1], upscale=upscale, background=background
    )
    expected = background(PHOTO, upscale)
    assert expected.max() < 160
    np.testing.assert_array_equal(result.image[:, 150 * upscale :], expected[:, 150 * upscale :])
    x, y = (POINTS[0, 2] * upscale).astype(int)
    assert (result.image[y, x] == 250).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"params": {"head.weight": torch.zeros(3)}}, "must hold a background network of BasicSR"),
        ([1, 2], "must hold a background network of BasicSR"),
        ({}, "must hold a background network of BasicSR"),
        (
            {"conv_first.weight": torch.zeros(4, 5, 3, 3), "conv_last.weight": torch.zeros(3, 4, 3, 3)},
            "got 5 channels in",
        ),
        ({"conv_first.weight": torch.zeros(4, 3, 3, 3)}, "damaged or no background network: 'conv_last.weight'"),
        ({"body.0.weight": torch.zeros(4, 3, 3, 3), "body.2.weight": torch.zeros(12, 4, 3, 3)}, "PReLU is needed"),
    ],
)
def test_load_background_refuses_other_weights(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        load_background(tmp_path / "w.pth")


def test_load_background_names_what_does_not_fit(tmp_path: Path) -> None:
    state = rrdbnet(2).state_dict()
    del state["conv_hr.bias"]
    torch.save({"params_ema": state}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth does not fit RRDBNet with .*conv_hr\.bias"):
        load_background(tmp_path / "w.pth")


def test_load_background_refuses_truncated_files(tmp_path: Path) -> None:
    path = save_background(tmp_path / "w.pth", rrdbnet(2))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"w\.pth.*damaged"):
        load_background(path)


def test_load_background_without_basicsr_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_background(tmp_path / "w.pth", rrdbnet(2))
    monkeypatch.setitem(sys.modules, "basicsr.archs.rrdbnet_arch", None)
    with pytest.raises(ImportError, match="RRDBNet comes from BasicSR, which is not installed here"):
        load_background(path)


def test_background_refuses_tiny_tiles() -> None:
    with pytest.raises(ValueError, match="background tile must be at least 64 pixels, got 63"):
        Background(nn.Identity(), 1, tile=63)
