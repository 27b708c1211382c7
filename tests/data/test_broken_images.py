"""Images that are missing or damaged: what every data set says, and what it takes in their place."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.data.base import FaceDataset
from facesr_plugin.data.sources import BrokenImageError
from facesr_plugin.registry import DATASET_REGISTRY
from facesr_plugin.utils.lmdb_env import close_shared
from facesr_plugin.utils.resume import SampleIndex
from helpers.faces import write_images, write_lmdb

COUNT = 5
OPTIONS: dict[str, dict[str, Any]] = {
    "FaceSRDataset": {},
    "FaceDegradationDataset": {"degradations": [{"type": "noise"}]},
    "LandmarkDataset": {},
    "FaceCropDataset": {"jitter": 2},
}
STORES = ["faces.lmdb", "faces"]


def make_faces(root: Path) -> Path:
    """Five faces of 32 x 32 with five points each, in an LMDB or a folder."""
    names = (write_lmdb if root.suffix else write_images)(root, COUNT)
    points = np.random.default_rng(1).uniform(6, 26, (COUNT, 68, 2)).astype(np.float32)
    write_landmarks(root / "landmarks.npz", Landmarks(tuple(names), points))
    return root


def make_dataset(root: Path, kind: str = "FaceSRDataset", **options: Any) -> FaceDataset:
    """A data set called ``people`` in the phase train."""
    base = {"type": kind, "dataroot_gt": str(root), "gt_size": 32, "name": "people", "phase": "train"}
    return DATASET_REGISTRY.get(kind)({**base, **OPTIONS[kind], **options})


def change(root: Path, number: int, edit: Callable[[bytes], bytes | None]) -> None:
    """Replace the content of a face; None removes it."""
    key = f"face_{number:02d}"
    if not root.suffix:
        file = root / f"{key}.png"
        content = edit(file.read_bytes())
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        return
    close_shared(root)
    with lmdb.open(str(root)) as environment, environment.begin(write=True) as transaction:
        content = edit(transaction.get(key.encode()))
        transaction.delete(key.encode())
        if content is not None:
            transaction.put(key.encode(), content)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


DAMAGES = {
    "missing": (lambda _: None, "is missing, though meta_info.txt lists it|cannot be read: No such file"),
    "cut off": (cut, "is damaged: "),
    "garbage": (lambda data: bytes(len(data)), "must be an image"),
    "empty": (lambda _: b"", "must be an image.*, got an empty file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", OPTIONS)
def test_a_broken_image_is_named_with_its_data_set(tmp_path: Path, kind: str, store: str, damage: str) -> None:
    edit, reason = DAMAGES[damage]
    dataset = make_dataset(make_faces(tmp_path / store), kind)
    change(tmp_path / store, 3, edit)
    assert "skipped" not in dataset[2]
    with pytest.raises(BrokenImageError, match=rf"data set 'people' \(phase train\): .*{store}.*face_03.*({reason})"):
        dataset[3]


def test_a_broken_given_input_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "small", COUNT, 4)
    dataset = make_dataset(make_faces(tmp_path / "faces"), dataroot_lq=str(tmp_path / "small"))
    (tmp_path / "small/face_01.png").write_bytes(b"")
    with pytest.raises(BrokenImageError, match=r"small/face_01\.png must be an image"):
        dataset[1]


def test_the_message_comes_through_a_worker_process(tmp_path: Path) -> None:
    dataset = make_dataset(make_faces(tmp_path / "faces"))
    change(tmp_path / "faces", 0, cut)
    with pytest.raises(
        BrokenImageError, match=r"(?s)in DataLoader worker.*'people'.*face_00\.png is damaged: .*on_broken"
    ):
        next(iter(DataLoader(dataset, num_workers=1)))
    copy = pickle.loads(pickle.dumps(BrokenImageError("face_00 is damaged")))
    assert (type(copy), str(copy)) == (BrokenImageError, "face_00 is damaged")


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", OPTIONS)
def test_skip_takes_the_next_readable_image_with_the_same_draws(tmp_path: Path, kind: str, store: str) -> None:
    root = make_faces(tmp_path / store)
    dataset = make_dataset(root, kind, on_broken="skip")
    expected = make_dataset(root, kind)[SampleIndex.make(0, 3, 8)]  # 4 is followed by 0
    change(root, 3, cut)
    change(root, 4, lambda _: None)
    found = dataset[SampleIndex.make(3, 3, 8)]
    assert found.pop("skipped") == 2
    assert [name in line for name, line in zip(["face_03", "face_04"], found.pop("broken").split("\n"), strict=True)]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected if isinstance(expected[key], torch.Tensor))
    assert found["lq_path"] == expected["lq_path"]


def test_skip_gives_every_sample_the_same_entries(tmp_path: Path) -> None:
    root = make_faces(tmp_path / "faces")
    change(root, 1, cut)
    batch = next(iter(DataLoader(make_dataset(root, on_broken="skip"), batch_size=COUNT)))
    assert batch["skipped"].tolist() == [0, 1, 0, 0, 0]
    assert [bool(text) for text in batch["broken"]] == [False, True, False, False, False]


def test_skip_ends_when_nothing_can_be_read(tmp_path: Path) -> None:
    dataset = make_dataset(make_faces(tmp_path / "faces"), on_broken="skip")
    for number in range(COUNT):
        change(tmp_path / "faces", number, cut)
    with pytest.raises(
        BrokenImageError, match=r"'people' .* must have an image that can be read, got none of 5: .*face"
    ):
        dataset[2]


@pytest.mark.parametrize("phase", ["val", "test"])
def test_skip_is_refused_where_images_are_measured(tmp_path: Path, phase: str) -> None:
    write_images(tmp_path, 1)
    with pytest.raises(ValueError, match=rf"on_broken must be raise in the phase {phase}, got skip: metrics"):
        make_dataset(tmp_path, phase=phase, on_broken="skip")


def test_a_folder_that_is_gone_is_no_broken_image(tmp_path: Path) -> None:
    dataset = make_dataset(make_faces(tmp_path / "faces"), on_broken="skip")
    shutil.rmtree(tmp_path / "faces")
    with pytest.raises(FileNotFoundError, match=r"folder .*faces is gone\. Put it back"):
        dataset[0]


def test_a_process_out_of_files_finds_no_image_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(make_faces(tmp_path / "faces"), on_broken="skip")

    def fail(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Too many open files"):
        dataset[0]


def test_an_lmdb_that_was_cut_off_while_in_use_is_told_before_it_kills_the_process(tmp_path: Path) -> None:
    dataset = make_dataset(make_faces(tmp_path / "x.lmdb"), on_broken="skip")
    dataset[0]
    os.truncate(tmp_path / "x.lmdb/data.mdb", 4096)
    with pytest.raises(ValueError, match=r"data\.mdb is cut off: .*Copy the LMDB again"):
        dataset[0]


def test_an_lmdb_that_was_removed_while_in_use_is_told(tmp_path: Path) -> None:
    dataset = make_dataset(make_faces(tmp_path / "x.lmdb"), on_broken="skip")
    dataset[0]
    shutil.rmtree(tmp_path / "x.lmdb")
    for _ in ("open", "opened anew"):
        with pytest.raises(FileNotFoundError, match=r"data\.mdb is gone\. Copy the LMDB again"):
            dataset[0]
        close_shared(tmp_path / "x.lmdb")


def test_a_negative_waiting_time_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    with pytest.raises(ValueError, match=r"worker_timeout must be 0 \(wait for ever\) or more seconds, got -1"):
        make_dataset(tmp_path, worker_timeout=-1)
