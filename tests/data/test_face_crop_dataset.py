"""Faces cut out of photos: what a sample holds, what its random draws depend on, and what does not fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from facesr_plugin.cards import get_card
from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.data.face_crop import Framed, cut_box
from facesr_plugin.data.face_crop_dataset import FaceCropDataset
from facesr_plugin.data.transforms import make_lq
from facesr_plugin.ops.landmark import flip_permutation
from facesr_plugin.utils.resume import SampleIndex
from helpers.faces import make_image, write_images, write_lmdb

NAMES = ("face_00.png", "face_01.png", "face_01.png")


def make_points(count: int = 3, num_points: int = 5) -> np.ndarray:
    return np.random.default_rng(1).uniform(8, 56, (count, num_points, 2)).astype(np.float32)


def make_dataset(root: Path, **options: Any) -> FaceCropDataset:
    return FaceCropDataset({"type": "FaceCropDataset", "dataroot_gt": str(root), "gt_size": 32, "jitter": 5, **options})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos of 80 x 64 with one and two faces of 5 points, the last of which has two hidden ones."""
    root = tmp_path / "photos"
    write_images(root, 2, 64, 80)
    visible = np.ones((3, 5), bool)
    visible[2, [0, 3]] = False
    write_landmarks(root / "landmarks.npz", Landmarks(NAMES, make_points(), visible, face=np.array([0, 0, 1])))
    return root


def test_a_sample_is_the_box_about_the_visible_points(photos: Path) -> None:
    sample = make_dataset(photos)[2]
    points = make_points()[2]
    points[[0, 3]] = np.nan
    box = np.concatenate([np.nanmin(points, 0), np.nanmax(points, 0)])
    image, moved = cut_box(Framed(make_image(1, 64, 80), points), box, 0.2, 32)
    assert torch.equal(sample["gt"].mul(255).round().byte().permute(1, 2, 0), torch.from_numpy(image))
    small = make_lq(image, 8, get_card("jasrnet").reduction)
    assert torch.equal(sample["lq"].mul(255).round().byte().permute(1, 2, 0), torch.from_numpy(small))
    assert np.array_equal(sample["landmarks"].numpy(), moved, equal_nan=True)
    assert sample["landmarks"].isnan().any(-1).tolist() == [True, False, False, True, False]


def test_samples_are_faces_and_not_photos(photos: Path) -> None:
    dataset = make_dataset(photos)
    assert len(dataset) == 3
    assert [dataset[i]["lq_path"] for i in range(3)] == ["face_00_00", "face_01_00", "face_01_01"]
    chosen = photos / "list.txt"
    chosen.write_text("face_01.png\n")
    assert [face.name for face in make_dataset(photos, meta_info_file=str(chosen)).faces] == [
        "face_01_00",
        "face_01_01",
    ]


def test_scale_and_sizes_are_options_and_batches_collate(photos: Path) -> None:
    dataset = make_dataset(photos, phase="train", scale=4, gt_size=64)
    batch = default_collate([dataset[i] for i in range(3)])
    assert batch["lq"].shape == (3, 3, 16, 16)
    assert batch["gt"].shape == (3, 3, 64, 64)
    assert batch["landmarks"].shape == (3, 5, 2)
    assert batch["landmarks"].dtype == torch.float32


def test_training_samples_depend_on_seed_epoch_and_position_alone(photos: Path) -> None:
    first, second = (make_dataset(photos, phase="train", manual_seed=3) for _ in range(2))
    index = SampleIndex.make(0, 2, 7)
    assert all(torch.equal(first[index][key], second[index][key]) for key in ("gt", "lq"))
    others = [SampleIndex.make(0, 2, 8), SampleIndex.make(0, 1, 7)]
    assert not any(torch.equal(first[index]["gt"], first[other]["gt"]) for other in others)
    seeded = make_dataset(photos, phase="train", manual_seed=4)
    assert not torch.equal(first[index]["gt"], seeded[index]["gt"])


@pytest.mark.parametrize("num_points", [5, 19, 68, 194])
def test_mirrored_samples_have_mirrored_points_with_their_new_indices(tmp_path: Path, num_points: int) -> None:
    root = tmp_path / "photos"
    names = write_images(root, 1, 64, 80)
    write_landmarks(root / "landmarks.npz", Landmarks(tuple(names), make_points(1, num_points)))
    plain, mirrored = (make_dataset(root, phase="train", use_hflip=flag) for flag in (False, True))
    flipped = 0
    for position in range(12):
        own, other = (data[SampleIndex.make(0, 0, position)] for data in (plain, mirrored))
        if torch.equal(own["gt"], other["gt"]):
            continue
        flipped += 1
        assert torch.equal(other["gt"], own["gt"].flip(2))
        x, y = own["landmarks"][flip_permutation(num_points)].unbind(-1)
        known = other["landmarks"].isfinite().all(-1) & x.isfinite()
        assert known.sum() > 1
        assert torch.allclose(other["landmarks"][known], torch.stack([31 - x, y], -1)[known], atol=1e-4)
    assert 0 < flipped < 12


def test_released_flip_is_an_option(photos: Path) -> None:
    correct, released = (make_dataset(photos, phase="train", flip_points=name) for name in ("correct", "released"))
    shifts = set()
    for position in range(12):
        own, other = (data[SampleIndex.make(0, 0, position)] for data in (correct, released))
        assert torch.equal(own["gt"], other["gt"])
        moved = other["landmarks"] - own["landmarks"]
        shifts |= {tuple(row) for row in moved[moved.isfinite().all(-1)].round().tolist()}
    assert shifts == {(0, 0), (1, 0)}


def test_points_that_leave_a_training_crop_are_unknown(photos: Path) -> None:
    dataset = make_dataset(photos, phase="train", jitter=30)
    points = torch.stack([dataset[SampleIndex.make(0, 0, position)]["landmarks"] for position in range(20)])
    known = points[points.isfinite().all(-1)]
    assert 0 < len(known) < 100
    assert ((known >= -1) & (known <= 32)).all()


def test_boxes_of_the_file_decide_the_crop_and_can_be_delivered(photos: Path) -> None:
    boxes = np.array([[10, 8, 60, 48], [20, 20, 50, 50], [5, 5, 30, 55]], np.float32)
    write_landmarks(photos / "boxes.json", Landmarks(NAMES, make_points(), boxes=boxes, face=np.array([0, 0, 1])))
    dataset = make_dataset(photos, landmarks=str(photos / "boxes.json"), deliver_box=True)
    sample = dataset[0]
    window = np.array([0, 0, 70, 56])  # 0.2 of 50 and of 40 on each side
    image, _ = cut_box(Framed(make_image(0, 64, 80), make_points()[0]), boxes[0], 0.2, 32)
    assert torch.equal(sample["gt"].mul(255).round().byte().permute(1, 2, 0), torch.from_numpy(image))
    expected = (boxes[0] + 0.5) * np.tile([32 / window[2], 32 / window[3]], 2) - 0.5
    assert np.allclose(sample["box"], expected, atol=1e-4)
    assert "box" not in make_dataset(photos, landmarks=str(photos / "boxes.json"))[0]


def test_loose_crops_come_from_an_lmdb(tmp_path: Path) -> None:
    root = tmp_path / "faces.lmdb"
    keys = write_lmdb(root, 2, 64)
    write_landmarks(root / "landmarks.npz", Landmarks(tuple(keys), make_points(2)))
    sample = make_dataset(root)[1]
    assert sample["gt"].shape == (3, 32, 32)
    assert sample["lq_path"] == "face_01"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"landmarks": False}, "landmarks must name a file, or be true for the one with the photos, got false"),
        ({"scale_range": [1.1, 0.9]}, r"scale_range must be \[low, high\] with 0 < low <= high, got \[1.1, 0.9\]"),
        ({"jitter": -1}, "jitter must not be negative, got -1"),
        ({"deliver_box": True, "phase": "train"}, "deliver_box must be false in the phase train"),
        ({"deliver_box": True}, "must have boxes for deliver_box, got none"),
        ({"flip_points": "released", "use_hflip": False}, "flip_points must be correct without use_hflip"),
        ({"scale": 5}, "gt_size must be a multiple of scale 5, got 32"),
        ({"flip": True}, "unknown key 'flip'"),
    ],
)
def test_options_tell_what_is_wrong(photos: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make_dataset(photos, **options)


def test_every_image_has_landmarks_inside_it(tmp_path: Path) -> None:
    root = tmp_path / "faces.lmdb"
    keys = write_lmdb(root, 2, 64)
    with pytest.raises(FileNotFoundError, match=r"has no landmarks.npz. Make one with facesr prepare landmarks"):
        make_dataset(root)
    write_landmarks(root / "landmarks.npz", Landmarks((keys[0],), make_points(1)))
    with pytest.raises(ValueError, match="lacks 1 of 2 images: face_01"):
        make_dataset(root)
    write_landmarks(root / "landmarks.npz", Landmarks(tuple(keys), make_points(2) + 100))
    with pytest.raises(ValueError, match="face 'face_00': box .* beside its image of 64 x 64 pixels. Remove it."):
        make_dataset(root)
    hidden = Landmarks(tuple(keys), make_points(2), np.zeros((2, 5), bool))
    write_landmarks(root / "landmarks.npz", hidden)
    with pytest.raises(ValueError, match="face 'face_00': it must have a visible point. Remove it."):
        make_dataset(root)


def test_training_needs_a_table_for_the_mirrored_points(photos: Path) -> None:
    write_landmarks(photos / "landmarks.npz", Landmarks(NAMES[:2], make_points(2, 7)))
    with pytest.raises(ValueError, match="must have 5, 19, 68, 98, 194 points to be mirrored, got 7"):
        make_dataset(photos, phase="train")
    assert make_dataset(photos, phase="train", use_hflip=False)[0]["landmarks"].shape == (7, 2)


def test_a_face_beside_its_photo_is_named(photos: Path) -> None:
    Image.new("RGB", (8, 8)).save(photos / "face_00.png")
    with pytest.raises(ValueError, match="face 'face_00_00' of .*: box .* beside its image of 8 x 8 pixels"):
        make_dataset(photos)[0]
