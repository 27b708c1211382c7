"""LPIPS: the formula, with filled weights of AlexNet and VGG16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facesr_plugin.checkpoints import UnsupportedCheckpointError, read_checkpoint
from facesr_plugin.losses.perceptual_loss import VGGFeatures
from facesr_plugin.metrics.lpips_metric import Lpips, calculate_lpips
from facesr_plugin.metrics.networks import MissingLibraryError
from facesr_plugin.utils.weights import MissingWeightsError
from helpers.fill import fill_state
from helpers.metrics import degraded, faces

lpips = pytest.importorskip("lpips")
ALEX = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
STEPS = {0: {"stride": 4, "padding": 2}, 3: {"padding": 2}, 6: {"padding": 1}, 8: {"padding": 1}, 10: {"padding": 1}}


def alex_state() -> dict[str, Tensor]:
    shapes = {f"features.{index}.weight": shape for index, shape in ALEX.items()}
    shapes |= {f"features.{index}.bias": shape[:1] for index, shape in ALEX.items()}
    return {key: torch.from_numpy(value) for key, value in fill_state(shapes).items()}


@pytest.fixture(scope="module")
def alex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "alex.pth"
    torch.save({**alex_state(), "classifier.1.weight": torch.zeros(2, 2)}, path)
    return path


@pytest.fixture(scope="module")
def metric(alex: Path) -> Lpips:
    return Lpips(weights=alex, device="cpu")


def distance(img: np.ndarray, img2: np.ndarray) -> float:
    """LPIPS of one pair, written out."""
    state, value = alex_state(), 0.0
    linear = read_checkpoint(Path(lpips.__file__).parent / "weights/v0.1/alex.pth")
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
    both = torch.stack(
        [torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) / 127.5 - 1 for image in (img, img2)]
    )
    x = (both - shift) / scale
    for number, index in enumerate(ALEX):
        if number in (1, 2):
            x = F.max_pool2d(x, 3, 2)
        x = F.relu(F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], **STEPS[index]))
        unit = x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
        value += F.conv2d((unit[:1] - unit[1:]) ** 2, linear[f"lin{number}.model.1.weight"]).mean().item()
    return value


def test_value_is_the_formulas(metric: Lpips) -> None:
    gt = faces(2, 40)
    sr = degraded(gt, 20)
    expected = [distance(*pair) for pair in zip(sr, gt, strict=True)]
    assert metric(sr, gt) == pytest.approx(expected, rel=1e-4)
    assert min(expected) > 0.001


def test_batch_is_one_by_one(metric: Lpips, alex: Path) -> None:
    gt = faces(3, 40)
    sr = degraded(gt, 20)
    alone = [calculate_lpips(*pair, weights=alex, device="cpu", better="lower") for pair in zip(sr, gt, strict=True)]
    assert metric(sr, gt) == pytest.approx(alone, rel=1e-5)
    assert metric(sr[1:2], gt[1:2]) == pytest.approx(alone[1:2], rel=1e-5)


def test_equal_images_have_none_and_more_noise_has_more(metric: Lpips) -> None:
    gt = faces(2, 40)
    values = [metric(degraded(gt, noise), gt) for noise in (0, 5, 20, 80)]
    assert (values[0] == 0).all()
    assert (np.diff(values, axis=0) > 0).all()


def test_vgg_is_another_number(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(VGGFeatures("vgg16", ["relu5_3"]).state_dict(), tmp_path / "vgg.pth")
    gt = faces(1, 16)
    metric = Lpips(net="vgg", weights=tmp_path / "vgg.pth", device="cpu")
    assert metric(gt, gt) == 0
    assert metric(degraded(gt, 30), gt)[0] > 0
    with pytest.raises(ValueError, match="images must have sides of 16 or more, got 15 x 16"):
        metric(gt[:, :, :15], gt[:, :, :15])


def test_what_cannot_be_measured_is_refused(metric: Lpips) -> None:
    gt = faces(1, 40)
    with pytest.raises(ValueError, match=r"same shape, got \(40, 40, 3\) and \(40, 39, 3\).* at the same size"):
        metric(gt, gt[:, :, :39])
    with pytest.raises(ValueError, match="sides of 31 or more, got 30 x 40"):
        metric(gt[:, :, :30], gt[:, :, :30])
    with pytest.raises(TypeError, match="img2 must be uint8, got float32"):
        metric(gt, gt.astype(np.float32))


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="run `facesr weights fetch vgg16`"):
        Lpips(net="vgg")
    with pytest.raises(FileNotFoundError, match="weights must be an existing file"):
        Lpips(weights=tmp_path / "none.pth")
    with pytest.raises(ValueError, match="net must be one of alex, vgg, got 'squeeze'"):
        Lpips(net="squeeze")


def test_other_weights_are_refused(tmp_path: Path) -> None:
    state = alex_state()
    state.pop("features.10.bias")
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UnsupportedCheckpointError, match="torchvision's alexnet, got .*slice5.10.bias' is missing"):
        Lpips(weights=tmp_path / "x.pth")


def test_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch, alex: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    with pytest.raises(MissingLibraryError, match="LPIPS needs lpips .*: pip install lpips"):
        Lpips(weights=alex)
