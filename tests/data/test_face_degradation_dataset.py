import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from facesr_plugin.data.degradation import degrade, draw_operations, parse_degradations
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset
from facesr_plugin.ops.degradation import to_grey
from facesr_plugin.registry import DATASET_REGISTRY
from facesr_plugin.utils.resume import SampleIndex
from helpers.faces import make_image, write_images, write_lmdb

DEGRADATIONS = [
    {"type": "blur", "prob": 0.5},
    {"type": "downsample", "low_size": [8, 16]},
    {"type": "noise", "prob": 0.2},
    {"type": "jpeg", "prob": 0.7},
]


def make_dataset(root, **options) -> FaceDegradationDataset:
    base = {"type": "FaceDegradationDataset", "dataroot_gt": str(root), "gt_size": 32, "degradations": DEGRADATIONS}
    return FaceDegradationDataset({**base, **options})


def to_bytes(tensor) -> np.ndarray:
    return (tensor * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def test_dataset_is_registered():
    assert DATASET_REGISTRY.get("FaceDegradationDataset") is FaceDegradationDataset


@pytest.mark.parametrize("kind", ["lmdb", "disk"])
def test_dataset_delivers_both_at_the_size_of_gt(tmp_path, kind):
    root = tmp_path / ("x.lmdb" if kind == "lmdb" else "x")
    (write_lmdb if kind == "lmdb" else write_images)(root, 2, 64)
    dataset = make_dataset(root, grey_prob=0, io_backend={"type": kind})
    sample = dataset[1]
    resized = np.asarray(Image.fromarray(make_image(1, 64)).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(to_bytes(sample["gt"]), resized)
    assert sample["lq"].shape == (3, 32, 32)
    assert sample["lq"].dtype == torch.float32
    assert not torch.equal(sample["lq"], sample["gt"])
    assert sample["gt_path"] == sample["lq_path"] == ("face_01" if kind == "lmdb" else str(root / "face_01.png"))
    assert dataset.opt["gt_size"] == 32  # BasicSR reads the section from it


def test_dataset_draws_grey_first_then_the_list(tmp_path):
    write_images(tmp_path, 1)
    dataset = make_dataset(tmp_path, phase="train", grey_prob=0.5, manual_seed=7)
    for position in range(6):
        sample = dataset[SampleIndex.make(0, 2, position)]
        rng = np.random.default_rng((7, 2, position))
        gt = to_grey(make_image(0)) if rng.random() < 0.5 else make_image(0)
        assert np.array_equal(to_bytes(sample["gt"]), gt)
        operations = draw_operations(parse_degradations(DEGRADATIONS, "d"), rng)
        assert np.array_equal(to_bytes(sample["lq"]), degrade(gt, operations))


def test_dataset_makes_gt_and_lq_grey_together(tmp_path):
    write_images(tmp_path, 1)
    entries = [{"type": "downsample", "low_size": [8, 16]}]
    dataset = make_dataset(tmp_path, phase="train", grey_prob=0.5, degradations=entries)
    samples = [dataset[SampleIndex.make(0, 0, position)] for position in range(40)]
    grey = [torch.equal(s["gt"][0], s["gt"][2]) for s in samples]
    assert 8 <= sum(grey) <= 32
    assert grey == [torch.equal(s["lq"][0], s["lq"][2]) for s in samples]


def test_dataset_draws_anew_in_every_epoch_and_place(tmp_path):
    write_images(tmp_path, 1)
    dataset = make_dataset(tmp_path, phase="train")
    places = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    lqs = [dataset[SampleIndex.make(0, epoch, position)]["lq"] for epoch, position in places]
    assert len({lq.numpy().tobytes() for lq in lqs}) == len(places)
    assert torch.equal(dataset[SampleIndex.make(0, 1, 1)]["lq"], lqs[3])


def test_dataset_is_the_same_in_workers(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 6)
    dataset = make_dataset(tmp_path / "x.lmdb", phase="train")
    dataset[0]  # the parent has the LMDB open when the workers start
    alone = [batch["lq"] for batch in DataLoader(dataset, batch_size=2)]
    for batch, expected in zip(DataLoader(dataset, batch_size=2, num_workers=2), alone, strict=True):
        assert torch.equal(batch["lq"], expected)


def test_validation_degrades_an_image_the_same_way_every_time(tmp_path):
    write_images(tmp_path, 3)
    dataset = make_dataset(tmp_path, manual_seed=1)
    (tmp_path / "face_00.png").unlink()
    fewer = make_dataset(tmp_path, manual_seed=2)
    for sample in (dataset[SampleIndex.make(1, 4, 9)], fewer[0]):
        assert torch.equal(sample["lq"], dataset[1]["lq"])
    assert not torch.equal(make_dataset(tmp_path, validation_seed=1)[0]["lq"], fewer[0]["lq"])


def test_dataset_pickles(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 2)
    dataset = make_dataset(tmp_path / "x.lmdb", phase="train")
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1]["lq"], dataset[1]["lq"])


def test_dataset_takes_the_cards_size(tmp_path):
    write_images(tmp_path, 1)
    assert make_dataset(tmp_path, gt_size=None, phase="train").gt_size == 512


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"scale": 8}, ValueError, "scale must be 1: lq is as large as gt, got 8"),
        ({"grey_prob": 1.5}, ValueError, "grey_prob must be from 0 to 1, got 1.5"),
        ({"degradations": "blur"}, TypeError, r"datasets\.val\.degradations must be a list, got 'blur'"),
        (
            {"degradations": [{"type": "snow"}]},
            ValueError,
            r"datasets\.val\.degradations\[0\]\.type must be registered",
        ),
        ({"use_hflip": True}, ValueError, "unknown key 'use_hflip'"),
    ],
)
def test_dataset_rejects_wrong_options(tmp_path, options, error, text):
    write_images(tmp_path, 1)
    with pytest.raises(error, match=text):
        make_dataset(tmp_path, **options)


def test_dataset_asks_for_the_list(tmp_path):
    with pytest.raises(ValueError, match=r"datasets\.val: key 'degradations' is missing"):
        FaceDegradationDataset({"type": "FaceDegradationDataset", "dataroot_gt": str(tmp_path)})


def test_dataset_rejects_small_faces_at_once(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 1, 24)
    with pytest.raises(
        ValueError, match=r"'face_00' of .* must be square, of 32 pixels or more, got 24x24\. Make such"
    ):
        make_dataset(tmp_path / "x.lmdb")


def test_dataset_rejects_oblong_files_when_it_reads_them(tmp_path):
    write_images(tmp_path, 1, 32, 40)
    with pytest.raises(ValueError, match="must be square, of 32 pixels or more, got 40x32"):
        make_dataset(tmp_path)[0]
