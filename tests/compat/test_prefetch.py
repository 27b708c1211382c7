"""``prefetch-error``: the thread of ``prefetch_mode: cpu`` as released, then the repaired one."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from basicsr.data.prefetch_dataloader import CPUPrefetcher, PrefetchDataLoader
from torch.utils.data import Dataset

from facesr_plugin.compat import prefetch
from helpers.pristine import pristine

ENOUGH_S = 20


class Numbers(Dataset):
    """0, 1, 2 ..., of which one cannot be read."""

    def __init__(self, bad: int | None = None, count: int = 4) -> None:
        self.bad, self.count = bad, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        if index == self.bad:
            raise ValueError(f"image {index} is damaged")
        return index


def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + ENOUGH_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def values(prefetcher: CPUPrefetcher) -> Iterator[int]:
    """What BasicSR's loop gets until the end of the epoch."""
    while (batch := prefetcher.next()) is not None:
        yield batch.item()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    gc.collect()
    assert wait_for(lambda: set(threading.enumerate()) <= before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_released_thread_leaves_the_training_waiting() -> None:
    released = pristine("basicsr.data.prefetch_dataloader").PrefetchDataLoader
    items = iter(released(1, dataset=Numbers(bad=1)))
    assert next(items).item() == 0
    waiting = threading.Thread(target=next, args=(items,), daemon=True)
    waiting.start()
    assert wait_for(lambda: not items.is_alive())
    waiting.join(0.5)
    assert waiting.is_alive()
    items.queue.put(torch.zeros(1))
    waiting.join()


@pytest.mark.parametrize("workers", [0, 1])
def test_repaired_thread_raises_where_the_training_waits(workers: int) -> None:
    assert prefetch.PREFETCH_ERROR.name == "prefetch-error"
    prefetcher = CPUPrefetcher(PrefetchDataLoader(1, dataset=Numbers(bad=1), num_workers=workers))
    assert prefetcher.next().item() == 0
    with pytest.raises(ValueError, match="image 1 is damaged"):
        prefetcher.next()
    assert prefetcher.next() is None


def test_repaired_thread_raises_an_error_of_any_kind() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise MemoryError("no more")

    made = prefetch.PrefetchGenerator(items(), 1)
    assert next(made) == 1
    with pytest.raises(MemoryError, match="no more"):
        next(made)


@pytest.mark.parametrize("settings", [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}])
def test_repaired_epochs_are_whole(settings: dict[str, Any]) -> None:
    prefetcher = CPUPrefetcher(PrefetchDataLoader(1, dataset=Numbers(), **settings))
    for _ in range(3):
        prefetcher.reset()
        assert list(values(prefetcher)) == [0, 1, 2, 3]
        assert prefetcher.next() is None


def test_repaired_thread_ends_with_what_it_serves() -> None:
    children = set(multiprocessing.active_children())
    prefetcher = CPUPrefetcher(PrefetchDataLoader(1, dataset=Numbers(count=100), num_workers=1))
    assert prefetcher.next().item() == 0
    prefetcher.reset()  # as BasicSR does at the begin of an epoch
    assert len(set(multiprocessing.active_children()) - children) == 1
    del prefetcher
    gc.collect()
    assert wait_for(lambda: set(multiprocessing.active_children()) <= children)


def test_a_closed_pass_is_at_its_end() -> None:
    made = prefetch.PrefetchGenerator(iter(range(100)), 2)
    assert next(made) == 0
    made.close()
    assert list(made) == []
