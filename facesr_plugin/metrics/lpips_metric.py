"""LPIPS, the learned perceptual distance (Zhang et al., CVPR 2018), version 0.1 of its authors' library.

``alex`` is what the authors recommend for comparisons and what most tables have, ``vgg`` the larger one; numbers of the
two cannot be compared. Whole images of their own size count, nothing is resized. The library brings the linear layers;
AlexNet and VGG16 are torchvision's, found as ``facesr weights list`` shows.
"""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facesr_plugin.checkpoints import read_checkpoint
from facesr_plugin.metrics.batches import check_faces, to_signed
from facesr_plugin.metrics.networks import choose_device, fill_network, full_precision, import_library, read_state
from facesr_plugin.registry import METRIC_REGISTRY
from facesr_plugin.utils.weights import resolve_weights

_BACKBONES = {"alex": "alexnet", "vgg": "vgg16"}
_SMALLEST = {"alex": 31, "vgg": 16}  # what is left of it after the last pooling


class Lpips:
    """LPIPS of whole batches on a device.

    Args:
        net: ``alex`` or ``vgg``.
        weights: File with torchvision's AlexNet or VGG16; None to look for it as ``facesr weights list`` shows.
        device: Where it runs; None for the current GPU if there is one.

    Raises:
        FileNotFoundError: If ``weights`` does not exist.
        MissingLibraryError: If the library lpips is not installed.
        MissingWeightsError: If the backbone's weights are not here; nothing is downloaded.
        ValueError: If ``net`` is unknown, or the file has other weights.
    """

    def __init__(
        self,
        *,
        net: str = "alex",
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if net not in _BACKBONES:
            raise ValueError(f"net must be one of {', '.join(_BACKBONES)}, got {net!r}")
        self._smallest = _SMALLEST[net]
        self._device = choose_device(device)
        self._network = _build(net, weights).to(self._device)

    def __call__(self, img: np.ndarray, img2: np.ndarray) -> np.ndarray:
        """Return the distance of each pair, ``(N)`` float64, 0 for equal images.

        Args:
            img: Restored, ``(N, H, W, 3)`` BGR uint8; sides of 31 (``alex``) or 16 (``vgg``) or more.
            img2: Ground truth, same form.

        Raises:
            TypeError: If an array is not uint8.
            ValueError: If the images differ in size, have no three channels or are too small.
        """
        check_faces(img, img2, smallest=self._smallest)
        with full_precision():
            found = self._network(*(to_signed(images, self._device) for images in (img, img2)))
        return found.reshape(-1).double().cpu().numpy()


@METRIC_REGISTRY.register()
def calculate_lpips(
    img: np.ndarray,
    img2: np.ndarray,
    *,
    net: str = "alex",
    weights: str | os.PathLike | None = None,
    device: str | None = None,
    **_: Any,
) -> float:
    """Return LPIPS 0.1 of one face, 0 for equal images; lower is better.

    Args:
        img: Restored, ``(H, W, 3)`` BGR uint8, as BasicSR passes it.
        img2: Ground truth, same form.
        net: As of ``Lpips``.
        weights: As of ``Lpips``.
        device: As of ``Lpips``. The network is kept from call to call.

    Raises:
        FileNotFoundError: See ``Lpips``; also MissingLibraryError.
        TypeError: If an image is not uint8.
        ValueError: See ``Lpips`` and its call.
    """
    return float(_kept(net, weights, device)(img[None], img2[None])[0])


@lru_cache(maxsize=2)
def _kept(net: str, weights: str | os.PathLike | None, device: str | None) -> Lpips:
    return Lpips(net=net, weights=weights, device=device)


def _build(net: str, weights: str | os.PathLike | None) -> nn.Module:
    library = import_library("lpips", "LPIPS", "pip install lpips")
    backbone = _BACKBONES[net]
    path = resolve_weights(backbone, weights, fetch=False)
    state = {key: value for key, value in read_state(path, backbone).items() if key.startswith("features.")}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pretrained.*|.*weight enum.*", category=UserWarning)
        network = library.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    places = {f"features.{key.split('.', 2)[2]}": key for key in network.state_dict() if key.startswith("net.")}
    linear = read_checkpoint(Path(library.__file__).parent / "weights" / "v0.1" / f"{net}.pth")
    own = {key.replace("lin", "lins.", 1): value for key, value in linear.items()} | linear
    scaling = {f"scaling_layer.{key}": value for key, value in library.ScalingLayer().state_dict().items()}
    return fill_network(
        network,
        {**{places.get(key, key): value for key, value in state.items()}, **own, **scaling},
        path,
        f"torchvision's {backbone}",
    )
