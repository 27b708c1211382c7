"""Take back what an iteration changed, if its gradients turn out to be no numbers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


class Undo:
    """Copies of tensors that an iteration changes in place."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._optimizers: list[Optimizer] = []

    @torch.no_grad()
    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Copy tensors; of one that was kept already, the first copy counts."""
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            if id(tensor) not in self._kept:
                by_type.setdefault(tensor.dtype, []).append(tensor)
        for originals in by_type.values():
            copies = [torch.empty_like(tensor) for tensor in originals]
            torch._foreach_copy_(copies, originals)
            self._kept |= {id(tensor): (tensor, copy) for tensor, copy in zip(originals, copies, strict=True)}

    def keep_step(self, optimizer: Optimizer) -> None:
        """Copy what a step of an optimiser changes: parameters, and its state as far as there is one."""
        self.keep(parameter for group in optimizer.param_groups for parameter in group["params"])
        self.keep(_state_tensors(optimizer))
        self._optimizers.append(optimizer)

    def before(self, tensor: Tensor) -> Tensor:
        """Return what a tensor was when it was kept, or is, if it was not."""
        return self._kept.get(id(tensor), (tensor, tensor))[1]

    @torch.no_grad()
    def take_back(self, wanted: Tensor | None = None) -> None:
        """Give every tensor its old values; state that a step has made since then becomes 0, as it begins.

        Args:
            wanted: Bool scalar on the tensors' device, whether to do so; None for yes. It is not read on the host.
        """
        changed = dict(self._kept)
        for tensor in (tensor for optimizer in self._optimizers for tensor in _state_tensors(optimizer)):
            if id(tensor) not in changed:
                changed[id(tensor)] = tensor, torch.zeros_like(tensor)
        for tensor, copy in changed.values():
            if wanted is None:
                tensor.copy_(copy)
            else:
                torch.where(wanted, copy, tensor, out=tensor)


def _state_tensors(optimizer: Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
