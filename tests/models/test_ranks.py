"""Batches of a validation on several ranks, and what they exchange; two real processes in tests/process."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from facesr_plugin.models.ranks import Ranks


class Numbers(Dataset):
    """Seven samples; ``opt`` is the section of the option file."""

    def __init__(self, **opt: int) -> None:
        self.opt = {"name": "numbers", **opt}

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> int:
        return index


def batches(rank: int, count: int, loader: DataLoader) -> dict[int, list[int]]:
    """Batches of a rank by their number over all ranks."""
    ranks = Ranks(rank, count)
    return {ranks.number(number): data.tolist() for number, data in enumerate(ranks.share(loader))}


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_ranks_together_have_the_batches_of_one(size: int, count: int) -> None:
    loader = DataLoader(Numbers(), size)
    together: dict[int, list[int]] = {}
    for rank in range(count):
        own = batches(rank, count, loader)
        assert not own.keys() & together.keys()
        together |= own
    assert together == batches(0, 1, loader)


@pytest.mark.parametrize("count", [1, 2])
def test_size_of_batches_is_that_of_the_data_set(count: int) -> None:
    loader = DataLoader(Numbers(batch_size_per_gpu=4), 1)
    assert batches(count - 1, count, loader)[count - 1] == [[0, 1, 2, 3], [4, 5, 6]][count - 1]


def test_one_rank_reads_the_loader_it_is_given() -> None:
    loader = DataLoader(Numbers(), 2)
    assert Ranks(0, 1).share(loader) is loader


def test_one_rank_exchanges_nothing() -> None:
    ranks = Ranks(0, 1)
    ranks.equalise(torch.nn.BatchNorm2d(2))
    assert ranks.gather("found") == ["found"]
