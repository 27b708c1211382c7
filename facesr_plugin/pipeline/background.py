"""Restore what is no face with a network of BasicSR: RRDBNet or SRVGGNetCompact, as of ESRGAN and Real-ESRGAN.

Source: Wang et al., "Real-ESRGAN" (ICCV workshops 2021) and its released weights. What differs from its program: the
network's arguments are read from the shapes, tiles fade into each other, what is returned is made tile by tile (memory
grows with the tile, not with the photo), a 16-bit photo goes in with all its bits, and Lanczos reduces with Pillow's
wider kernel, without aliasing.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from itertools import pairwise
from math import ceil, isqrt
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from facesr_plugin.checkpoints import UnsupportedCheckpointError, read_checkpoint
from facesr_plugin.pipeline.compute import check_precision, resolve_device, run_network

TILE_PX = 256
_MIN_TILE_PX = 64
_OVERLAP_PX = 32  # read beyond a tile on each side; half of it is also written and faded
_MULTIPLE = 4  # networks for x2 and x1 first fold 2 x 2 or 4 x 4 pixels
_KINDS = ("params_ema", "params")
_RRDB_SCALES = {3: 4, 12: 2, 48: 1}  # by channels after folding


class _Spec(NamedTuple):
    """A network of BasicSR: module, class, constructor arguments and factor."""

    module: str
    name: str
    args: dict[str, Any]
    scale: int


class _Span(NamedTuple):
    """One tile along one axis, in photo pixels: what it reads, what it writes, over how many of those it fades in."""

    read: slice
    write: slice
    fade: int


class Background:
    """Enlarges photos tile by tile with one network.

    Args:
        network: Maps RGB ``(1, 3, h, w)`` in [0, 1] to the same, ``scale`` times as large; put into eval mode.
        scale: Factor of the network.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        tile: Largest side of a tile in pixels of the photo, at least 64; 32 more are read on each side.

    Raises:
        ValueError: If ``tile`` is too small, or device or precision cannot be had here.
    """

    def __init__(
        self,
        network: nn.Module,
        scale: int,
        *,
        device: torch.device | str = "auto",
        precision: str = "fp32",
        tile: int = TILE_PX,
    ) -> None:
        if tile < _MIN_TILE_PX:
            raise ValueError(f"background tile must be at least {_MIN_TILE_PX} pixels, got {tile}")
        self._device = resolve_device(device)
        check_precision(self._device, precision)
        self._network = network.to(self._device).eval()
        self._scale = scale
        self._precision = precision
        self._tile = tile

    def __call__(self, photo: np.ndarray, factor: int) -> np.ndarray:
        """Return the photo enlarged ``factor`` times; where the network has another factor, Lanczos makes up for it.

        Args:
            photo: ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8 or uint16. Of a grey one the luma of the result is taken.
            factor: At least 1; with 1 the photo is restored in its size.

        Raises:
            ValueError: If the network's output is not finite, or a tile does not fit into the GPU's memory.
        """
        height, width = photo.shape[:2]
        rows, columns = _spans(height, self._tile), _spans(width, self._tile)
        result = np.empty((height * factor, width * factor, *photo.shape[2:]), photo.dtype)
        with tqdm(total=len(rows) * len(columns), unit="tile", leave=False, disable=None) as bar:
            for row in rows:
                strip = np.empty_like(result[_times(row.write, factor)])
                for column in columns:
                    tile = self._restore(photo[row.read, column.read], factor)
                    top, left = ((span.write.start - span.read.start) * factor for span in (row, column))
                    target = strip[:, _times(column.write, factor)]
                    tile = tile[top : top + target.shape[0], left : left + target.shape[1]]
                    _fade_in(target.swapaxes(0, 1), tile.swapaxes(0, 1), column.fade * factor)
                    bar.update()
                _fade_in(result[_times(row.write, factor)], strip, row.fade * factor)
        return result

    def _restore(self, window: np.ndarray, factor: int) -> np.ndarray:
        """Return a part of the photo through the network, ``factor`` times as large, in its own type."""
        height, width = window.shape[:2]
        largest = np.iinfo(window.dtype).max
        colour = torch.from_numpy(window.astype(np.float32) / largest).to(self._device)
        images = (colour[None].expand(3, -1, -1) if colour.ndim == 2 else colour.permute(2, 0, 1))[None]
        rest = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        images = nn.functional.pad(images, rest, mode="replicate")
        output = run_network(self._network, images, self._precision, f"background tile {self._tile}")
        output = output[0, :, : height * self._scale, : width * self._scale].clamp(0, 1).permute(1, 2, 0)
        restored = _resize(output.cpu().numpy(), (width * factor, height * factor))
        if window.ndim == 2:
            restored = cv2.cvtColor(restored, cv2.COLOR_RGB2GRAY)
        return np.rint(restored.clip(0, 1) * largest).astype(window.dtype)


def load_background(
    weights: str | os.PathLike, device: torch.device | str = "auto", precision: str = "fp32", tile: int = TILE_PX
) -> Background:
    """Read the weights of a background network; its kind and size are seen from the shapes.

    Args:
        weights: File with ``params_ema``, ``params`` or a plain state dict, as Real-ESRGAN's and BasicSR's ESRGAN's.
        device: As for ``Background``.
        precision: As for ``Background``.
        tile: As for ``Background``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If BasicSR is not installed, or too old to have the network.
        ValueError: If the file is damaged or holds another network, or as from ``Background``.
    """
    content = read_checkpoint(weights)
    held = [content[kind] for kind in _KINDS if isinstance(content, dict) and isinstance(content.get(kind), dict)]
    state = (held or [content])[0]
    spec = _identify(state, weights)
    network = _network_class(spec)
    try:
        with torch.device("meta"):  # shapes are compared before memory is taken
            built = network(**spec.args)
        built.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UnsupportedCheckpointError(f"{weights} does not fit {spec.name} with {spec.args}: {reason}") from error
    return Background(built, spec.scale, device=device, precision=precision, tile=tile)


def _identify(state: Any, path: str | os.PathLike) -> _Spec:
    tensors = isinstance(state, dict) and bool(state) and all(isinstance(value, Tensor) for value in state.values())
    for sign, read in _READERS.items():
        if tensors and sign in state:
            try:
                return read(state)
            except (KeyError, IndexError, ValueError) as error:
                raise UnsupportedCheckpointError(f"{path} is damaged or no background network: {error}") from error
    raise UnsupportedCheckpointError(
        f"{path} must hold a background network of BasicSR, RRDBNet or SRVGGNetCompact (as Real-ESRGAN's files), "
        "got other weights"
    )


def _rrdbnet(state: Mapping[str, Tensor]) -> _Spec:
    first, last = state["conv_first.weight"], state["conv_last.weight"]
    if first.shape[1] not in _RRDB_SCALES or last.shape[0] != 3:
        raise ValueError(f"an RRDBNet of RGB images is needed, got {first.shape[1]} channels in, {last.shape[0]} out")
    args = {
        "num_in_ch": 3,
        "num_out_ch": 3,
        "scale": _RRDB_SCALES[first.shape[1]],
        "num_feat": first.shape[0],
        "num_block": len({key.split(".")[1] for key in state if key.startswith("body.")}),
        "num_grow_ch": state["body.0.rdb1.conv1.weight"].shape[0],
    }
    return _Spec("rrdbnet_arch", "RRDBNet", args, args["scale"])


def _compact(state: Mapping[str, Tensor]) -> _Spec:
    convolutions = [value for value in state.values() if value.ndim == 4]
    if "body.1.weight" not in state or len(convolutions) < 2:
        raise ValueError("an SRVGGNetCompact with PReLU is needed; of others the file does not tell the activation")
    scale = isqrt(convolutions[-1].shape[0] // 3)
    args = {
        "num_in_ch": 3,
        "num_out_ch": 3,
        "num_feat": convolutions[0].shape[0],
        "num_conv": len(convolutions) - 2,
        "upscale": scale,
        "act_type": "prelu",
    }
    return _Spec("srvgg_arch", "SRVGGNetCompact", args, scale)


_READERS: dict[str, Callable[[Mapping[str, Tensor]], _Spec]] = {
    "conv_first.weight": _rrdbnet,
    "body.0.weight": _compact,
}


def _network_class(spec: _Spec) -> type[nn.Module]:
    try:
        return getattr(importlib.import_module(f"basicsr.archs.{spec.module}"), spec.name)
    except ImportError as error:
        raise ImportError(
            f"{spec.name} comes from BasicSR, which is not installed here or too old ({error}). See facesr doctor; "
            "without background weights nothing of it is needed."
        ) from error


def _spans(length: int, tile: int) -> list[_Span]:
    """Cut an axis into equal parts of at most ``tile`` pixels that begin at multiples of ``_MULTIPLE``."""
    number = ceil(length / tile)
    edges = [index * length // number // _MULTIPLE * _MULTIPLE for index in range(number)] + [length]
    half = _OVERLAP_PX // 2
    return [
        _Span(
            slice(max(start - _OVERLAP_PX, 0), min(stop + _OVERLAP_PX, length)),
            slice(max(start - half, 0), min(stop + half, length)),
            _OVERLAP_PX if start else 0,
        )
        for start, stop in pairwise(edges)
    ]


def _times(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)


def _fade_in(target: np.ndarray, new: np.ndarray, fade: int) -> None:
    """Write ``new`` over ``target``, blending along the first ``fade`` rows, where ``target`` has a neighbour's."""
    ramp = (np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1)
    old = target[:fade].astype(np.float32)
    target[:fade] = np.rint(old + (new[:fade] - old) * ramp.reshape(-1, *[1] * (new.ndim - 1)))
    target[fade:] = new[fade:]


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``(H, W, 3)`` float32 to ``(width, height)`` with Pillow's Lanczos."""
    if image.shape[1::-1] == size:
        return image
    channels = [Image.fromarray(channel).resize(size, Image.Resampling.LANCZOS) for channel in np.moveaxis(image, 2, 0)]
    return np.dstack([np.asarray(channel) for channel in channels])
