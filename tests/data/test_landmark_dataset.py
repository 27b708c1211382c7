"""Faces with landmarks: size, frame, mirror, and what does not fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.data.landmark_dataset import LandmarkDataset
from facesr_plugin.ops.landmark import flip_permutation
from facesr_plugin.utils.resume import SampleIndex
from helpers.faces import make_image, write_images, write_lmdb


def make_dataset(root: Path, **options: Any) -> LandmarkDataset:
    return LandmarkDataset({"type": "LandmarkDataset", "dataroot_gt": str(root), "gt_size": 16, **options})


def write_points(path: Path, names: list[str], num_points: int = 68) -> np.ndarray:
    points = np.random.default_rng(0).uniform(2, 30, (len(names), num_points, 2)).astype(np.float32)
    write_landmarks(path, Landmarks(tuple(names), points))
    return points


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """An LMDB of four faces of 32 x 32 with its ``landmarks.npz``."""
    root = tmp_path / "faces.lmdb"
    write_points(root / "landmarks.npz", write_lmdb(root, 4))
    return root


def test_dataset_resizes_face_and_points_together(faces: Path) -> None:
    sample = make_dataset(faces)[1]
    small = np.asarray(Image.fromarray(make_image(1)).resize((16, 16), Image.Resampling.BILINEAR))
    stored = np.load(faces / "landmarks.npz")["points"][1]
    assert torch.equal(sample["lq"], torch.from_numpy(small.transpose(2, 0, 1).astype(np.float32) / np.float32(255)))
    assert np.allclose(sample["landmarks"], stored / 2 - 0.25, atol=1e-5)
    assert sample["lq_path"] == "face_01"


def test_dataset_mirrors_half_of_the_training_samples_with_their_points(faces: Path) -> None:
    plain = make_dataset(faces)
    mirrored = make_dataset(faces, phase="train", use_hflip=True)
    flipped = 0
    for position in range(16):
        sample, own = mirrored[SampleIndex.make(position % 4, 0, position)], plain[position % 4]
        expected = own["landmarks"]
        if not torch.equal(sample["lq"], own["lq"]):
            flipped += 1
            assert torch.equal(sample["lq"], own["lq"].flip(2))
            expected = (own["landmarks"] * torch.tensor([-1, 1]) + torch.tensor([15, 0]))[flip_permutation(68)]
        assert torch.allclose(sample["landmarks"], expected, atol=1e-5)
    assert 0 < flipped < 16


def test_dataset_mirrors_by_epoch_and_position_alone(faces: Path) -> None:
    first, again = (make_dataset(faces, phase="train", use_hflip=True) for _ in range(2))
    indices = [SampleIndex.make(2, epoch, position) for epoch in range(3) for position in range(5)]
    alone = [first[index]["lq"] for index in indices]
    assert all(torch.equal(again[index]["lq"], lq) for index, lq in zip(indices[::-1], alone[::-1], strict=True))


def test_dataset_takes_another_landmark_file_and_a_list(tmp_path: Path) -> None:
    names = write_images(tmp_path / "faces", 3)
    points = write_points(tmp_path / "points.json", names)
    (tmp_path / "list.txt").write_text("face_02.png\n")
    chosen = {"landmarks": str(tmp_path / "points.json"), "meta_info_file": str(tmp_path / "list.txt")}
    dataset = make_dataset(tmp_path / "faces", gt_size=32, **chosen)
    assert len(dataset) == 1
    assert np.allclose(dataset[0]["landmarks"], points[2])


def test_dataset_for_a_teacher_needs_no_landmarks(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "faces.lmdb", 1)
    assert set(make_dataset(tmp_path / "faces.lmdb", phase="train", landmarks=False)[0]) == {"lq", "lq_path"}
    with pytest.raises(ValueError, match="landmarks must not be false in phase val"):
        make_dataset(tmp_path / "faces.lmdb", landmarks=False)


def test_dataset_names_the_missing_landmark_file(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "faces.lmdb", 1)
    with pytest.raises(FileNotFoundError, match=r"faces\.lmdb has no landmarks\.npz\. Prepare the faces with --landm"):
        make_dataset(tmp_path / "faces.lmdb")
    with pytest.raises(FileNotFoundError, match=r"landmark file .*other\.npz does not exist"):
        make_dataset(tmp_path / "faces.lmdb", landmarks=str(tmp_path / "other.npz"))


def test_dataset_refuses_points_of_another_frame(faces: Path) -> None:
    points = np.load(faces / "landmarks.npz")["points"] * 4
    write_landmarks(faces / "landmarks.npz", Landmarks(tuple(f"face_{i:02d}" for i in range(4)), points))
    with pytest.raises(ValueError, match="landmarks of face_00 must lie in its image of 32 x 32 pixels, got most of"):
        make_dataset(faces)


def test_dataset_refuses_unknown_points(faces: Path) -> None:
    points = np.load(faces / "landmarks.npz")["points"]
    points[3, 5] = np.nan
    visible = np.isfinite(points).all(2)
    write_landmarks(faces / "landmarks.npz", Landmarks(tuple(f"face_{i:02d}" for i in range(4)), points, visible))
    with pytest.raises(ValueError, match="must know every point of a face, it does not for 1 of 4 images: face_03"):
        make_dataset(faces)


def test_dataset_refuses_a_number_of_points_that_cannot_be_mirrored(faces: Path) -> None:
    write_points(faces / "landmarks.npz", [f"face_{i:02d}" for i in range(4)], num_points=7)
    with pytest.raises(ValueError, match=r"must have .* points to be mirrored, got 7\. Set use_hflip: false"):
        make_dataset(faces, phase="train", use_hflip=True)


def test_dataset_refuses_oblong_images(tmp_path: Path) -> None:
    write_points(tmp_path / "faces" / "landmarks.npz", write_images(tmp_path / "faces", 1, 32, 40))
    with pytest.raises(ValueError, match="image 'face_00' of .*faces must be square, got 40 x 32"):
        make_dataset(tmp_path / "faces")[0]
