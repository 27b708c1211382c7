"""Where training stands in its data stream, shared by the sampler and the model.

A run that continues in the middle of an epoch has to skip what it has already seen, and every
random draw of a data set has to depend on (seed, epoch, position) alone. BasicSR's sampler yields
plain indices; the ``sampler-position`` patch (compat) makes it yield ``SampleIndex`` and honour
``POSITION``.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class SampleIndex(int):
    """An index into a data set that also says when it is drawn.

    Attributes:
        epoch: Epoch of the sampler, from 0.
        position: Place in the epoch's sequence over all ranks, from 0.
    """

    epoch: int
    position: int

    @classmethod
    def make(cls, index: int, epoch: int, position: int) -> SampleIndex:
        """Build one (``int`` subclasses take no keywords that pickle)."""
        made = cls(index)
        made.epoch = epoch
        made.position = position
        return made


def place_of(index: int) -> tuple[int, int]:
    """Return (epoch, position) of a ``SampleIndex``; a plain index is its own position in epoch 0."""
    return getattr(index, "epoch", 0), getattr(index, "position", int(index))


@dataclass
class Position:
    """Samples that this rank has consumed in the running epoch.

    Attributes:
        epoch: Epoch that the sampler announced last; None before the first.
        samples: Samples that went through an optimiser step in it.
        resumed: ``(epoch, samples)`` of the state that the run continues from.
        last_epoch: Of the run, which its loader lets go on to the end; None where nothing says so.
    """

    epoch: int | None = None
    samples: int = 0
    resumed: tuple[int, int] = field(default=(-1, 0))
    last_epoch: int | None = None

    def start(self, epoch: int) -> None:
        """Note that the sampler begins an epoch."""
        self.epoch = epoch
        self.samples = self.to_skip(epoch)

    def to_skip(self, epoch: int) -> int:
        """Samples of this rank that an earlier run has already used in ``epoch``."""
        return self.resumed[1] if epoch == self.resumed[0] else 0

    def resume(self, epoch: int, samples: int) -> None:
        """Continue inside ``epoch`` after ``samples`` samples of this rank."""
        self.resumed = (epoch, samples)
        self.epoch, self.samples = epoch, samples

    def reset(self) -> None:
        """Forget what another run in the same process did; the loader of the new one is already built."""
        self.epoch, self.samples, self.resumed = None, 0, (-1, 0)


POSITION = Position()
