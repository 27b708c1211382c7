"""The Frechet distance: closed forms, other programs, few samples; running moments; files of statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facesr_plugin.checkpoints import UnsupportedCheckpointError
from facesr_plugin.metrics.frechet import Moments, frechet_distance, read_statistics, write_statistics

RNG = np.random.default_rng(0)


def moments(features: np.ndarray) -> Moments:
    made = Moments(features.shape[1])
    made.add(features)
    return made


def distance(first: np.ndarray, second: np.ndarray) -> float:
    one, other = moments(first), moments(second)
    return frechet_distance(one.mean, one.covariance(), other.mean, other.covariance())


def mixed(count: int, size: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Correlated features, float32 as a network gives them."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + shift).astype(np.float32)


def test_gaussians_with_common_axes_have_the_closed_form() -> None:
    axes, _ = np.linalg.qr(RNG.normal(size=(12, 12)))
    variances, mean = RNG.uniform(0, 5, (2, 12)), RNG.normal(size=(2, 12))
    cov = [axes @ np.diag(values) @ axes.T for values in variances]
    expected = ((mean[0] - mean[1]) ** 2).sum() + ((np.sqrt(variances[0]) - np.sqrt(variances[1])) ** 2).sum()
    assert frechet_distance(mean[0], cov[0], mean[1], cov[1]) == pytest.approx(expected, rel=1e-12)


def test_one_dimension_is_the_difference_of_means_and_deviations() -> None:
    value = frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([3.0]), np.array([[9.0]]))
    assert value == pytest.approx(4 + 1, rel=1e-14)


def test_general_gaussians_have_the_value_of_the_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    one, other = moments(mixed(300, 40, 1)), moments(mixed(200, 40, 2, 1.0))
    root = linalg.sqrtm(one.covariance() @ other.covariance()).real
    expected = ((one.mean - other.mean) ** 2).sum() + np.trace(one.covariance() + other.covariance() - 2 * root)
    value = frechet_distance(one.mean, one.covariance(), other.mean, other.covariance())
    assert value == pytest.approx(expected, rel=1e-9)


def test_value_is_that_of_torchmetrics_on_the_same_features() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    first, second = (np.abs(mixed(60, 16, seed)) for seed in (3, 4))
    theirs = fid.FrechetInceptionDistance(feature=_Flat(16), normalize=True)
    theirs.update(torch.from_numpy(first).view(-1, 1, 4, 4), real=True)
    theirs.update(torch.from_numpy(second).view(-1, 1, 4, 4), real=False)
    assert distance(second, first) == pytest.approx(theirs.compute().item(), rel=1e-4)  # float32 inside


class _Flat(torch.nn.Module):
    """Features that are the image itself; what torchmetrics asks of a network."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().flatten(1)


def test_fewer_samples_than_features_are_exact() -> None:
    first, second = mixed(5, 64, 5), mixed(7, 64, 6, 0.5)
    centred = [(part - part.mean(0)).astype(np.float64) / np.sqrt(len(part) - 1) for part in (first, second)]
    shared = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    apart = ((first.astype(np.float64).mean(0) - second.astype(np.float64).mean(0)) ** 2).sum()
    expected = apart + sum((part**2).sum() for part in centred) - 2 * shared
    assert distance(first, second) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [4, 100])
def test_equal_sets_have_none_and_a_larger_shift_has_more(count: int) -> None:
    features = mixed(count, 32, 8)
    assert distance(features, features) == pytest.approx(0, abs=1e-9)
    values = [distance(features + shift, features) for shift in (0, 0.1, 1, 10)]
    assert values[1:] == pytest.approx([32 * shift**2 for shift in (0.1, 1, 10)], rel=1e-4)


def test_moments_do_not_depend_on_the_batches_nor_lose_digits() -> None:
    features = mixed(50, 8, 9).astype(np.float64) + 1e7
    running, parts = Moments(8), Moments(8)
    for start in range(0, 50, 7):
        running.add(features[start : start + 7])
    for part in (features[:20], features[20:]):
        parts.merge(moments(part).state())
    for made in (running, parts):
        assert made.count == 50
        assert made.mean == pytest.approx(features.mean(0), rel=1e-14)
        assert made.covariance() == pytest.approx(np.cov(features, rowvar=False), rel=1e-6)


def test_moments_refuse_what_they_cannot_add() -> None:
    made = Moments(3)
    with pytest.raises(ValueError, match=r"features must have shape \(N, 3\), got \(2, 4\)"):
        made.add(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="features must be finite"):
        made.add(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match=r"moments must be of 3 features, got \(4,\)"):
        made.merge(Moments(4).state())
    made.add(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="needs 2 images or more, got 1"):
        made.covariance()


@pytest.mark.parametrize(
    ("mean", "cov", "text"),
    [
        (np.zeros(3), np.eye(3), r"means must have the same length, got \(3,\) and \(2,\)"),
        (np.zeros(2), np.eye(3), r"shapes \(D\) and \(D, D\), got \(2,\) and \(3, 3\)"),
        (np.zeros(2), np.full((2, 2), np.inf), "must be finite"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.2, 1.0]]), "must be symmetric"),
        (np.zeros(2), np.diag([1.0, -1.0]), "no negative eigenvalue, got -1"),
    ],
)
def test_what_is_no_gaussian_is_refused(mean: np.ndarray, cov: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        frechet_distance(mean, cov, np.zeros(2), np.eye(2))


def test_statistics_are_read_as_written(tmp_path: Path) -> None:
    made = moments(mixed(9, 4, 1))
    write_statistics(tmp_path / "own.npz", made)
    mean, cov = read_statistics(tmp_path / "own.npz")
    assert np.array_equal(mean, made.mean)
    assert np.array_equal(cov, made.covariance())
    with np.load(tmp_path / "own.npz") as file:
        assert sorted(file) == ["count", "mu", "sigma"]


def test_statistics_of_basicsr_are_read(tmp_path: Path) -> None:
    torch.save({"name": "faces", "mean": np.arange(2.0), "cov": np.eye(2), "size": 512}, tmp_path / "theirs.pth")
    mean, cov = read_statistics(tmp_path / "theirs.pth")
    assert mean.tolist() == [0, 1]
    assert cov.dtype == np.float64


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"mu": np.zeros(2)}, "statistics must be an .npz with mu and sigma, or BasicSR's .pth with mean and cov"),
        ({"mu": np.zeros(2), "sigma": np.eye(3)}, r"cannot use the statistics .*got \(2,\) and \(3, 3\)"),
    ],
)
def test_other_files_are_no_statistics(tmp_path: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UnsupportedCheckpointError, match=text):
        read_statistics(tmp_path / "x.npz")
