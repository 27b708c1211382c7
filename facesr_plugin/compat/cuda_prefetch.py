"""``cuda-prefetch``: batches of ``prefetch_mode: cuda`` can be overwritten while the GPU still computes with them.

BasicSR's prefetcher copies on a stream of its own. The allocator gives a batch's memory back to that stream as soon as
Python drops the batch, and the next copy may start before the iterations that were queued for it have run: nothing in
an iteration of this package's models waits for the GPU. It also copies numbers that only the CPU reads.
"""

from __future__ import annotations

from typing import Any

from facesr_plugin.compat.patch import Patch, names_in

_READ_BY_CPU = ("degradation_seed", "skipped")


def _prefetcher() -> Any:
    from basicsr.data.prefetch_dataloader import CUDAPrefetcher

    return CUDAPrefetcher


def _apply() -> None:
    import torch

    take = _prefetcher().next

    def preload(self: Any) -> None:
        """Start to copy the next batch of ``self.loader``; ``self.batch`` is None after the last."""
        self.batch = next(self.loader, None)
        with torch.cuda.stream(self.stream):
            for name, value in (self.batch or {}).items():
                if torch.is_tensor(value) and name not in _READ_BY_CPU:
                    self.batch[name] = value.to(device=self.device, non_blocking=True)

    def take_and_keep(self: Any) -> dict[str, Any] | None:
        """Return the batch, whose memory stays its own until the current stream has done what is queued for it."""
        batch = take(self)
        for value in (batch or {}).values():
            if torch.is_tensor(value) and value.is_cuda:
                value.record_stream(torch.cuda.current_stream())
        return batch

    _prefetcher().preload, _prefetcher().next = preload, take_and_keep


CUDA_PREFETCH = Patch(
    name="cuda-prefetch",
    reason="prefetch_mode: cuda lets a batch be overwritten before the GPU has computed with it",
    needed=lambda: "record_stream" not in names_in(_prefetcher().next),
    apply=_apply,
)
