"""``prefetch-error``: the thread of ``prefetch_mode: cpu`` dies of an error and leaves the training waiting for ever.

In BasicSR the thread also outlives the loader's iterator that it reads, with the worker processes of that one (the
training makes two for its first epoch), and with ``persistent_workers`` two threads read one iterator.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from facesr_plugin.compat.patch import Patch, names_in, rebind

_POLL_S = 0.1
_WAIT_S = 10.0
_END = object()


class PrefetchGenerator:
    """The items of an iterator, taken from it ahead of their use in a thread that ends with this object.

    Args:
        generator: What gives the items; its errors are raised by ``__next__``.
        num_prefetch_queue: How many items are kept ready.
    """

    def __init__(self, generator: Iterator[Any], num_prefetch_queue: int) -> None:
        self._ready: queue.Queue = queue.Queue(num_prefetch_queue)
        self._stop = threading.Event()
        thread = threading.Thread(target=_fill, args=(generator, self._ready, self._stop), daemon=True)
        thread.start()
        self.close = weakref.finalize(self, _end, thread, self._stop)

    def __iter__(self) -> PrefetchGenerator:
        return self

    def __next__(self) -> Any:
        if self._stop.is_set():
            raise StopIteration
        item, error = self._ready.get()
        if item is not _END:
            return item
        self._stop.set()
        try:
            raise error or StopIteration
        finally:
            del error  # its trace holds this frame: a cycle would keep the workers until they are collected


def _fill(items: Iterator[Any], ready: queue.Queue, stop: threading.Event) -> None:
    goes_on = True
    while goes_on:
        goes_on = _put(_take(items), ready, stop)


def _take(items: Iterator[Any]) -> tuple[Any, BaseException | None]:
    """Return the next item, or ``_END`` with the error that it met, if there was one."""
    try:
        return next(items, _END), None
    except BaseException as error:  # whatever it is, the thread that waits for an item has to know
        return _END, error


def _put(pair: tuple[Any, BaseException | None], ready: queue.Queue, stop: threading.Event) -> bool:
    """Put a pair of ``_take`` into the queue; return whether another is wanted."""
    while not stop.is_set():
        try:
            ready.put(pair, timeout=_POLL_S)
        except queue.Full:
            continue
        return pair[0] is not _END
    return False


def _end(thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    thread.join(_WAIT_S)


def _module() -> Any:
    import basicsr.data.prefetch_dataloader as prefetch_dataloader

    return prefetch_dataloader


def _apply() -> None:
    from torch.utils.data import DataLoader

    rebind(_module().PrefetchGenerator, PrefetchGenerator)

    def iterate(self: Any) -> PrefetchGenerator:
        """End the thread of the pass before, which persistent workers would serve as well, and start anew."""
        last = vars(self).get("_last_pass")
        if last is not None and last() is not None:
            last().close()
        made = PrefetchGenerator(DataLoader.__iter__(self), self.num_prefetch_queue)
        self._last_pass = weakref.ref(made)
        return made

    _module().PrefetchDataLoader.__iter__ = iterate


PREFETCH_ERROR = Patch(
    name="prefetch-error",
    reason="the thread of prefetch_mode: cpu dies of an error of its loader, and the training waits for ever",
    needed=lambda: "BaseException" not in names_in(_module().PrefetchGenerator.run),
    apply=_apply,
)
