"""``sampler-position`` and ``worker-init``: the defects as released, then the repaired behaviour."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import basicsr.data
import basicsr.utils.options
import cv2
import numpy as np
import pytest
import torch
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import DataLoader, Dataset

from facesr_plugin.compat import loader
from facesr_plugin.utils.resume import POSITION, SampleIndex
from helpers.pristine import pristine


class Draws(Dataset):
    """Each sample is what the process's NumPy generator draws."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return int(np.random.randint(1 << 30))


class Places(Dataset):
    """Each sample is where the sampler says it is."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: SampleIndex) -> tuple[int, int, int]:
        return int(index), index.epoch, index.position


@pytest.fixture(autouse=True)
def position() -> Iterator[None]:
    POSITION.reset()
    yield
    POSITION.reset()


def test_released_sampler_knows_no_epoch() -> None:
    sampler = pristine("basicsr.data.data_sampler").EnlargedSampler(range(6), 1, 0)
    assert not any(hasattr(index, "epoch") for index in sampler)


def test_repaired_sampler_draws_the_same_indices() -> None:
    assert loader.SAMPLER_POSITION.name == "sampler-position"
    ours, theirs = (
        EnlargedSampler(range(6), 2, 1, 3),
        pristine("basicsr.data.data_sampler").EnlargedSampler(range(6), 2, 1, 3),
    )
    for epoch in (0, 5):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert list(ours) == list(theirs)


def test_repaired_sampler_numbers_samples_over_all_ranks() -> None:
    positions = []
    for rank in (0, 1):
        sampler = EnlargedSampler(range(6), 2, rank)
        sampler.set_epoch(4)
        drawn = list(sampler)
        assert {index.epoch for index in drawn} == {4}
        positions += [index.position for index in drawn]
    assert positions == [0, 2, 4, 1, 3, 5]


def test_repaired_sampler_continues_inside_the_resumed_epoch_only() -> None:
    sampler = EnlargedSampler(range(6), 1, 0)
    sampler.set_epoch(3)
    whole = list(sampler)
    POSITION.resume(3, 4)
    sampler.set_epoch(3)
    rest = list(sampler)
    assert rest == whole[4:]
    assert [index.position for index in rest] == [4, 5]
    assert POSITION.samples == 4
    sampler.set_epoch(4)
    assert len(list(sampler)) == 6
    assert POSITION.samples == 0


def test_repaired_sampler_divides_the_rest_of_an_epoch_among_more_ranks() -> None:
    whole = EnlargedSampler(range(12), 1, 0)
    whole.set_epoch(3)
    rest = list(whole)[4:]
    POSITION.resume(3, 4 // 2)
    divided = []
    for rank in (0, 1):
        sampler = EnlargedSampler(range(12), 2, rank)
        sampler.set_epoch(3)
        divided += list(sampler)
    assert sorted(divided) == sorted(rest)


@pytest.mark.parametrize("workers", [0, 1])
def test_repaired_sampler_reaches_the_data_set(workers: int) -> None:
    sampler = EnlargedSampler(Places(), 1, 0)
    sampler.set_epoch(2)
    (batch,) = DataLoader(Places(), batch_size=6, sampler=sampler, num_workers=workers)
    indices, epochs, positions = (values.tolist() for values in batch)
    assert indices == list(sampler)
    assert (epochs, positions) == ([2] * 6, list(range(6)))


def test_data_sets_learn_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option_file = tmp_path / "tiny.yml"
    option_file.write_text(
        "{name: n, num_gpu: 0, manual_seed: 7, datasets: {train: {}, val: {manual_seed: 1}}, path: {}}"
    )
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(option_file)])
    opt, _ = basicsr.utils.options.parse_options(str(tmp_path), is_train=False)
    assert [dataset["manual_seed"] for dataset in opt["datasets"].values()] == [7, 1]


def _epochs(worker_init: object) -> list[list[int]]:
    """Draws of two epochs of one loader with one worker."""
    settings = {"num_workers": 1, "rank": 0, "seed": 5}
    torch.manual_seed(0)
    made = DataLoader(Draws(), num_workers=1, worker_init_fn=_Bound(worker_init, settings))
    return [[int(value) for value in made] for _ in range(2)]


class _Bound:
    """``functools.partial`` by another name: BasicSR binds the same three settings."""

    def __init__(self, function: object, settings: dict) -> None:
        self.function, self.settings = function, settings

    def __call__(self, worker_id: int) -> None:
        self.function(worker_id, **self.settings)


def test_released_workers_repeat_themselves_in_every_epoch() -> None:
    first, second = _epochs(pristine("basicsr.data").worker_init_fn)
    assert first == second


def test_repaired_workers_draw_anew_in_every_epoch() -> None:
    assert loader.WORKER_INIT.name == "worker-init"
    first, second = _epochs(basicsr.data.worker_init_fn)
    assert first != second
    assert _epochs(basicsr.data.worker_init_fn) == [first, second]


@pytest.fixture
def generators() -> Iterator[None]:
    """Put threads and generators of this process back afterwards."""
    before = random.getstate(), np.random.get_state(), cv2.getNumThreads(), torch.get_num_threads()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
    cv2.setNumThreads(before[2])
    torch.set_num_threads(before[3])


def test_repaired_workers_differ_between_ranks_and_take_one_thread(generators: None) -> None:
    draws = set()
    for rank in (0, 1):
        basicsr.data.worker_init_fn(0, num_workers=2, rank=rank, seed=5)
        draws.add((random.random(), float(np.random.rand())))
    assert len(draws) == 2
    assert torch.get_num_threads() == 1
    assert cv2.getNumThreads() <= 1
