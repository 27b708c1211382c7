"""Identity: cosine similarity of the embeddings of two faces by ArcFace (Deng et al., CVPR 2019).

The network is facexlib's IR-SE50 of InsightFace_Pytorch, or another one of that family by its file: IR or IR-SE of 50,
100 or 152 layers, MobileFaceNet. It sees 112 x 112 pixels in [-1, 1], in BGR as its authors trained it. Two protocols:
``aligned`` cuts both faces by the true landmarks to the five points that ArcFace was trained with; without it the whole
images are resized, which is right only if they are such crops, and comparable only among images of one framing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.checkpoints import UnsupportedCheckpointError
from facesr_plugin.metrics.batches import check_faces, to_signed
from facesr_plugin.metrics.networks import choose_device, fill_network, full_precision, import_library, read_state
from facesr_plugin.ops.affine import fit_similarity
from facesr_plugin.ops.align import crop_face
from facesr_plugin.ops.landmark import five_points
from facesr_plugin.registry import METRIC_REGISTRY
from facesr_plugin.utils.weights import resolve_weights

SIDE_PX = 112
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
CHANNELS = ("bgr", "rgb")
_LAYERS = {24: 50, 49: 100, 50: 152}  # by the number of blocks
_WHAT = "an ArcFace network of InsightFace_Pytorch (IR, IR-SE or MobileFaceNet)"


class Identity:
    """Similarity of identities of whole batches on a device.

    Args:
        weights: File of the network; None to look for facexlib's as ``facesr weights list`` shows.
        channels: Order in which the network sees the colours, ``bgr`` or ``rgb``.
        device: Where it runs; None for the current GPU if there is one.

    Raises:
        FileNotFoundError: If ``weights`` does not exist.
        MissingLibraryError: If facexlib is not installed.
        MissingWeightsError: If facexlib's weights are not here; nothing is downloaded.
        ValueError: If ``channels`` is unknown, or the file holds another network.
    """

    def __init__(
        self,
        *,
        weights: str | os.PathLike | None = None,
        channels: str = "bgr",
        device: str | torch.device | None = None,
    ) -> None:
        if channels not in CHANNELS:
            raise ValueError(f"channels must be one of {', '.join(CHANNELS)}, got {channels!r}")
        self._bgr = channels == "bgr"
        self._device = choose_device(device)
        self._network = _load(resolve_weights("arcface", weights, fetch=False)).to(self._device)

    def __call__(self, img: np.ndarray, img2: np.ndarray, landmarks: np.ndarray | None = None) -> np.ndarray:
        """Return the cosine of each pair, ``(N)`` float64 in [-1, 1], 1 for equal images.

        Args:
            img: Restored, ``(N, H, W, 3)`` BGR uint8.
            img2: Ground truth, same form.
            landmarks: True, ``(N, K, 2)`` (x, y) in pixels of the images, pixel centres at integers; 5, 19, 68 or 98
                by which both faces are cut out. None for the images as they are.

        Raises:
            TypeError: If an array is not uint8.
            ValueError: If the images differ in size or have no three channels, the landmarks have another shape, a
                needed one is not known, the face lies beside the image, or an embedding is not finite.
        """
        check_faces(img, img2)
        sides = (img, img2) if landmarks is None else _align((img, img2), landmarks)
        with full_precision():
            first, second = (self._embed(to_signed(images, self._device, bgr=self._bgr)) for images in sides)
            found = F.cosine_similarity(first, second)
        if not found.isfinite().all():
            raise ValueError("embeddings must be finite, got NaN or infinity. Check the weights.")
        return found.cpu().numpy()

    def _embed(self, images: Tensor) -> Tensor:
        size = (SIDE_PX, SIDE_PX)
        return self._network(F.interpolate(images, size, mode="bilinear", antialias=True)).double()


@METRIC_REGISTRY.register()
def calculate_identity_similarity(
    img: np.ndarray,
    img2: np.ndarray,
    *,
    weights: str | os.PathLike | None = None,
    channels: str = "bgr",
    device: str | None = None,
    **_: Any,
) -> float:
    """Return the cosine of the embeddings of two images as they are, in [-1, 1].

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it.
        img2: Ground truth, same form.
        weights: As of ``Identity``.
        channels: As of ``Identity``.
        device: As of ``Identity``. The network is kept from call to call.

    Raises:
        FileNotFoundError: See ``Identity``; also MissingLibraryError.
        TypeError: If an image is not uint8.
        ValueError: See ``Identity`` and its call.
    """
    return float(_kept(weights, channels, device)(img[None], img2[None])[0])


@METRIC_REGISTRY.register()
def calculate_aligned_identity_similarity(
    img: np.ndarray,
    img2: np.ndarray,
    landmarks: np.ndarray,
    *,
    weights: str | os.PathLike | None = None,
    channels: str = "bgr",
    device: str | None = None,
    **_: Any,
) -> float:
    """Return the cosine of the embeddings of two faces, cut out by the true landmarks, in [-1, 1].

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it.
        img2: Ground truth, same form.
        landmarks: True, ``(K, 2)``, as of ``Identity``.
        weights: As of ``Identity``.
        channels: As of ``Identity``.
        device: As of ``Identity``. The network is kept from call to call.

    Raises:
        FileNotFoundError: See ``Identity``; also MissingLibraryError.
        TypeError: If an image is not uint8.
        ValueError: See ``Identity`` and its call.
    """
    return float(_kept(weights, channels, device)(img[None], img2[None], landmarks[None])[0])


@lru_cache(maxsize=2)
def _kept(weights: str | os.PathLike | None, channels: str, device: str | None) -> Identity:
    return Identity(weights=weights, channels=channels, device=device)


def _align(sides: tuple[np.ndarray, np.ndarray], landmarks: np.ndarray) -> list[np.ndarray]:
    """Cut both sides' faces out by the same landmarks, to ``(N, 112, 112, 3)``."""
    count = len(sides[0])
    if landmarks.ndim != 3 or len(landmarks) != count or landmarks.shape[2] != 2:
        raise ValueError(f"landmarks must have shape ({count}, K, 2), got {landmarks.shape}")
    matrices = [fit_similarity(points, np.array(TEMPLATE)) for points in five_points(landmarks)]
    return [
        np.stack([crop_face(image, matrix, SIDE_PX) for image, matrix in zip(images, matrices, strict=True)])
        for images in sides
    ]


def _load(path: str | os.PathLike) -> nn.Module:
    state = read_state(path, _WHAT)
    with torch.device("meta"):
        network = _build(state)
    if network is None:
        raise UnsupportedCheckpointError(f"weights must be those of {_WHAT}, got {str(path)!r}")
    return fill_network(network, state, path, _WHAT)


def _build(state: Mapping[str, Tensor]) -> nn.Module | None:
    """Build the network whose keys these are, None if there is none."""
    library = import_library("facexlib.recognition.arcface_arch", "Identity similarity", "pip install facexlib")
    if "conv_6_dw.conv.weight" in state and state.get("linear.weight", torch.empty(0)).ndim == 2:
        return library.MobileFaceNet(len(state["linear.weight"]))
    blocks = {key.split(".")[1] for key in state if key.startswith("body.")}
    if len(blocks) not in _LAYERS:
        return None
    kind = "ir_se" if any(".fc1." in key for key in state) else "ir"
    return library.Backbone(num_layers=_LAYERS[len(blocks)], drop_ratio=0.6, mode=kind)
