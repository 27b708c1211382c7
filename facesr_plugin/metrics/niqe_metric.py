"""NIQE (Mittal et al., 2013), the quality of an image without its ground truth: BasicSR's, which equals MATLAB's.

It fits a Gaussian to blocks of 96 x 96 pixels, so a face needs two of them: BasicSR's own ``calculate_niqe`` gives NaN
or fails for less, and no protocol with other blocks is published.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from facesr_plugin.metrics.batches import check_faces
from facesr_plugin.metrics.networks import import_library
from facesr_plugin.registry import METRIC_REGISTRY

BLOCK_PX = 96
_MIN_BLOCKS = 2


class Niqe:
    """NIQE of whole batches, face by face.

    Args:
        crop_border: Pixels left out at each edge.

    Raises:
        MissingLibraryError: If BasicSR is not installed.
        ValueError: If ``crop_border`` is negative.
    """

    def __init__(self, *, crop_border: int = 0) -> None:
        if crop_border < 0:
            raise ValueError(f"crop_border must be 0 or more, got {crop_border}")
        self._crop_border = crop_border
        self._measure = import_library("basicsr.metrics", "NIQE", 'pip install "basicsr>=1.4.2"').calculate_niqe

    def __call__(self, img: np.ndarray) -> np.ndarray:
        """Return NIQE of the luma of each image, ``(N)`` float64; lower is better.

        Args:
            img: Restored, ``(N, H, W, 3)`` BGR uint8; 96 x 192 or more without its border.

        Raises:
            TypeError: If the array is not uint8.
            ValueError: If the images have no three channels, are too small, or have no texture to measure.
        """
        check_faces(img)
        height, width = (side - 2 * self._crop_border for side in img.shape[1:3])
        if (height // BLOCK_PX) * (width // BLOCK_PX) < _MIN_BLOCKS:
            raise ValueError(
                f"images must have {_MIN_BLOCKS} blocks of {BLOCK_PX} x {BLOCK_PX} pixels or more for NIQE, got "
                f"{width} x {height}. It is not defined for faces this small."
            )
        return np.array([self._measure_one(image) for image in img], np.float64)

    def _measure_one(self, image: np.ndarray) -> float:
        with warnings.catch_warnings():  # blocks of one colour have no features; they are left out
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                return self._measure(image, self._crop_border)
            except np.linalg.LinAlgError as error:
                raise ValueError("images must have texture in two blocks or more for NIQE, got even colour") from error


@METRIC_REGISTRY.register()
def calculate_face_niqe(img: np.ndarray, *, crop_border: int = 0, **_: Any) -> float:
    """Return NIQE of the luma of one face; lower is better.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it; 96 x 192 or more without its border.
        crop_border: As of ``Niqe``.

    Raises:
        MissingLibraryError: If BasicSR is not installed.
        TypeError: If the image is not uint8.
        ValueError: See ``Niqe`` and its call.
    """
    return float(Niqe(crop_border=crop_border)(img[None])[0])
