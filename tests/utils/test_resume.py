"""Where training stands: indices that know their place, and the position in the epoch."""

from __future__ import annotations

import copy
import pickle

from facesr_plugin.utils.resume import Position, SampleIndex


def test_sample_index_is_an_int_with_a_place() -> None:
    index = SampleIndex.make(7, epoch=2, position=5)
    assert index == 7
    assert list(range(10))[index] == 7
    assert (index.epoch, index.position) == (2, 5)


def test_sample_index_travels_to_workers() -> None:
    index = SampleIndex.make(7, epoch=2, position=5)
    for made in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert (made, made.epoch, made.position) == (7, 2, 5)


def test_position_starts_each_epoch_at_nothing() -> None:
    position = Position()
    assert (position.epoch, position.samples) == (None, 0)
    position.start(0)
    position.samples += 4
    position.start(1)
    assert (position.epoch, position.samples) == (1, 0)


def test_position_skips_in_the_resumed_epoch_only() -> None:
    position = Position()
    position.resume(epoch=3, samples=6)
    assert [position.to_skip(epoch) for epoch in (2, 3, 4)] == [0, 6, 0]
    position.start(3)
    assert position.samples == 6
    position.start(4)
    assert position.samples == 0


def test_position_reset_forgets_the_resumed_run() -> None:
    position = Position()
    position.resume(epoch=0, samples=6)
    position.start(0)
    position.reset()
    assert position == Position()
