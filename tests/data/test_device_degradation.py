"""The device makes what the workers make: sample by sample, and as a distribution."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from facesr_plugin.data.device_degradation import DeviceDegrader
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset
from facesr_plugin.utils.resume import SampleIndex
from helpers.faces import write_images

COUNT = 96


def options_for(root) -> dict:
    sizes = {"sigma": [1, 4], "average_size": [3, 6], "median_size": [3, 6], "motion_size": [5, 9]}
    degradations = [
        {"type": "blur", "prob": 0.5, **sizes},
        {"type": "downsample", "low_size": [9, 20]},
        {"type": "noise", "prob": 0.2},
        {"type": "jpeg", "prob": 0.7},
    ]
    section = {"type": "FaceDegradationDataset", "dataroot_gt": str(root), "gt_size": 32, "degradations": degradations}
    return {**section, "phase": "train", "manual_seed": 5}


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """``gt`` (equal in both), ``lq`` of the workers and ``lq`` of the device for the same places, in grey levels."""
    root = tmp_path_factory.mktemp("faces")
    write_images(root, 1)
    worker = FaceDegradationDataset(options_for(root))
    device = FaceDegradationDataset({**options_for(root), "degrade_on": "device"})
    places = [SampleIndex.make(0, 3, position) for position in range(COUNT)]
    expected = default_collate([worker[place] for place in places])
    given = default_collate([device[place] for place in places])
    assert "lq" not in given
    assert torch.equal(given["gt"], expected["gt"])
    found = DeviceDegrader(device.opt)(given["gt"], given["degradation_seed"])
    return given["gt"] * 255, expected["lq"] * 255, found * 255


def test_device_gives_whole_levels_of_the_same_shape(batches):
    gt, expected, found = batches
    assert found.shape == expected.shape == gt.shape
    assert found.dtype == torch.float32
    assert torch.allclose(found, found.round(), atol=1e-4)


def test_device_makes_the_workers_images(batches):
    _, expected, found = batches
    errors = (found - expected).abs().mean(dim=(1, 2, 3))
    # a level rounded the other way may tip a coefficient of a JPEG file, which weighs in images of 9 to 20 pixels
    assert errors.median() < 0.1
    assert (errors < 1).float().mean() > 0.8
    assert errors.max() < 4, errors.sort().values


def statistics(gt: torch.Tensor, lq: torch.Tensor) -> np.ndarray:
    """Mean, deviation, error and energy in four bands of frequency, of each image: ``(N, 7)``."""
    spectrum = torch.fft.fft2(lq.mean(1)).abs().square()
    frequency = torch.fft.fftfreq(lq.shape[-1])
    radius = (frequency[:, None] ** 2 + frequency[None] ** 2).sqrt()
    bands = [spectrum[:, (radius > low) & (radius <= low + 0.125)].mean(1).log1p() for low in (0, 0.125, 0.25, 0.375)]
    error = (lq - gt).square().mean((1, 2, 3)).sqrt()
    return torch.stack([lq.mean((1, 2, 3)), lq.std((1, 2, 3)), error, *bands], dim=1).double().numpy()


def test_device_has_the_workers_distribution(batches):
    gt, expected, found = batches
    ours, theirs = statistics(gt, found), statistics(gt, expected)
    tolerance = 0.1 * theirs.std(0)  # of independent draws the means would differ by more: 2 / sqrt(96) deviations
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < tolerance).all()
    assert (np.abs(ours.std(0) - theirs.std(0)) < tolerance).all()


def test_seeds_are_those_of_epoch_and_position(tmp_path):
    write_images(tmp_path, 2)
    dataset = FaceDegradationDataset({**options_for(tmp_path), "degrade_on": "device"})
    assert dataset[SampleIndex.make(1, 4, 9)]["degradation_seed"].tolist() == [5, 4, 9]
    (batch,) = DataLoader(dataset, batch_size=2)
    assert batch["degradation_seed"].tolist() == [[5, 0, 0], [5, 0, 1]]


def test_device_is_for_training_only(tmp_path):
    with pytest.raises(ValueError, match="degrade_on must be worker in the phase val, got device"):
        FaceDegradationDataset({**options_for(tmp_path), "phase": "val", "degrade_on": "device"})


def test_model_makes_lq_on_its_device(tmp_path, batches):
    from helpers.training import build_model

    network = {"type": "SPARNet", "min_ch": 4, "max_ch": 8, "in_size": 32, "out_size": 32, "min_feat_size": 16}
    network |= {"res_depth": 1, "bottleneck_size": 16}
    train = {"optim_g": {"type": "Adam", "lr": 1e-4}, "pixel_opt": {"type": "L1Loss"}}
    section = options_for(tmp_path)
    model = build_model("SPARNetHDModel", network, train, scale=1, datasets={"train": section}, is_train=False)
    gt, _, found = batches
    seeds = torch.tensor([[5, 3, position] for position in range(2)])
    model.feed_data({"gt": gt[:2] / 255, "degradation_seed": seeds})
    assert torch.allclose((model.lq + 1) / 2 * 255, found[:2], atol=1e-3)
