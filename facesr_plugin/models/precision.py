"""Half precision in training: networks compute in it, what compares their results computes in float32.

Autocast rounds what convolutions and matrix products take; weights, their gradients and moving averages stay float32.
A network's results are float32 again before anybody uses them, those of networks inside losses too, so images,
heatmaps, scores and features are compared in full precision.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LEAST_SCALE = 1.0


class Precision:
    """What ``train.amp`` asks for.

    Float16 holds no numbers above 65504 and few below 1e-7: losses are multiplied by a scale that is halved when a
    gradient overflows, and doubled after 2000 steps without. One scale serves all networks, since an iteration in which
    one of them overflows is left out as a whole.

    Args:
        name: ``bf16``, ``fp16`` or None for float32.
        device: Of the training.

    Raises:
        ValueError: If PyTorch has not this precision on the device.
    """

    def __init__(self, name: str | None, device: torch.device) -> None:
        self._device, self._dtype = device, AMP.get(name)
        self._scaler = _build_scaler(device) if name == "fp16" else None

    def autocast(self) -> AbstractContextManager:
        """Context in which networks compute with the precision."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)

    def widen_results(self, networks: Iterable[nn.Module]) -> None:
        """Make the results of networks float32, in whatever containers they come; without ``amp`` nothing is done."""
        for network in networks if self._dtype is not None else ():
            network.register_forward_hook(_widen)

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss whose gradients are computed."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradients those of the loss itself, and adapt the scale of the next ones."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
            self._scaler.update()

    def at_floor(self) -> Tensor:
        """Whether the scale is so small that nothing overflows by it; bool scalar on the device."""
        if self._scaler is None:
            return torch.ones((), dtype=torch.bool, device=self._device)
        return self._scaler.scale(torch.ones((), device=self._device)) <= _LEAST_SCALE

    def state(self) -> dict[str, Any]:
        """What a training state keeps: plain numbers; empty without scale."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave; a run that has another precision now has no use for it."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)


def _build_scaler(device: torch.device) -> Any:
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device.type)
    if device.type == "cuda":
        return torch.cuda.amp.GradScaler()  # torch before 2.3
    raise ValueError(f"train.amp must be bf16 or ~ on a CPU with PyTorch {torch.__version__}, got 'fp16'")


def _widen(_network: nn.Module, _inputs: tuple, results: Any) -> Any:
    return tree_map_only(Tensor, _to_float32, results)


def _to_float32(result: Tensor) -> Tensor:
    return result.float() if result.dtype in AMP.values() else result
