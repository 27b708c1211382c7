import itertools
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.data.face_sr_dataset import FaceSRDataset
from facesr_plugin.data.prepare import FaceRecipe, prepare_faces
from facesr_plugin.data.transforms import cut_patch, cut_patch_landmarks, distortion_patch, resize, turn_landmarks
from facesr_plugin.ops.landmark import flip_permutation
from facesr_plugin.registry import DATASET_REGISTRY
from facesr_plugin.utils.resume import SampleIndex
from helpers.faces import make_image, write_images, write_lmdb


def make_dataset(root, **options) -> FaceSRDataset:
    options = {"type": "FaceSRDataset", "dataroot_gt": str(root), "gt_size": 32, **options}
    return FaceSRDataset(options)


def write_points(path, names, num_points: int = 68) -> np.ndarray:
    points = np.random.default_rng(0).uniform(2, 30, (len(names), num_points, 2)).astype(np.float32)
    write_landmarks(path, Landmarks(tuple(names), points))
    return points


def test_dataset_is_registered():
    assert DATASET_REGISTRY.get("FaceSRDataset") is FaceSRDataset


@pytest.mark.parametrize("kind", ["lmdb", "disk"])
def test_dataset_delivers_the_published_input(tmp_path, kind):
    root = tmp_path / ("x.lmdb" if kind == "lmdb" else "x")
    (write_lmdb if kind == "lmdb" else write_images)(root, 2, 128)
    dataset = make_dataset(root, gt_size=None, io_backend={"type": kind})
    sample = dataset[1]
    gt = make_image(1, 128)
    lq = np.asarray(Image.fromarray(gt).resize((16, 16), Image.Resampling.BICUBIC))
    assert torch.equal(sample["gt"], torch.from_numpy(gt.transpose(2, 0, 1).astype(np.float32) / np.float32(255)))
    assert torch.equal(sample["lq"], torch.from_numpy(lq.transpose(2, 0, 1).astype(np.float32) / np.float32(255)))
    assert sample["gt_path"] == ("face_01" if kind == "lmdb" else str(root / "face_01.png"))


def test_dataset_reduces_as_the_card_of_its_system_says(tmp_path):
    write_images(tmp_path / "x", 1, 128)
    dataset = make_dataset(tmp_path / "x", system="progressive", gt_size=None)
    lq = Image.fromarray(make_image(0, 128))
    for side in (64, 32, 16):
        lq = lq.resize((side, side), Image.Resampling.BILINEAR)
    assert np.array_equal((dataset[0]["lq"] * 255).round().permute(1, 2, 0).numpy(), lq)
    with pytest.raises(ValueError, match="scale must be a power of 2 to reduce by halves, got 3"):
        make_dataset(tmp_path / "x", system="progressive", gt_size=48, scale=3)


def test_dataset_takes_given_pairs(tmp_path):
    write_lmdb(tmp_path / "gt.lmdb", 3, 32)
    write_images(tmp_path / "lq", 3, 4)
    (tmp_path / "list.txt").write_text("face_02.png\nface_00.png\n")
    dataset = make_dataset(
        tmp_path / "gt.lmdb", dataroot_lq=str(tmp_path / "lq"), meta_info_file=str(tmp_path / "list.txt")
    )
    sample = dataset[0]
    assert len(dataset) == 2
    assert np.array_equal((sample["lq"] * 255).round().permute(1, 2, 0).numpy(), make_image(2, 4))
    assert sample["lq_path"] == str(tmp_path / "lq/face_02.png")
    assert sample["gt_path"] == "face_02"


@pytest.mark.parametrize("numbers", ["correct", "released"])
def test_dataset_mirrors_given_pairs_and_landmarks_alike(tmp_path, numbers):
    write_images(tmp_path / "gt", 1, 32)
    write_images(tmp_path / "lq", 1, 4)
    points = write_points(tmp_path / "points.npz", ["face_00.png"])[0]
    dataset = make_dataset(
        tmp_path / "gt",
        dataroot_lq=str(tmp_path / "lq"),
        phase="train",
        use_hflip=True,
        flip_points=numbers,
        landmarks=str(tmp_path / "points.npz"),
    )
    samples = [dataset[SampleIndex.make(0, 0, position)] for position in range(20)]
    plain = (make_image(0, 32).transpose(2, 0, 1) / 255).astype(np.float32)
    flipped = [s for s in samples if not np.allclose(s["gt"], plain)]
    assert 4 <= len(flipped) <= 16
    expected = points[flip_permutation(68, released=numbers == "released")]
    expected[:, 0] = 31 - expected[:, 0]
    for sample in flipped:
        assert np.allclose(sample["gt"], plain[..., ::-1])
        assert np.allclose(sample["lq"], (make_image(0, 4).transpose(2, 0, 1) / 255)[..., ::-1])
        assert np.allclose(sample["landmarks"], expected)


def test_dataset_takes_the_landmark_file_of_an_lmdb_with_escaped_keys(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(make_image(0, 32)).save(tmp_path / "in/IMG 1.a.png")
    points = write_points(tmp_path / "points.npz", ["IMG 1.a.png"])
    prepare_faces(tmp_path / "in", tmp_path / "x.lmdb", FaceRecipe(32), landmarks=tmp_path / "points.npz", workers=0)
    dataset = make_dataset(
        tmp_path / "x.lmdb", gt_size=32, use_hflip=False, landmarks=str(tmp_path / "x.lmdb/landmarks.npz")
    )
    assert dataset.keys == ["IMG%201%2Ea"]
    assert np.allclose(dataset[0]["landmarks"], points[0], atol=1e-5)


def test_dataset_turns_input_and_landmarks_with_the_face(tmp_path):
    write_images(tmp_path / "gt", 1, 32)
    points = write_points(tmp_path / "points.npz", ["face_00.png"])[0]
    dataset = make_dataset(tmp_path / "gt", phase="train", use_rot=True, landmarks=str(tmp_path / "points.npz"))
    plain = make_dataset(tmp_path / "gt")[0]
    samples = [dataset[SampleIndex.make(0, 0, position)] for position in range(24)]
    seen = set()
    for sample in samples:
        (turns,) = (k for k in range(4) if torch.equal(sample["gt"], torch.rot90(plain["gt"], k, (1, 2))))
        assert torch.equal(sample["lq"], torch.rot90(plain["lq"], turns, (1, 2)))
        assert np.allclose(sample["landmarks"], turn_landmarks(points, 32, turns))
        seen.add(turns)
    assert seen == {0, 1, 2, 3}


def test_dataset_brings_squares_of_any_size_to_one(tmp_path):
    write_images(tmp_path / "gt", 1, 48)
    points = write_points(tmp_path / "points.npz", ["face_00.png"])[0]
    sample = make_dataset(tmp_path / "gt", any_size=True, landmarks=str(tmp_path / "points.npz"))[0]
    gt = resize(make_image(0, 48), (32, 32))
    assert np.array_equal((sample["gt"] * 255).round().permute(1, 2, 0).numpy(), gt)
    assert np.array_equal((sample["lq"] * 255).round().permute(1, 2, 0).numpy(), resize(gt, (4, 4)))
    assert np.allclose(sample["landmarks"], (points + 0.5) * 2 / 3 - 0.5)
    write_images(tmp_path / "wide", 1, 48, 50)
    with pytest.raises(ValueError, match=r"must be square, got 48x50\. Make square faces: .*--size native --crop CROP"):
        make_dataset(tmp_path / "wide", any_size=True)[0]


def test_dataset_distorts_by_the_drawn_ratio(tmp_path):
    write_images(tmp_path / "gt", 1, 64)
    points = np.float32([[[20, 24], [44, 26], [30, 40], [22, 44], [42, 45]]])
    write_landmarks(tmp_path / "points.npz", Landmarks(("face_00.png",), points))
    dataset = make_dataset(
        tmp_path / "gt", phase="train", any_size=True, distort=[0.7, 0.7], landmarks=str(tmp_path / "points.npz")
    )
    sample, patch = dataset[0], distortion_patch(points[0], 64, 0.7)
    assert np.array_equal(
        (sample["gt"] * 255).round().permute(1, 2, 0).numpy(), cut_patch(make_image(0, 64), patch, 32)
    )
    assert np.allclose(sample["landmarks"], cut_patch_landmarks(points[0], patch, 32))
    assert patch.height < 64


def test_dataset_draws_other_ratios_for_other_samples(tmp_path):
    write_images(tmp_path / "gt", 1, 32)
    points = np.float32([[[14, 14], [18, 14], [16, 16], [14, 18], [18, 18]]])
    write_landmarks(tmp_path / "points.npz", Landmarks(("face_00.png",), points))
    dataset = make_dataset(tmp_path / "gt", phase="train", distort=[0.66, 1.33], landmarks=str(tmp_path / "points.npz"))
    sizes = [np.ptp(dataset[SampleIndex.make(0, 0, position)]["landmarks"].numpy(), 0) for position in range(8)]
    assert len({tuple(size) for size in sizes}) > 4
    assert all(min(size) == pytest.approx(4) and max(size) < 6.5 for size in sizes)  # one side is enlarged


def test_dataset_draws_depend_on_seed_epoch_and_position_alone(tmp_path):
    write_images(tmp_path, 2)
    options = {"phase": "train", "use_hflip": True, "zoom": "official"}
    first, second = make_dataset(tmp_path, **options), make_dataset(tmp_path, **options)
    np.random.seed(0)
    torch.manual_seed(0)
    places = list(itertools.product((0, 1), (0, 5)))
    one = [first[SampleIndex.make(1, epoch, position)]["gt"] for epoch, position in places]
    np.random.seed(9)
    two = [second[SampleIndex.make(1, epoch, position)]["gt"] for epoch, position in reversed(places)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(one, 2))
    other = make_dataset(tmp_path, **options, manual_seed=1)[SampleIndex.make(1, 0, 0)]["gt"]
    assert not torch.equal(other, one[0])


def test_dataset_draws_are_those_of_epoch_0_for_a_plain_index(tmp_path):
    write_images(tmp_path, 3)
    dataset = make_dataset(tmp_path, phase="train", zoom="corrected")
    assert torch.equal(dataset[2]["gt"], dataset[SampleIndex.make(2, 0, 2)]["gt"])


def test_dataset_does_not_augment_in_validation(tmp_path):
    write_images(tmp_path, 1)
    dataset = make_dataset(tmp_path, phase="val", use_hflip=True, zoom="corrected")
    gts = [dataset[SampleIndex.make(0, 0, position)]["gt"] for position in range(8)]
    assert all(torch.equal(gt, gts[0]) for gt in gts)


def test_dataset_is_the_same_in_workers(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 6)
    dataset = make_dataset(tmp_path / "x.lmdb", phase="train", use_hflip=True, zoom="official")
    dataset[0]  # the parent has the LMDB open when the workers start
    alone = [batch["gt"] for batch in DataLoader(dataset, batch_size=2)]
    for batch, expected in zip(DataLoader(dataset, batch_size=2, num_workers=2), alone, strict=True):
        assert torch.equal(batch["gt"], expected)


def test_dataset_pickles(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 2)
    dataset = make_dataset(tmp_path / "x.lmdb", phase="train", use_hflip=True)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1]["lq"], dataset[1]["lq"])


def test_dataset_opens_one_lmdb_twice(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 2)
    train, val = make_dataset(tmp_path / "x.lmdb", phase="train"), make_dataset(tmp_path / "x.lmdb")
    assert torch.equal(train[0]["gt"], val[0]["gt"])


def test_dataset_takes_basicsrs_loader_keys(tmp_path):
    write_images(tmp_path, 1)
    loader = {
        "name": "faces",
        "phase": "train",
        "scale": 8,
        "use_shuffle": True,
        "num_worker_per_gpu": 2,
        "batch_size_per_gpu": 4,
        "dataset_enlarge_ratio": 1,
        "prefetch_mode": None,
        "pin_memory": True,
        "persistent_workers": True,
        "manual_seed": 3,
    }
    assert make_dataset(tmp_path, **loader)[0]["lq"].shape == (3, 4, 4)


def test_dataset_names_the_nearest_option(tmp_path):
    with pytest.raises(ValueError, match=r"datasets\.train: unknown key 'use_hfilp', did you mean 'use_hflip'\?"):
        make_dataset(tmp_path, phase="train", use_hfilp=True)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"use_hflip": "yes"}, TypeError, r"datasets\.val\.use_hflip must be bool, got 'yes'"),
        ({"zoom": "random"}, ValueError, "zoom must be one of official, corrected, got 'random'"),
        ({"zoom_range": [0.5, 1.0]}, ValueError, r"zoom_range must be \[low, high\] with 1 <= low <= high"),
        ({"system": "sparnett"}, ValueError, "system must be one of .*, got 'sparnett'"),
        ({"scale": 0}, ValueError, "scale must be 1 or more, got 0"),
        ({"scale": 5}, ValueError, "gt_size must be a multiple of scale 5, got 32"),
        ({"zoom": "official", "dataroot_lq": "x"}, ValueError, "zoom must be unset with dataroot_lq"),
        ({"flip_points": "released", "landmarks": "x"}, ValueError, "flip_points must be correct without"),
        ({"flip_points": "released", "use_hflip": True}, ValueError, "flip_points must be correct without"),
        ({"distort": [0.66, 1.33]}, ValueError, "distort must have landmarks, whose extent it keeps"),
        (
            {"distort": [1.33, 0.66], "landmarks": "x"},
            ValueError,
            r"distort must be \[low, high\] with 0 < low <= high",
        ),
        (
            {"distort": [0.66, 1.33], "landmarks": "x", "dataroot_lq": "x"},
            ValueError,
            "distort must be unset with dataroot_lq",
        ),
    ],
)
def test_dataset_rejects_wrong_options(tmp_path, options, error, text):
    write_images(tmp_path, 1)
    with pytest.raises(error, match=text):
        make_dataset(tmp_path, **options)


def test_dataset_says_that_the_lmdb_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"LMDB .*x\.lmdb does not exist\. Make it with facesr prepare faces"):
        make_dataset(tmp_path / "x.lmdb")


def test_dataset_says_that_the_lmdb_is_not_finished(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 1)
    (tmp_path / "x.lmdb/meta_info.txt").unlink()
    with pytest.raises(ValueError, match=r"has no meta_info\.txt: it is not finished"):
        make_dataset(tmp_path / "x.lmdb")


def test_dataset_says_that_the_lmdb_is_cut_off(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 20)
    os.truncate(tmp_path / "x.lmdb/data.mdb", 30_000)
    with pytest.raises(ValueError, match=r"data\.mdb is cut off: it has 30000 of \d+ bytes\. Copy the LMDB again"):
        make_dataset(tmp_path / "x.lmdb")


def test_dataset_says_that_the_folder_is_empty(tmp_path):
    with pytest.raises(ValueError, match=r"folder .* must hold images \(.*\), got none"):
        make_dataset(tmp_path)


def test_dataset_names_a_corrupt_png(tmp_path):
    write_images(tmp_path, 2)
    os.truncate(tmp_path / "face_01.png", 150)
    with pytest.raises(ValueError, match=r"face_01\.png is damaged: .*Copy it again or remove it"):
        make_dataset(tmp_path)[1]


def test_dataset_rejects_faces_of_another_size_at_once(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 2, 40)
    text = r"gt image 'face_00' of .* must be 32x32, got 40x40\. Make the faces that size: .*--size 32, or set any_size"
    with pytest.raises(ValueError, match=text):
        make_dataset(tmp_path / "x.lmdb")


def test_dataset_rejects_files_of_another_size_when_it_reads_them(tmp_path):
    write_images(tmp_path / "gt", 1, 40, 30)
    with pytest.raises(ValueError, match="must be 32x32, got 40x30"):
        make_dataset(tmp_path / "gt")[0]
    write_images(tmp_path / "good", 1, 32)
    write_images(tmp_path / "lq", 1, 8)
    with pytest.raises(ValueError, match=r"lq image 'face_00' of .* must be 4x4 \(gt_size 32 / scale 8\), got 8x8"):
        make_dataset(tmp_path / "good", dataroot_lq=str(tmp_path / "lq"))[0]


def test_dataset_names_missing_partners(tmp_path):
    write_images(tmp_path / "gt", 3)
    write_images(tmp_path / "lq", 2, 4)
    with pytest.raises(ValueError, match=r"lq lacks 1 images of .*gt: face_02\. Every gt image needs"):
        make_dataset(tmp_path / "gt", dataroot_lq=str(tmp_path / "lq"))
    write_points(tmp_path / "points.npz", ["face_00.png"])
    with pytest.raises(ValueError, match=r"points\.npz lacks 2 of 3 images: face_01, face_02"):
        make_dataset(tmp_path / "gt", landmarks=str(tmp_path / "points.npz"))


def test_dataset_cannot_mirror_points_without_a_table(tmp_path):
    names = write_images(tmp_path / "gt", 1)
    write_points(tmp_path / "points.npz", names, num_points=29)
    with pytest.raises(ValueError, match=r"must have .*194 points to be mirrored, got 29\. Set use_hflip: false"):
        make_dataset(tmp_path / "gt", use_hflip=True, landmarks=str(tmp_path / "points.npz"))
