"""Networks that find the landmarks of a face crop, and how each one wants the crop framed.

``fan98``: facexlib's stacked hourglass of 98 points (AWing, trained on WFLW); its own decoder fails on today's numpy
and mixes up faces at the border, so the heatmaps are decoded here. ``fan68``: 2DFAN of 68 points, from the library
face-alignment, or from a file by ``TeacherFAN``. ``compressed_fan``: the small network of progressive face
super-resolution. ``stacked_hourglass``: 68 points, the network with which DIC's evaluation measures restored faces.
``jasrnet``: finds the landmarks of faces of 16 pixels (or as trained). A further head is one more line of ``HEADS``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import facesr_plugin.archs  # noqa: F401  registers them
from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import build_network, load_weights, read_checkpoint
from facesr_plugin.data.transforms import resize
from facesr_plugin.ops.affine import FFHQ_TEMPLATE, fit_similarity
from facesr_plugin.ops.heatmap import decode_subpixel, decode_two_peaks
from facesr_plugin.ops.protocol import normalise
from facesr_plugin.pipeline.joint import check_landmark_head, find_landmarks
from facesr_plugin.pipeline.restorer import Restorer, load
from facesr_plugin.utils.weights import resolve_weights

_EYES = np.array(FFHQ_TEMPLATE[:2])


class Points(NamedTuple):
    """Landmarks of N crops: ``points`` (N, K, 2) (x, y) in crop pixels, centres at integers; ``score`` (N, K)."""

    points: np.ndarray
    score: np.ndarray


class Crop(NamedTuple):
    """``image`` (S, S, 3) uint8 RGB, and the 2x3 ``matrix`` from the picture to it."""

    image: np.ndarray
    matrix: np.ndarray


@dataclass(frozen=True)
class Framing:
    """Where a network wants the face in its square input.

    Args:
        side: Of the input, in pixels.
        eye_distance: Between the eyes' centres, as part of the side.
        eyes_y: Height of the eyes, as part of the side; they are centred.
        ready_side: Input for an aligned face whose framing is not known.
        ready_share: Part of it that the aligned face fills; beyond, it is mirrored.
        ready_kernel: By which an aligned face is resized (Pillow): ``bilinear`` or ``bicubic``.
    """

    side: int
    eye_distance: float
    eyes_y: float
    ready_side: int
    ready_share: float = 1.0
    ready_kernel: str = "bilinear"

    def of_side(self, side: int) -> Framing:
        """Return the same framing for a network with another input, that of aligned faces included."""
        return replace(self, side=side, ready_side=side)

    def matrix(self, five: np.ndarray) -> np.ndarray:
        """Return the 2x3 similarity from a photo to the input, by ``(5, 2)`` points of the face."""
        scale = self.eye_distance * self.side / np.hypot(*(_EYES[1] - _EYES[0]))
        centre = np.array([0.5, self.eyes_y]) * self.side - 0.5
        return fit_similarity(five, (np.array(FFHQ_TEMPLATE) - _EYES.mean(0)) * scale + centre)

    def ready(self, face: np.ndarray) -> Crop:
        """Bring an aligned face, ``(S, S, 3)`` uint8 RGB, into the input.

        Raises:
            ValueError: If it is not square.
        """
        height, width = face.shape[:2]
        if height != width:
            raise ValueError(
                f"an aligned face must be square, got {width} x {height}. Without --aligned it is searched"
            )
        inner = round(self.ready_share * self.ready_side)
        before = (self.ready_side - inner) // 2
        after = self.ready_side - inner - before
        image = resize(face, (inner, inner), self.ready_kernel)
        image = cv2.copyMakeBorder(image, before, after, before, after, cv2.BORDER_REFLECT_101)
        scale = inner / width
        shift = before + (scale - 1) / 2
        return Crop(image, np.array([[scale, 0, shift], [0, scale, shift]]))


def _between_centres(heatmaps: Tensor, stride: float) -> Tensor:
    """Points of a network whose heatmap pixel covers ``stride`` pixels of the crop."""
    return (decode_subpixel(heatmaps) + 0.5) * stride - 0.5


def _two_peaks(heatmaps: Tensor, stride: float) -> Tensor:
    """Points as DIC's evaluation decodes them: pixel p of the crop is p / stride of the heatmaps."""
    return decode_two_peaks(heatmaps) * stride


class Head(Protocol):
    """A landmark network on its device.

    Attributes:
        framing: What it wants to see, where the weights decide it; None: that of its kind.
    """

    framing: Framing | None

    def __call__(self, crops: np.ndarray) -> Points:
        """Find the landmarks of ``(N, S, S, 3)`` uint8 RGB."""


class HeatmapHead:
    """Landmarks by the peaks of a network's heatmaps.

    Args:
        heatmaps: Maps ``(N, 3, S, S)`` RGB in [0, 1] to ``(N, K, s, s)``.
        device: Where it runs.
        decode: Maps heatmaps and their stride S / s to ``(N, K, 2)`` (x, y) in crop pixels.
    """

    framing: Framing | None = None

    def __init__(
        self,
        heatmaps: Callable[[Tensor], Tensor],
        device: torch.device,
        decode: Callable[[Tensor, float], Tensor] = _between_centres,
    ) -> None:
        self._heatmaps = heatmaps
        self._device = device
        self._decode = decode

    @torch.inference_mode()
    def __call__(self, crops: np.ndarray) -> Points:
        """Find the landmarks of ``(N, S, S, 3)`` uint8 RGB."""
        images = torch.from_numpy(crops).to(self._device).permute(0, 3, 1, 2).float() / 255
        heatmaps = self._heatmaps(images).float()
        stride = crops.shape[1] / heatmaps.shape[-1]
        points = self._decode(heatmaps, stride)
        return Points(points.double().cpu().numpy(), heatmaps.amax((2, 3)).cpu().numpy())


# The crops of pipeline.aligner, turned upright: of JASRNet's training from photos, and from ready faces
_SMALL_FACES = {
    "box": Framing(16, 0.308, 0.266, ready_side=16, ready_kernel="bicubic"),
    "loose": Framing(16, 0.278, 0.407, ready_side=16, ready_kernel="bicubic"),
}


class JointHead:
    """Landmarks by a network that restores faces too; the crops are its small faces.

    Args:
        restorer: Of a system whose card has ``landmark_head``.

    Raises:
        ValueError: If it has none, or its faces are framed otherwise.
    """

    def __init__(self, restorer: Restorer) -> None:
        check_landmark_head(restorer)
        if restorer.card.framing not in _SMALL_FACES:
            known = " or ".join(_SMALL_FACES)
            raise ValueError(f"landmarks need faces framed as {known}, got a network of {restorer.card.framing}")
        self._restorer = restorer
        self.framing: Framing | None = _SMALL_FACES[restorer.card.framing].of_side(restorer.card.lq_size)

    def __call__(self, crops: np.ndarray) -> Points:
        """Find the landmarks of ``(N, S, S, 3)`` uint8 RGB."""
        found = find_landmarks(self._restorer, list(crops), len(crops))
        return Points(*(np.stack(values) for values in zip(*found, strict=True)))


@dataclass(frozen=True)
class HeadKind:
    """One kind of landmark network.

    Args:
        load: Builds it from a weight file (None: the resolver's) on a device.
        framing: What it wants to see.
        weights: Name for the resolver, None if it has none.
        any_side: Whether it takes aligned faces of other sides than ``framing.ready_side``.
    """

    load: Callable[[str | os.PathLike | None, torch.device], Head]
    framing: Framing
    weights: str | None = None
    any_side: bool = False


def _fan98(path: str | os.PathLike | None, device: torch.device) -> HeatmapHead:
    from facexlib.alignment.awing_arch import FAN

    path = resolve_weights("fan98", path)
    network = FAN(num_modules=4, num_landmarks=98, device=device)
    _load(network, read_checkpoint(path), path, "facexlib's network of 98 points")
    network.to(device).eval()
    return HeatmapHead(lambda images: network(images)[0][-1][:, :-1], device)  # the last map is of the face's outline


def _load(network: nn.Module, content: Any, path: str | os.PathLike, what: str) -> None:
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    try:
        network.load_state_dict({str(key).removeprefix("module."): value for key, value in state.items()})
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must hold {what}, got other weights: {str(error).splitlines()[0]}") from error


def _compressed_fan(path: str | os.PathLike | None, device: torch.device) -> HeatmapHead:
    return HeatmapHead(_own("CompressedFAN", resolve_weights("compressed_fan", path), device), device)


def _fan68(path: str | os.PathLike | None, device: torch.device) -> HeatmapHead:
    network = _library_fan(device) if path is None else _own("TeacherFAN", resolve_weights("fan68", path), device)

    def heatmaps(images: Tensor) -> Tensor:
        found = network(images)
        return found if isinstance(found, Tensor) else found[-1]  # a map of each stack, the last one is the best

    return HeatmapHead(heatmaps, device)


def _stacked_hourglass(path: str | os.PathLike | None, device: torch.device) -> HeatmapHead:
    network, card = _own("StackedHourglass", resolve_weights("stacked_hourglass", path), device), get_card("dic")
    return HeatmapHead(lambda images: network(normalise(images, card)).heatmaps, device, _two_peaks)


def _jasrnet(path: str | os.PathLike | None, device: torch.device) -> JointHead:
    if path is None:
        raise ValueError(
            "jasrnet has no published weights. Name those that you trained (facesr options copy jasrnet) with --weights"
        )
    return JointHead(load(path, str(device)))


def _own(arch: str, path: str | os.PathLike, device: torch.device) -> nn.Module:
    """Build a network of this package with the weights of a file."""
    return build_network(load_weights(path), arch).to(device).eval()


def _library_fan(device: torch.device) -> Callable[[Tensor], Tensor | list[Tensor]]:
    """Return the network of the library face-alignment, which downloads its weights itself."""
    try:
        from face_alignment import FaceAlignment, LandmarksType
    except ImportError as error:
        raise ImportError(
            "fan68 needs the library face-alignment (pip install face-alignment), or a file of 2DFAN-4 with --weights"
        ) from error
    kind = getattr(LandmarksType, "TWO_D", None) or LandmarksType._2D  # renamed in 1.4
    known = inspect.signature(FaceAlignment).parameters
    quick = {"compile": False} if "compile" in known else {}
    # "folder" is its one detector that needs no weights; faces are found here
    return FaceAlignment(kind, device=str(device), face_detector="folder", **quick).face_alignment_net


HEADS: dict[str, HeadKind] = {
    # facexlib shows its network whole FFHQ crops
    "fan98": HeadKind(_fan98, Framing(256, 0.246, 0.47, ready_side=256), "fan98"),
    # its own crop is 200 / 195 times the sum of a box's sides, 0.12 heights above its centre: medians of 45 faces
    "fan68": HeadKind(_fan68, Framing(256, 0.19, 0.505, ready_side=256, ready_share=0.7)),
    # CelebA's centre 178 at 64 pixels; aligned faces at 50 have about its scale
    "compressed_fan": HeadKind(
        _compressed_fan, Framing(64, 0.217, 0.53, ready_side=50), "compressed_fan", any_side=True
    ),
    # boxes about the points; their margin is not published, here the points fill 0.8 of the side
    "stacked_hourglass": HeadKind(_stacked_hourglass, Framing(128, 0.35, 0.25, ready_side=128), "stacked_hourglass"),
    "jasrnet": HeadKind(_jasrnet, _SMALL_FACES["box"], any_side=True),
}
