"""FID: the network against BasicSR's, the set against its moments. Other tests have features that cost nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facesr_plugin.checkpoints import UnsupportedCheckpointError
from facesr_plugin.metrics import fid_metric, inception
from facesr_plugin.metrics.fid_metric import Fid, calculate_fid
from facesr_plugin.metrics.frechet import Moments, write_statistics
from facesr_plugin.utils.weights import MissingWeightsError
from helpers.metrics import degraded, faces


class Corner(nn.Module):
    """Features that are the first pixels of the image, in place of a network."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :: images[0].numel() // 8][:, :8]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight features of a network that reads no file."""
    monkeypatch.setattr(fid_metric, "NUM_FEATURES", 8)
    monkeypatch.setattr(fid_metric, "_load_network", lambda weights: Corner())


def features(images: np.ndarray) -> np.ndarray:
    return Corner()(torch.from_numpy(images[..., ::-1].copy()).permute(0, 3, 1, 2) / 127.5 - 1).double().numpy()


def moments_of(images: np.ndarray) -> Moments:
    made = Moments(8)
    made.add(features(images))
    return made


def test_network_is_basicsrs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = pytest.importorskip("basicsr.archs.inception")
    torch.manual_seed(0)
    state = inception.FidInception().state_dict() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    old = {key: value for key, value in state.items() if "num_batches" not in key}
    torch.save(old, tmp_path / "inception.pth")
    monkeypatch.setattr(theirs, "load_url", lambda *_, **__: state)
    expected = theirs.InceptionV3([3], resize_input=True, normalize_input=False).eval()
    network, images = inception.load_inception(tmp_path / "inception.pth"), torch.rand(1, 3, 32, 40) * 2 - 1
    with torch.no_grad():
        found, wanted = network(images), expected(images)[0].flatten(1)
    assert found.shape == (1, fid_metric.NUM_FEATURES)
    assert wanted.std() > 0
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6 * wanted.abs().max().item())


def test_value_is_that_of_all_features(small: None) -> None:
    gt = faces(9, 16)
    sr = degraded(gt, 30)
    fid, one = Fid(device="cpu"), Fid(device="cpu")
    for start in range(0, 9, 4):
        fid.add(sr[start : start + 4], gt[start : start + 4])
    for pair in zip(sr, gt, strict=True):
        one.add(*(image[None] for image in pair))
    mean = features(sr).mean(0) - features(gt).mean(0)
    assert fid.value() > (mean**2).sum() > 0
    assert one.value() == pytest.approx(fid.value(), rel=1e-9)
    assert calculate_fid(sr, gt, device="cpu", better="lower") == pytest.approx(fid.value(), rel=1e-9)


def test_equal_sets_have_none_and_more_noise_has_more(small: None) -> None:
    gt = faces(20, 16)
    values = [calculate_fid(degraded(gt, noise), gt, device="cpu") for noise in (0, 10, 40, 120)]
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert (np.diff(values) > 0).all()


def test_sets_may_differ_in_number_and_size(small: None) -> None:
    assert calculate_fid(faces(3, 16), faces(20, 24), device="cpu") > 0


def test_statistics_replace_the_ground_truth(small: None, tmp_path: Path) -> None:
    gt = faces(9, 16)
    sr = degraded(gt, 30)
    write_statistics(tmp_path / "gt.npz", moments_of(gt))
    fid = Fid(statistics=tmp_path / "gt.npz", device="cpu")
    fid.add(sr)
    assert fid.value() == pytest.approx(calculate_fid(sr, gt, device="cpu"), rel=1e-9)
    assert fid.real.count == 0
    assert calculate_fid(sr, statistics=tmp_path / "gt.npz", device="cpu") == pytest.approx(fid.value(), rel=1e-12)


def test_states_of_two_ranks_add_up(small: None) -> None:
    gt = faces(9, 16)
    sr = degraded(gt, 30)
    first = Fid(device="cpu")
    first.add(gt, gt)
    ranks = [first.anew() for _ in range(2)]
    ranks[0].add(sr[:4], gt[:4])
    ranks[1].add(sr[4:], gt[4:])
    ranks[0].merge(ranks[1].state())
    assert ranks[0].value() == pytest.approx(calculate_fid(sr, gt, device="cpu"), rel=1e-9)
    assert ranks[0].moments.count == 9


def test_several_results_share_the_features_of_the_ground_truth(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    gt, seen = faces(6, 16), []
    monkeypatch.setattr(
        Corner, "forward", lambda self, images, whole=Corner.forward: seen.append(1) or whole(self, images)
    )
    first = Fid(device="cpu")
    results = {noise: first.anew() for noise in (10, 30)}
    for start in (0, 3):
        for noise, fid in results.items():
            truth = gt[start : start + 3].copy()
            fid.add(degraded(gt, noise)[start : start + 3], truth)
            truth[:] = 0  # an array that is used again
    assert len(seen) == 6  # of each batch the truth once, and every result
    for noise, fid in results.items():
        assert fid.value() == pytest.approx(calculate_fid(degraded(gt, noise), gt, device="cpu"), rel=1e-9)


def test_few_faces_are_told(small: None, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("basicsr").propagate = True
    with caplog.at_level(logging.WARNING, logger="basicsr.facesr"):
        calculate_fid(faces(3, 16), faces(3, 16), device="cpu")
    assert "FID of 3 faces: compare it with sets of as many only" in caplog.text


def test_what_cannot_be_compared_is_refused(small: None, tmp_path: Path) -> None:
    gt = faces(2, 16)
    with pytest.raises(ValueError, match="needs 2 images or more, got 1"):
        calculate_fid(gt[:1], gt, device="cpu")
    with pytest.raises(ValueError, match="FID needs the ground truth, or a file of statistics"):
        Fid(device="cpu").add(gt)
    with pytest.raises(ValueError, match="FID needs either the ground truth or a file of statistics"):
        calculate_fid(gt, device="cpu")
    with pytest.raises(ValueError, match=r"images must have shape \(N, H, W, 3\), BGR, N >= 1, got \(16, 16, 3\)"):
        Fid(device="cpu").add(gt[0], gt[0])
    np.savez(tmp_path / "x.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="statistics must be of 8 features, got 3 in"):
        Fid(statistics=tmp_path / "x.npz", device="cpu")
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        Fid(statistics=tmp_path / "none.npz", device="cpu")


def test_missing_and_other_weights_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="run `facesr weights fetch inception_fid`"):
        Fid(device="cpu")
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(UnsupportedCheckpointError, match="those of pytorch-fid's InceptionV3, got .* is missing"):
        Fid(weights=tmp_path / "x.pth", device="cpu")
