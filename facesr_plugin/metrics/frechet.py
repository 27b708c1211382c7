r"""Frechet distance between two Gaussians given by running moments, in float64, and its files of statistics.

.. math:: d = |\mu_1 - \mu_2|^2 + \operatorname{tr}(C_1 + C_2) - 2 \operatorname{tr} (C_1 C_2)^{1/2}

The last trace is the sum of the singular values of :math:`F_1^T F_2` with :math:`C = F F^T`. So it needs no root of a
matrix that is not symmetric, stays real, and holds for covariances of fewer samples than features, where the usual
program adds a multiple of the identity.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from facesr_plugin.checkpoints import UnsupportedCheckpointError, read_checkpoint
from facesr_plugin.checkpoints.numpy_pickle import read_numpy_pickle
from facesr_plugin.utils.files import atomic_write

_NAMES = (("mu", "sigma"), ("mean", "cov"))  # pytorch-fid and clean-fid; BasicSR
_TOLERANCE = 1e-6  # of the largest value: statistics are often stored in float32


class Moments:
    """Count, mean and scatter of feature vectors, batch by batch; memory depends on their length alone.

    Batches are merged by the pairwise update of Chan et al. (1979), which subtracts means before it squares.

    Attributes:
        count: Number of vectors.
        mean: ``(D)`` float64.
        scatter: ``(D, D)`` float64, the sum of the outer products of the differences from the mean.
    """

    def __init__(self, num_features: int) -> None:
        self.count = 0
        self.mean = np.zeros(num_features)
        self.scatter = np.zeros((num_features, num_features))

    def add(self, features: np.ndarray) -> None:
        """Add vectors ``(N, D)``.

        Raises:
            ValueError: If they have another shape or are not finite.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1:] != self.mean.shape:
            raise ValueError(f"features must have shape (N, {len(self.mean)}), got {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError("features must be finite, got NaN or infinity. Check the weights.")
        if len(features):
            mean = features.mean(0)
            self._merge(len(features), mean, (features - mean).T @ (features - mean))

    def merge(self, state: Mapping[str, np.ndarray]) -> None:
        """Add what :meth:`state` of another one gave.

        Raises:
            ValueError: If its vectors have another length.
        """
        if state["mean"].shape != self.mean.shape:
            raise ValueError(f"moments must be of {len(self.mean)} features, got {state['mean'].shape}")
        if state["count"]:
            self._merge(int(state["count"]), state["mean"], state["scatter"])

    def state(self) -> dict[str, np.ndarray]:
        """Return the three attributes as arrays."""
        return {"count": np.array(self.count), "mean": self.mean, "scatter": self.scatter}

    def covariance(self) -> np.ndarray:
        """Return the sample covariance ``(D, D)``.

        Raises:
            ValueError: If there are fewer than two vectors.
        """
        if self.count < 2:
            raise ValueError(f"the covariance of features needs 2 images or more, got {self.count}")
        return self.scatter / (self.count - 1)

    def _merge(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        total, shift = self.count + count, mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


def frechet_distance(mean: np.ndarray, cov: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """Return the distance at the top of the file, 0 or more.

    Args:
        mean: ``(D)`` of the first Gaussian.
        cov: ``(D, D)``, symmetric, no negative eigenvalue but for rounding.
        mean2: Of the second.
        cov2: Of the second.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, or a matrix is no covariance.
    """
    mean, cov, mean2, cov2 = (np.asarray(values, np.float64) for values in (mean, cov, mean2, cov2))
    if mean.shape != mean2.shape:
        raise ValueError(f"both means must have the same length, got {mean.shape} and {mean2.shape}")
    factors = [_factor(*pair) for pair in ((mean, cov), (mean2, cov2))]
    shared = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum()
    apart = ((mean - mean2) ** 2).sum()
    spread = sum((factor**2).sum() for factor in factors)
    return max(0.0, float(apart + spread - 2 * shared))


def _factor(mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Return ``(D, R)`` with C = F F^T, R the rank."""
    _check(mean, cov)
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    largest = values.max(initial=0)
    if values.min(initial=0) < -_TOLERANCE * len(mean) * largest:
        raise ValueError(f"covariance must have no negative eigenvalue, got {values[0]:.3g}")
    kept = values > np.finfo(np.float64).eps * len(mean) * largest
    return vectors[:, kept] * np.sqrt(values[kept])


def _check(mean: np.ndarray, cov: np.ndarray) -> None:
    if mean.ndim != 1 or cov.shape != (len(mean), len(mean)):
        raise ValueError(f"mean and covariance must have shapes (D) and (D, D), got {mean.shape} and {cov.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise ValueError("mean and covariance must be finite, got NaN or infinity")
    if np.abs(cov - cov.T).max(initial=0) > _TOLERANCE * np.abs(cov).max(initial=0):
        raise ValueError("covariance must be symmetric")


def read_statistics(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Read mean ``(D)`` and covariance ``(D, D)`` float64 of a real data set.

    Args:
        path: ``.npz`` with ``mu`` and ``sigma`` (pytorch-fid, clean-fid, :func:`write_statistics`), or BasicSR's
            ``.pth`` with ``mean`` and ``cov``.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsupportedCheckpointError: If it cannot be read or holds something else.
    """
    content = read_checkpoint(path) if Path(path).suffix == ".npz" else read_numpy_pickle(path)
    for names in _NAMES:
        found = [content.get(name) for name in names] if isinstance(content, Mapping) else [None]
        if all(isinstance(value, (Tensor, np.ndarray)) for value in found):
            mean, cov = (np.asarray(value, np.float64) for value in found)
            try:
                _check(mean, cov)
            except ValueError as error:
                raise UnsupportedCheckpointError(f"cannot use the statistics {str(path)!r}: {error}") from error
            return mean, cov
    raise UnsupportedCheckpointError(
        f"statistics must be an .npz with mu and sigma, or BasicSR's .pth with mean and cov, got {str(path)!r}"
    )


def write_statistics(path: str | os.PathLike, moments: Moments) -> None:
    """Write ``mu``, ``sigma`` and ``count`` as ``.npz``, atomically.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If there are fewer than two vectors.
    """
    arrays = {"mu": moments.mean, "sigma": moments.covariance(), "count": np.array(moments.count)}
    atomic_write(path, lambda file: np.savez(file, **arrays))
