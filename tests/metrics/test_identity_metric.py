"""Identity similarity, with filled weights of the smallest network of the family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facexlib.recognition.arcface_arch import Backbone, MobileFaceNet

from facesr_plugin.checkpoints import UnsupportedCheckpointError
from facesr_plugin.metrics import identity_metric
from facesr_plugin.metrics.identity_metric import (
    TEMPLATE,
    Identity,
    calculate_aligned_identity_similarity,
    calculate_identity_similarity,
)
from facesr_plugin.utils.weights import MissingWeightsError
from helpers.fill import fill_state
from helpers.metrics import degraded, faces


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    shapes = {key: value.shape for key, value in MobileFaceNet(64).state_dict().items()}
    return {key: torch.from_numpy(np.asarray(value)) for key, value in fill_state(shapes).items()}


@pytest.fixture(scope="module")
def weights(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("identity") / "mobile.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def metric(weights: Path) -> Identity:
    return Identity(weights=weights, device="cpu")


def cosine(state: dict[str, torch.Tensor], *images: np.ndarray, rgb: bool = False) -> float:
    """Of the embeddings of two images ``(112, 112, 3)`` BGR."""
    network = MobileFaceNet(64).eval()
    network.load_state_dict(state)
    order = slice(None, None, -1) if rgb else slice(None)
    x = torch.from_numpy(np.stack(images)[..., order].copy()).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        return float(F.cosine_similarity(*network(x).double()[:, None])[0])


def test_value_is_the_cosine_of_the_embeddings(weights: Path, metric: Identity, state: dict[str, torch.Tensor]) -> None:
    gt = faces(1, 112)
    sr = degraded(gt, 60)
    expected = cosine(state, sr[0], gt[0])
    assert expected < 0.999
    assert metric(sr, gt) == pytest.approx([expected], abs=1e-6)
    other = Identity(weights=weights, channels="rgb", device="cpu")(sr, gt)
    assert other == pytest.approx([cosine(state, sr[0], gt[0], rgb=True)], abs=1e-6)
    assert abs(other[0] - expected) > 1e-5


def test_batch_is_one_by_one(metric: Identity, weights: Path) -> None:
    gt = faces(3, 40, 48)
    sr = degraded(gt, 40)
    alone = [calculate_identity_similarity(*pair, weights=weights, device="cpu") for pair in zip(sr, gt, strict=True)]
    assert metric(sr, gt) == pytest.approx(alone, abs=1e-6)


def test_equal_faces_have_one_and_more_noise_has_less(metric: Identity) -> None:
    gt = faces(2, 64)
    values = np.array([metric(degraded(gt, noise), gt) for noise in (0, 20, 60, 150)])
    assert values[0] == pytest.approx([1, 1], abs=1e-9)
    assert (np.diff(values, axis=0) < 0).all()
    assert values.min() >= -1


def test_landmarks_cut_the_face_out(metric: Identity, weights: Path, state: dict[str, torch.Tensor]) -> None:
    gt = faces(1, 160, 150)
    sr = degraded(gt, 60)
    landmarks = np.array(TEMPLATE) + (20, 30)
    crops = [image[0, 30:142, 20:132] for image in (sr, gt)]
    assert metric(sr, gt, landmarks[None]) == pytest.approx([cosine(state, *crops)], abs=1e-5)
    single = calculate_aligned_identity_similarity(sr[0], gt[0], landmarks, weights=weights, device="cpu")
    assert single == pytest.approx(metric(sr, gt, landmarks[None])[0], abs=1e-9)
    assert abs(single - metric(sr, gt)[0]) > 1e-4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"img": faces(1, 64, 63)}, r"same shape, got \(64, 63, 3\) and \(64, 64, 3\)"),
        ({"landmarks": np.zeros((2, 5, 2))}, r"landmarks must have shape \(1, K, 2\), got \(2, 5, 2\)"),
        ({"landmarks": np.full((1, 5, 2), np.nan)}, "points must be finite"),
        ({"landmarks": np.zeros((1, 7, 2))}, "landmarks must have 5, 19, 68 or 98 points"),
        ({"landmarks": np.array(TEMPLATE)[None] + 500}, "face must lie in the photo"),
    ],
)
def test_what_cannot_be_compared_is_refused(metric: Identity, change: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        metric(**{"img": faces(1, 64), "img2": faces(1, 64), **change})


@pytest.mark.parametrize("layers", [50, 100, 152])
@pytest.mark.parametrize("mode", ["ir", "ir_se"])
def test_network_is_known_by_its_keys(layers: int, mode: str) -> None:
    with torch.device("meta"):
        state = Backbone(layers, 0.6, mode).state_dict()
        found = identity_metric._build(state).state_dict()
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in state.items()}


def test_missing_and_other_weights_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="run `facesr weights fetch arcface`"):
        Identity()
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(UnsupportedCheckpointError, match="those of an ArcFace network of InsightFace_Pytorch"):
        Identity(weights=tmp_path / "x.pth")
    torch.save([1], tmp_path / "x.pth")
    with pytest.raises(UnsupportedCheckpointError, match="weights must be a state dict of an ArcFace network"):
        Identity(weights=tmp_path / "x.pth")
    with pytest.raises(ValueError, match="channels must be one of bgr, rgb, got 'grey'"):
        Identity(channels="grey")
