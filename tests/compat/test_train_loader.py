"""``sample-draws``, ``whole-run`` and ``worker-timeout``: the defects as released, then the repaired behaviour."""

from __future__ import annotations

import itertools
import math
import pickle
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import basicsr.data
import basicsr.utils.options
import numpy as np
import pytest
import torch
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import Dataset

from facesr_plugin.compat import train_loader
from facesr_plugin.utils.resume import POSITION
from facesr_plugin.utils.seeded_samples import SeededSamples
from helpers.faces import write_images
from helpers.pristine import pristine


class Draws(Dataset):
    """Each sample is an index and what Python's, NumPy's and torch's generators draw."""

    opt = {"name": "draws"}  # noqa: RUF012

    def __init__(self, count: int = 7) -> None:
        self.paths = [f"face_{number}.png" for number in range(count)]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[float, ...]:
        return int(index), random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.fixture(autouse=True)
def position() -> Iterator[None]:
    POSITION.reset()
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    POSITION.reset()
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])


def begin(monkeypatch: pytest.MonkeyPatch, model: str = "SPARNetModel", total: int = 10, **section: Any) -> dict:
    """Begin a training of ``total`` iterations; return the section of its data set."""
    monkeypatch.setattr(train_loader, "_options", {"model_type": model, "train": {"total_iter": total}})
    return {"name": "faces", "phase": "train", "manual_seed": 7, "batch_size_per_gpu": 2, **section}


def make_loader(dataset: Dataset, section: dict, ranks: int = 1, rank: int = 0) -> Any:
    """Build a loader as BasicSR's training does."""
    section = {"num_worker_per_gpu": 0, **section}
    sampler = EnlargedSampler(dataset, ranks, rank, section.get("dataset_enlarge_ratio", 1))
    return basicsr.data.build_dataloader(dataset, section, num_gpu=0, dist=ranks > 1, sampler=sampler, seed=7)


def draw(loader: Any, epoch: int, count: int | None = None) -> list[Any]:
    """The first batches of an epoch."""
    loader.sampler.set_epoch(epoch)
    return [[values.tolist() for values in batch] for batch in itertools.islice(loader, count)]


def test_released_draws_depend_on_the_number_of_workers() -> None:
    build = pristine("basicsr.data").build_dataloader
    section = {"phase": "train", "batch_size_per_gpu": 2}
    one, two = (build(Draws(), {**section, "num_worker_per_gpu": number}, num_gpu=0, seed=7) for number in (1, 2))
    torch.manual_seed(0)
    first = [batch[1].tolist() for batch in one]
    torch.manual_seed(0)
    assert first != [batch[1].tolist() for batch in two]


@pytest.mark.parametrize("changes", [{"num_worker_per_gpu": 1}, {"num_worker_per_gpu": 2, "prefetch_mode": "cpu"},
                                     {"num_worker_per_gpu": 1, "persistent_workers": True},
                                     {"prefetch_mode": "cpu"}])  # fmt: skip
def test_repaired_draws_do_not_depend_on_the_workers(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    assert train_loader.SAMPLE_DRAWS.name == "sample-draws"
    section = begin(monkeypatch)
    plain, other = make_loader(Draws(), section), make_loader(Draws(), {**section, **changes})
    for epoch in (0, 1):
        assert draw(other, epoch) == draw(plain, epoch)
    assert draw(plain, 0) != draw(plain, 1)


def test_repaired_draws_go_on_inside_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make_loader(Draws(), begin(monkeypatch))
    whole = draw(loader, 1)
    random.random(), np.random.rand(), torch.rand(3)  # a validation, say
    POSITION.resume(1, 4)
    assert draw(loader, 1) == whole[2:]


def test_repaired_draws_differ_between_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    section = begin(monkeypatch)
    batches = [batch for rank in (0, 1) for batch in draw(make_loader(Draws(8), section, 2, rank), 0)]
    assert sorted(index for batch in batches for index in batch[0]) == list(range(8))
    for column in (1, 2, 3):
        assert len({value for batch in batches for value in batch[column]}) == 8


def test_the_options_of_a_run_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.yml").write_text(
        "{name: n, model_type: SRModel, num_gpu: 0, datasets: {train: {}}, path: {}, train: {total_iter: 6}}"
    )
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(tmp_path / "run.yml")])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    basicsr.utils.options.parse_options(str(tmp_path), is_train=True)
    assert (train_loader._options["model_type"], train_loader._options["train"]) == ("SRModel", {"total_iter": 6})


def test_other_models_keep_their_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make_loader(Draws(), begin(monkeypatch, model="SRModel"))
    assert type(loader.dataset) is Draws


def test_pairs_of_basicsr_are_cut_and_mirrored_alike_on_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "gt", 6, 64)
    write_images(tmp_path / "lq", 6, 16)
    section = begin(monkeypatch, type="PairedImageDataset", dataroot_gt=str(tmp_path / "gt"),
                    dataroot_lq=str(tmp_path / "lq"), gt_size=32, use_hflip=True, use_rot=True,
                    io_backend={"type": "disk"})  # fmt: skip
    section["scale"] = 4

    def batches(workers: int, count: int | None = None) -> list[torch.Tensor]:
        loader = make_loader(basicsr.data.build_dataset(section), {**section, "num_worker_per_gpu": workers})
        loader.sampler.set_epoch(0)
        return [batch["gt"] for batch in itertools.islice(loader, count)]

    whole = batches(0)
    assert [batch.shape for batch in whole] == [(2, 3, 32, 32)] * 3
    POSITION.resume(0, 2)
    rest = batches(2)
    assert all(torch.equal(one, other) for one, other in zip(rest, whole[1:], strict=True))


def test_a_seeded_sample_that_fails_is_named() -> None:
    dataset = Draws(2)
    dataset.__class__ = type("Broken", (Draws,), {"__getitem__": lambda self, index: None + 1})
    wanted = r"sample 1 \(face_1\.png\) of data set 'draws' \(Broken\) cannot be loaded: TypeError: unsupported"
    with pytest.raises(RuntimeError, match=wanted):
        SeededSamples(dataset, 7)[1]
    assert len(pickle.loads(pickle.dumps(SeededSamples(Draws(3), 7)))) == 3


def run_loop(loader: Any, images: int, batch: int, total: int) -> list[tuple[int, int]]:
    """Go through BasicSR's loop; return epoch and first index of the batch of every iteration."""
    last = math.ceil(total / math.ceil(images / batch))
    seen = []
    for epoch in range(last + 1):
        loader.sampler.set_epoch(epoch)
        for indices, *_ in loader:
            if len(seen) == total:
                break
            seen.append((epoch, int(indices[0])))
    return seen


def released_loader(dataset: Dataset) -> Any:
    section = {"phase": "train", "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    sampler = EnlargedSampler(dataset, 1, 0)
    return pristine("basicsr.data").build_dataloader(dataset, section, num_gpu=0, sampler=sampler)


def test_released_runs_end_before_their_last_iteration() -> None:
    assert len(run_loop(released_loader(Draws()), 7, 2, 60)) == 48  # (60 / 4 + 1) epochs of 3


def test_repaired_runs_have_all_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_loader.WHOLE_RUN.name == "whole-run"
    released = run_loop(released_loader(Draws()), 7, 2, 60)
    section = begin(monkeypatch, total=60)
    whole = run_loop(make_loader(Draws(), section), 7, 2, 60)
    assert len(whole) == 60
    assert whole[:48] == released[:48]


def test_the_last_epoch_goes_on_where_a_resumed_run_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make_loader(Draws(), begin(monkeypatch, total=60))
    whole = draw(loader, 15, 12)
    assert len({index for batch in whole[3:7] for index in batch[0]}) > 3
    POSITION.resume(15, 10)
    assert draw(loader, 15, 7) == whole[5:]
    POSITION.reset()
    assert len(draw(loader, 14)) == 3


def test_too_few_images_for_a_batch_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    section = begin(monkeypatch, batch_size_per_gpu=8)
    text = (
        "got 7 (times dataset_enlarge_ratio 1) for 2 x 8. Set dataset_enlarge_ratio: 3, or a smaller batch_size_per_gpu"
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        make_loader(Draws(), section, ranks=2)
    make_loader(Draws(), {**section, "dataset_enlarge_ratio": 3}, ranks=2)


class Slow(Draws):
    """A data set whose second sample does not come."""

    def __getitem__(self, index: int) -> tuple[float, ...]:
        if int(index) != 0:
            time.sleep(60)
        return super().__getitem__(index)


def test_a_worker_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_loader.WORKER_TIMEOUT.name == "worker-timeout"
    section = begin(monkeypatch, num_worker_per_gpu=1, worker_timeout=0.5)
    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0\.5 seconds"):
        draw(make_loader(Slow(), section), 0)
    assert make_loader(Slow(), {**section, "num_worker_per_gpu": 0}).timeout == 0


def test_released_loaders_wait_for_ever() -> None:
    section = {"phase": "train", "batch_size_per_gpu": 2, "num_worker_per_gpu": 1, "worker_timeout": 0.5}
    assert pristine("basicsr.data").build_dataloader(Draws(), section, num_gpu=0).timeout == 0
