"""``cuda-prefetch``, with a device that records what it is asked for: no GPU is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from basicsr.data.prefetch_dataloader import CUDAPrefetcher
from torch import Tensor

from facesr_plugin.compat import cuda_prefetch
from helpers.pristine import pristine


class OnDevice(Tensor):
    """A tensor that says it is on a GPU, and remembers the streams that use it."""

    is_cuda = True

    def record_stream(self, stream: str) -> None:
        self.streams = [*getattr(self, "streams", []), stream]


class OnHost(Tensor):
    """A tensor of pinned memory: a copy to the device is an ``OnDevice``."""

    def to(self, **_: Any) -> Tensor:
        return self.as_subclass(OnDevice)


def make_batch(seed: int) -> dict[str, Any]:
    tensors = {name: torch.full((2, 3), seed).as_subclass(OnHost) for name in ("gt", "degradation_seed", "skipped")}
    return {**tensors, "lq_path": ["a.png", "b.png"]}


class Batches:
    """A loader of two batches."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([make_batch(0), make_batch(1)])


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """torch.cuda without a GPU."""
    calls = SimpleNamespace(waited=[])
    monkeypatch.setattr(torch.cuda, "Stream", lambda: "side")
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    main = SimpleNamespace(wait_stream=calls.waited.append)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: main)
    calls.main = main
    return calls


@pytest.fixture
def repaired(device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    for name in ("next", "preload"):
        monkeypatch.setattr(CUDAPrefetcher, name, getattr(CUDAPrefetcher, name))  # put back afterwards
    if cuda_prefetch.CUDA_PREFETCH.needed():
        cuda_prefetch.CUDA_PREFETCH.apply()
    assert not cuda_prefetch.CUDA_PREFETCH.needed()
    return CUDAPrefetcher


def run(prefetcher: type) -> list[dict[str, Any] | None]:
    made = prefetcher(Batches(), {"num_gpu": 1})
    made.reset()
    return [made.next() for _ in range(4)]


def test_released_prefetcher_lets_memory_go_and_copies_what_the_cpu_reads(device: SimpleNamespace) -> None:
    original = pristine("basicsr.data.prefetch_dataloader").CUDAPrefetcher
    first = run(original)[0]
    assert not hasattr(first["gt"], "streams")
    assert isinstance(first["skipped"], OnDevice)


def test_batches_are_held_for_the_stream_that_computes(repaired: type, device: SimpleNamespace) -> None:
    assert cuda_prefetch.CUDA_PREFETCH.name == "cuda-prefetch"
    batches = run(repaired)
    assert batches[2:] == [None, None]
    assert [batch["gt"][0, 0].item() for batch in batches[:2]] == [0, 1]
    assert all(batch["gt"].streams == [device.main] for batch in batches[:2])
    assert device.waited == ["side"] * 4


def test_what_the_cpu_reads_stays_there(repaired: type) -> None:
    batch = run(repaired)[0]
    assert isinstance(batch["gt"], OnDevice)
    assert not any(isinstance(batch[name], OnDevice) for name in ("degradation_seed", "skipped"))
    assert batch["lq_path"] == ["a.png", "b.png"]
