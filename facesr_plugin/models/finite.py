"""Watch that losses and gradients are numbers; leave out the iterations in which they are not, up to a limit.

Whether an iteration counts follows from its gradients alone, which all ranks share: a loss that is no number is made to
spoil them. So ranks decide alike without another exchange. On a GPU the host never waits for that decision: optimisers
skip their step and buffers are taken back on the device, and the host reads what happened one iteration later, when it
has given the device other work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from basicsr.utils import get_root_logger
from torch import Tensor
from torch.optim import Optimizer

from facesr_plugin.models.undo import Undo

_FILES = 3  # of one run on each rank; each holds all networks and optimisers


class Iteration(NamedTuple):
    """What is known of an iteration: its number, the batch as the loader gave it, and its loss terms by name."""

    number: int
    batch: Mapping[str, Any]
    losses: Mapping[str, Tensor]


class _Verdict(NamedTuple):
    """On its way to the host: whether the iteration was left out, and whether that is a fault."""

    iteration: Iteration
    flags: Tensor
    arrived: torch.cuda.Event | None

    def read(self) -> list[bool]:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.flags.tolist()


class FiniteGuard:
    """The guard of a training.

    Args:
        limit: How many iterations in a row may be left out; one more ends the run.
        optimizers: Of all networks.
        device: Of the training.
        write: Writes the file of an iteration that was left out, and returns its path; see ``before``.
        remedy: Sentence for the message that ends the run.

    Attributes:
        deferred: Whether everything is decided on the device and read one iteration later: on a GPU whose optimisers
            are fused. Others need the decision on the host: on a CPU it is there at once, on a GPU the host waits.
        undoes_steps: Whether steps must be taken back: where gradients of the same iteration are computed after them.
        in_a_row: Iterations that were left out since the last one that counted.
        total: All of the run that were left out.
    """

    def __init__(
        self,
        limit: int,
        optimizers: Sequence[Optimizer],
        device: torch.device,
        write: Callable[[Iteration], Path],
        remedy: str,
    ) -> None:
        self._limit, self._device = limit, device
        self._write, self._remedy = write, remedy
        self.deferred = device.type == "cuda" and all(map(_is_fused, optimizers))
        self.undoes_steps = False
        self.in_a_row = self.total = 0
        self._files: list[Path] = []
        self._undo = Undo()
        self._pending: _Verdict | None = None

    def begin(self, changing: Iterable[Tensor]) -> None:
        """Start an iteration.

        Args:
            changing: Tensors that it changes beside the optimisers' parameters: buffers, moving averages.
        """
        self._undo = Undo()
        self._undo.keep(changing)
        self._spoilt = self._no_number = torch.zeros((), dtype=torch.bool, device=self._device)

    def before(self, tensor: Tensor) -> Tensor:
        """Return what a tensor of a network was before the iteration, for ``write``."""
        return self._undo.before(tensor)

    def spoil(self, loss: Tensor) -> Tensor:
        """Return the loss; if it is no number, one whose gradients are none either."""
        no_number = ~torch.isfinite(loss.detach())
        self._no_number = self._no_number | no_number
        return loss * torch.ones_like(loss).masked_fill_(no_number, math.nan)

    def judge(self, norm: Tensor) -> None:
        """Take the norm of a network's gradients."""
        self._spoilt = self._spoilt | ~torch.isfinite(norm)

    def step(self, optimizer: Optimizer) -> None:
        """Step, unless gradients of this iteration were no numbers."""
        if self.undoes_steps:
            self._undo.keep_step(optimizer)
        if self.deferred:
            optimizer.found_inf = self._spoilt.to(torch.float32)
            optimizer.step()
            del optimizer.found_inf
        elif not self._spoilt:
            optimizer.step()

    def end(self, iteration: Iteration, at_floor: Tensor) -> None:
        """Take back what an iteration changed that does not count.

        Args:
            iteration: This one.
            at_floor: Bool scalar, false if gradients may have overflown by a scale that then gets smaller: that is no
                fault, unless a loss itself is no number.

        Raises:
            ValueError: See ``look``.
        """
        if self.deferred:
            self._undo.take_back(self._spoilt)
        elif self._spoilt:
            self._undo.take_back()
        flags = torch.stack([self._spoilt, self._spoilt & (self._no_number | at_floor)])
        self._pending = self._send(iteration, flags)
        if not self.deferred:
            self.look()
        self._undo = Undo()

    def _send(self, iteration: Iteration, flags: Tensor) -> _Verdict:
        if flags.device.type != "cuda":
            return _Verdict(iteration, flags, None)
        flags = torch.empty_like(flags, device="cpu", pin_memory=True).copy_(flags, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return _Verdict(iteration, flags, arrived)

    def look(self) -> None:
        """Report an iteration that was left out, if the last one was.

        Raises:
            ValueError: If more than ``limit`` in a row were.
        """
        if self._pending is None:
            return
        verdict, self._pending = self._pending, None
        left_out, is_fault = verdict.read()
        if is_fault:
            self._report(verdict.iteration)
        elif not left_out:
            self.in_a_row = 0

    def _report(self, iteration: Iteration) -> None:
        self.in_a_row += 1
        self.total += 1
        writes = len(self._files) < _FILES
        if writes:
            self._files.append(self._write(iteration))
        where = f"Batch and state are in {self._files[-1]}{'' if writes else ', of the last one that was written'}."
        if self.in_a_row > self._limit:
            raise ValueError(
                f"losses and gradients must be finite, got others in {self.in_a_row} iterations in a row "
                f"(train.nonfinite_limit: {self._limit}): the training has exploded, or its data hold no numbers. "
                f"{self._remedy} {where}"
            )
        get_root_logger().warning(
            f"Iteration {iteration.number:,} is left out: a loss or gradient is no number ({self.in_a_row} in a row, "
            f"{self.total} in all). {where}"
        )


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together, a scalar on their device."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


def _is_fused(optimizer: Optimizer) -> bool:
    return all(group.get("fused") for group in optimizer.param_groups)
