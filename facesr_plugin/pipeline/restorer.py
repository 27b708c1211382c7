"""Restore aligned faces: image in, image out, with everything that a system's card fixes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import facesr_plugin.archs  # noqa: F401  registers them
from facesr_plugin.cards import SystemCard, Upsampling, get_card
from facesr_plugin.checkpoints import Weights, build_network, load_weights
from facesr_plugin.ops.protocol import UPSAMPLERS, normalise, quantise, to_float
from facesr_plugin.pipeline.compute import check_precision, resolve_device, run_network
from facesr_plugin.pipeline.detector import FaceDetector
from facesr_plugin.pipeline.face import Face
from facesr_plugin.pipeline.photo import PhotoOptions, Result, check_photo, restore_photos, to_rgb8

MIN_SIDE = 4
MAX_ASPECT = 4
T = TypeVar("T")


def load(weights: str | os.PathLike, device: str = "auto", precision: str = "fp32", *, as_is: bool = False) -> Restorer:
    """Read weights (ours, BasicSR's or official ones) and return the restorer of their system.

    Faces enter in the size and the colour range that the file states (its ``faces``, the network's ``out_size`` and
    ``rgb_range``), which may differ from the published ones.
    A network that grows in steps makes faces of the step that its file names.

    Args:
        weights: ``.pth`` or ``.safetensors`` file of a generator.
        device: ``auto`` (the first GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` or ``fp16`` arithmetic. On GPUs fp32 convolutions follow torch's TF32 setting.
        as_is: As for ``Restorer``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds no generator's weights, or device or precision cannot be had.
    """
    found = load_weights(weights)
    card = trained_card(found)
    return Restorer(build_network(found, card.arch), card, device, precision, call=found.call, as_is=as_is)


def trained_card(weights: Weights) -> SystemCard:
    """Return the card of a file's system, for the faces that its network was trained with.

    Raises:
        ValueError: If the system cannot have such faces.
    """
    card, args, faces = get_card(weights.system), weights.args, weights.faces
    gt_size = args.get("out_size", faces.get("gt_size", card.gt_size))
    card = card.sized(gt_size, faces.get("scale")).in_range(args.get("rgb_range", 1.0))
    return replace(card, framing=faces.get("framing", card.framing))


class Restorer:
    """Restores aligned faces with one network, on one device.

    Args:
        network: Of the card's system; it is moved to the device and put into eval mode.
        card: What the network was made for.
        device: As for ``load``.
        precision: As for ``load``; below fp32 the weights stay fp32 and ``torch.autocast`` chooses per operation.
        call: Arguments of the network beside the faces, such as its ``step``.
        as_is: Take every face as the network's input, whatever its size, instead of resizing it.

    Raises:
        ValueError: If device or precision cannot be had here, or nothing enters the network as it is.
    """

    def __init__(
        self,
        network: nn.Module,
        card: SystemCard,
        device: str = "auto",
        precision: str = "fp32",
        *,
        call: Mapping[str, Any] = MappingProxyType({}),
        as_is: bool = False,
    ) -> None:
        if as_is and card.upsampling:
            raise ValueError(
                f"as_is must be unset for {card.system}, which enlarges the small image before the network"
            )
        self.as_is = as_is
        self.card = card
        self.call = dict(call)
        self.device = resolve_device(device)
        self.precision = precision
        check_precision(self.device, precision)
        self.network = network.to(self.device).eval()

    def fit(self, face: np.ndarray) -> np.ndarray:
        """Resize a face to the size that the network takes, ``fitted_size``: with Pillow, or enlarge as the card says.

        Where the network takes the small image, a large face is reduced as the data sets do it: first to the size of
        the published target (or the largest between that and the input that it has), then as the card says.

        Args:
            face: ``(H, W, 3)`` uint8 RGB.

        Raises:
            TypeError: If ``face`` is not a uint8 array.
            ValueError: If its shape is another, a side is below 4 pixels, one is over 4 times the other, or the network
                cannot take the face as it is.
        """
        _check_face(face)
        if self.as_is:
            _check_multiples(face.shape[:2], self.card)
            return face
        size = fitted_size(face.shape[:2], self.card)
        if face.shape[:2] == size:
            return face
        upsampling = self.card.upsampling
        if upsampling and upsampling.library != "pil" and min(face.shape[:2]) < min(size):
            return _enlarge(face, size, upsampling)
        kernel = (upsampling or self.card.reduction).kernel
        image = Image.fromarray(face)
        for height, width in _sizes_on_the_way(face.shape[:2], size, self.card):
            image = image.resize((width, height), Image.Resampling[kernel.upper()])
        return np.array(image)

    def __call__(self, faces: np.ndarray | Sequence[np.ndarray], batch: int = 16) -> list[np.ndarray]:
        """Restore faces of any sizes, aligned as the card's framing says.

        Args:
            faces: One ``(H, W, 3)`` uint8 RGB image, or several.
            batch: Largest number of faces that go through the network at a time; of faces that enter in a larger size
                than the card's, fewer.

        Returns:
            One ``(H', W', 3)`` uint8 RGB image per face, in their order: the card's ``gt_size`` for a square face (less
            for a network of an earlier step), else the shorter side has it and the longer one follows; of a face that
            was taken as it is, the card's ``scale`` times its size.

        Raises:
            TypeError, ValueError: As from ``fit``.
            ValueError: If the network's output is not finite, or a batch does not fit into the GPU's memory.
        """
        if isinstance(faces, np.ndarray) and faces.ndim == 3:
            faces = [faces]
        return self.map_fitted(self.restore_fitted, faces, batch)

    def map_fitted(
        self, function: Callable[[np.ndarray], Sequence[T]], faces: Sequence[np.ndarray], batch: int
    ) -> list[T]:
        """Apply a function to batches of fitted faces of one size.

        Args:
            function: Maps ``(N, h, w, 3)`` uint8 to N results.
            faces: As for a call.
            batch: As for a call.

        Returns:
            The results in the order of the faces.
        """
        fitted = [self.fit(face) for face in faces]
        by_size = defaultdict(list)
        for index, face in enumerate(fitted):
            by_size[face.shape].append(index)
        results: dict[int, T] = {}
        for shape, same in by_size.items():
            most = self._most_of(shape[:2], batch)
            for start in range(0, len(same), most):
                chosen = same[start : start + most]
                results.update(zip(chosen, function(np.stack([fitted[i] for i in chosen])), strict=True))
        return [results[index] for index in range(len(fitted))]

    def restore_fitted(self, faces: np.ndarray, network: Callable[[Tensor], Tensor] | None = None) -> np.ndarray:
        """Map fitted faces ``(N, h, w, 3)`` uint8 to restored ones ``(N, H, W, 3)`` uint8.

        Args:
            faces: From ``fit``.
            network: In place of the restorer's own with its ``call``.
        """
        output = self.run_fitted(faces, network or partial(self.network, **self.call))
        scale = 1 if self.card.upsampling else self.card.scale
        height, width = (side * scale for side in faces.shape[1:3])
        output = output[..., :height, :width]  # a network that halves more often than usual rounds sides up
        return quantise(output, self.card).permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def run_fitted(self, faces: np.ndarray, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what a network makes of fitted faces ``(N, h, w, 3)`` uint8 in the card's range, as float32."""
        images = torch.from_numpy(faces).to(self.device).permute(0, 3, 1, 2)
        return run_network(network, normalise(to_float(images), self.card), self.precision, f"batch {len(faces)}")

    def restore(
        self,
        image: np.ndarray,
        *,
        landmarks: np.ndarray | None = None,
        detector: Callable[[np.ndarray], list[Face]] | None = None,
        **options: Any,
    ) -> Result:
        """Restore the faces of a whole photo; for many photos ``restore_photos`` shares batches between them.

        Args:
            image: ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8 or uint16.
            landmarks: ``(N, 5, 2)`` points of the faces, order of ``Face``; then nothing is detected.
            detector: Maps ``(H, W, 3)`` uint8 RGB to faces; by default RetinaFace with ResNet-50, kept for later calls.
            options: Of ``PhotoOptions``: ``upscale``, ``only_largest``, ``min_face``, ``weight``, ``force``, ``batch``,
                ``background``.

        Returns:
            The photo, in the type that it came in, and its faces with their crops. Outside the faces every bit is kept
            (with ``upscale`` 1 and no ``background``). A photo without faces comes back as it is.

        Raises:
            TypeError, ValueError: If an argument is out of its range, or the network fails; see ``Restorer``.
            FileNotFoundError: If the detector's weights are nowhere.
        """
        check_photo(image)
        chosen = PhotoOptions(**options)
        if landmarks is not None:
            faces = [Face(points) for points in landmarks]
        else:
            faces = (detector or self._own_detector)(to_rgb8(image))
        return next(restore_photos(self, [(image, faces)], chosen))

    def _most_of(self, size: tuple[int, int], batch: int) -> int:
        """Return how many faces of this size have the pixels of a batch of the card's."""
        return max(1, min(batch, batch * _input_side(self.card) ** 2 // (size[0] * size[1])))

    @cached_property
    def _own_detector(self) -> FaceDetector:
        return FaceDetector(device=self.device)


def _enlarge(face: np.ndarray, size: tuple[int, int], upsampling: Upsampling) -> np.ndarray:
    image = torch.from_numpy(face).permute(2, 0, 1).unsqueeze(0)
    enlarged = UPSAMPLERS[upsampling.library](image, size, upsampling.kernel)
    return enlarged[0].permute(1, 2, 0).contiguous().numpy()


def fitted_size(size: tuple[int, int], card: SystemCard) -> tuple[int, int]:
    """Return the ``(height, width)`` in which a face of this size enters the network.

    The shorter side gets the card's size. The longer one keeps the ratio, rounded to the card's ``size_multiple``. An
    image smaller than the target whose sides are such multiples keeps them, if the card allows any size.
    """
    base, shorter, multiple = _input_side(card), min(size), card.size_multiple
    if card.any_lq_size and max(size) < card.gt_size and not any(side % multiple for side in size):
        return size
    height, width = (base if side == shorter else round(base * side / shorter / multiple) * multiple for side in size)
    return height, width


def _input_side(card: SystemCard) -> int:
    return card.gt_size if card.upsampling else card.lq_size


def _check_multiples(size: tuple[int, int], card: SystemCard) -> None:
    height, width = size
    if height % card.size_multiple or width % card.size_multiple:
        raise ValueError(
            f"face must have sides of multiples of {card.size_multiple} to enter {card.system} as it is, got "
            f"{width} x {height}. Crop or resize it, or leave out as-is."
        )


def _sizes_on_the_way(face: tuple[int, int], target: tuple[int, int], card: SystemCard) -> list[tuple[int, int]]:
    """Return the sizes that a face gets one after the other, the last of them ``target``."""
    sizes = [target]
    if card.upsampling:
        return sizes
    for factor in reversed(card.reduction.factors(card.scale)):
        height, width = (side * factor for side in sizes[0])
        if height > face[0] or width > face[1]:
            break
        sizes.insert(0, (height, width))
    return sizes


def _check_face(face: np.ndarray) -> None:
    if not isinstance(face, np.ndarray) or face.dtype != np.uint8:
        raise TypeError(f"face must be a uint8 array, got {getattr(face, 'dtype', type(face).__name__)}")
    if face.ndim != 3 or face.shape[2] != 3:
        raise ValueError(f"face must have shape (H, W, 3), RGB, got {face.shape}")
    height, width = face.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"face must be at least {MIN_SIDE} x {MIN_SIDE} pixels, got {width} x {height}")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"face must be at most {MAX_ASPECT} times as long as wide, got {width} x {height}. Crop it.")
