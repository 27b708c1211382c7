"""Where the time of a training run goes, and the one line that says so at each print interval.

BasicSR's own line has the averages of two timers, which do not wait for a GPU, and an estimate of the time left that
knows of no validation and is wrong after a resume. Here the clock runs from one line to the next (each waits for the
device), less what was saved and validated between them.
"""

from __future__ import annotations

import datetime
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

_RECENT = 10  # print intervals that the estimate of the time left looks back on
_GIB = 2**30


class Speed(NamedTuple):
    """How fast the iterations since the last line were.

    Attributes:
        seconds: Of one iteration with its data, without saving and validation; NaN before the first one.
        waiting: Part of it, in [0, 1], that waited for data.
    """

    seconds: float
    waiting: float


class RunClock:
    """Measures iterations, waiting for data, and what is done beside them.

    The first iteration of a process starts workers and chooses algorithms; it counts only until there is another one.

    Args:
        now: Gives seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.iterations = 0
        self.on_iteration: Callable[[], object] = lambda: None
        self._start = self._mark = now()
        self._counted, self._aside, self._waiting = 0, 0.0, 0.0
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self._first = math.nan
        self._besides: dict[str, list[float]] = {}
        self._inside = False
        self._origin = self._start

    @property
    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return self._now() - self._origin

    def begin(self) -> None:
        """An iteration begins: its batch is there."""
        now = self._now()
        if not self.iterations:
            self._start = now
        else:
            self._waiting += now - self._mark

    def end(self) -> None:
        """The iteration has been handed to the device."""
        self._mark = self._now()
        self.iterations += 1
        self._counted += 1
        if self.iterations == 1:
            self._first = self._mark - self._start
            self._restart(self._mark)
        self.on_iteration()

    @contextmanager
    def aside(self, kind: str) -> Iterator[None]:
        """Measure what is no part of an iteration; one inside another belongs to the outer one."""
        if self._inside:
            yield
            return
        begin, self._inside = self._now(), True
        try:
            yield
        finally:
            self._inside, self._mark = False, self._now()
            self._aside += self._mark - begin
            self._besides.setdefault(kind, []).append(self._mark - begin)

    def read(self) -> Speed:
        """Return the speed since the last call, and start anew; the device has finished its work."""
        now, self._mark = self._now(), self._now()
        if not self._counted:
            return Speed(self._first, 0.0)
        seconds, count, waiting = max(now - self._start - self._aside, 1e-9), self._counted, self._waiting
        self._recent.append((count, seconds))
        self._restart(now)
        return Speed(seconds / count, min(waiting / seconds, 1.0))

    def seconds_left(self, iterations: int, besides: Mapping[str, int]) -> float:
        """Estimate the time that remains.

        Args:
            iterations: That are to come.
            besides: How often what ``aside`` measures is to come, by kind; what was not measured yet counts nothing.
        """
        count = sum(number for number, _ in self._recent)
        each = sum(seconds for _, seconds in self._recent) / count if count else self._first
        means = {kind: sum(taken) / len(taken) for kind, taken in self._besides.items()}
        return iterations * each + sum(number * means.get(kind, 0.0) for kind, number in besides.items())

    def _restart(self, now: float) -> None:
        self._start, self._counted, self._aside, self._waiting = now, 0, 0.0, 0.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one line says.

    Args:
        epoch: From 0.
        iteration: From 1.
        total: Iterations of the whole run.
        rates: Learning rates.
        losses: By name; other numbers of the model too.
        speed: Since the last line.
        images: In one iteration, on all ranks.
        memory: Largest number of bytes so far.
        left: Seconds.
        skipped: Counts by name; those of 0 are left out.
    """

    epoch: int
    iteration: int
    total: int
    rates: Sequence[float]
    losses: Mapping[str, float]
    speed: Speed
    images: int
    memory: int
    left: float
    skipped: Mapping[str, int]

    def text(self) -> str:
        """Format the line; ``epoch: 1, iter: 2,000`` and ``eta: 1:02:03`` stand as in BasicSR's."""
        head = f"epoch: {self.epoch}, iter: {self.iteration:,}/{self.total:,}"
        rates = ", ".join(format_number(rate, 3) for rate in self.rates)
        parts = [f"{head}, lr: {rates}", ", ".join(f"{name}: {format_number(x)}" for name, x in self.losses.items())]
        parts.append(f"{format_number(self.images_per_second, 3)} images/s, data: {self.speed.waiting:.0%}")
        parts.append(f"memory: {self.memory / _GIB:.2f} GiB")
        parts.append(", ".join(f"skipped {name}: {count:,}" for name, count in self.skipped.items() if count))
        parts.append(f"eta: {format_duration(self.left)}")
        return " | ".join(part for part in parts if part)

    def scalars(self) -> dict[str, float]:
        """Return what TensorBoard draws by tag: BasicSR's tags, and the run's own."""
        tags = {f"losses/{name}" if name.startswith("l_") else name: value for name, value in self.losses.items()}
        return tags | {
            "run/images_per_second": self.images_per_second,
            "run/data_percent": 100 * self.speed.waiting,
            "run/memory_gib": self.memory / _GIB,
        }

    @property
    def images_per_second(self) -> float:
        """On all ranks."""
        return self.images / self.speed.seconds


def format_number(value: float, digits: int = 4) -> str:
    """Return a number with that many digits, without exponent from 0.001 to 100,000."""
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}"


def format_duration(seconds: float) -> str:
    """Return ``1:02:03`` or ``2 days, 1:02:03``; ``?`` if it is not known."""
    return str(datetime.timedelta(seconds=int(max(seconds, 0)))) if math.isfinite(seconds) else "?"


def to_come(iteration: int, total: int, every: float) -> int:
    """Return how many multiples of ``every`` lie from ``iteration`` to ``total``, both included."""
    return int(total // every - (iteration - 1) // every)


def peak_memory(on_gpu: bool) -> int:
    """Return the largest number of bytes that this process has had: tensors of the GPU, else its resident memory."""
    if on_gpu:
        import torch

        return torch.cuda.max_memory_allocated()
    import resource  # not everywhere

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def images_per_iteration(opt: Mapping[str, Any]) -> int:
    """Return how many images all ranks see in an iteration of a training with BasicSR's options."""
    devices = 1 if opt["dist"] else max(opt["num_gpu"], 1)
    return opt["datasets"]["train"]["batch_size_per_gpu"] * devices * opt["world_size"]
