"""Distillation of the alignment network: targets, what is refused, validation, files, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from basicsr.models import build_model
from torch.utils.data import DataLoader

from facesr_plugin.archs.fan_arch import TeacherFAN
from facesr_plugin.checkpoints import Weights, load_weights, read_checkpoint, save_weights
from facesr_plugin.data.annotations import Landmarks, write_landmarks
from facesr_plugin.data.landmark_dataset import LandmarkDataset
from facesr_plugin.ops.heatmap import render_gaussian
from helpers.faces import write_lmdb
from helpers.options import model_options

SIDE = 16


def options(folder: Path, **train: Any) -> dict[str, Any]:
    made = model_options(folder, **{"heatmap_opt": {"type": "MSELoss"}, "pixel_opt": None, **train})
    made |= {"model_type": "FANDistillModel", "network_g": {"type": "CompressedFAN", "num_feat": 2}}
    made["path"]["visualization"] = str(folder / "pictures")
    made["val"] = {"metrics": {"nme": {"type": "calculate_nme", "normaliser": "inter_ocular", "better": "lower"}}}
    return made


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[TeacherFAN, Path]:
    """A teacher of one hourglass with random weights, and its file."""
    torch.manual_seed(0)
    network, path = TeacherFAN(num_stacks=1).eval(), tmp_path_factory.mktemp("teacher") / "teacher.pth"
    args = {"num_stacks": 1, "num_landmarks": 68}
    save_weights(path, Weights("progressive", "TeacherFAN", args, network.state_dict(), "params", path))
    return network, path


def with_teacher(folder: Path, path: Path | None) -> dict[str, Any]:
    made = options(folder)
    made["network_teacher"] = {"type": "TeacherFAN", "num_stacks": 1}
    made["path"] |= {"pretrain_network_teacher": path and str(path), "ignore_resume_networks": ["network_teacher"]}
    return made


def batch(seed: int = 0, num_landmarks: int = 68, number: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(number, num_landmarks, 2, generator=generator) * (SIDE - 1)
    return {"lq": torch.rand(number, 3, SIDE, SIDE, generator=generator), "landmarks": points}


def step(model: Any, iteration: int) -> None:
    model.feed_data(batch(iteration))
    model.optimize_parameters(iteration)


def test_without_teacher_the_targets_are_gaussians_about_the_landmarks(tmp_path: Path) -> None:
    model = build_model(options(tmp_path, sigma=2.5))
    step(model, 1)
    expected = render_gaussian(batch(1)["landmarks"], (SIDE, SIDE), 2.5)
    assert torch.equal(model.gt, expected)
    assert model.get_current_log() == {"l_g_heatmap": pytest.approx(float((model.output - expected).square().mean()))}


def test_teacher_sees_the_enlarged_faces_and_stays_as_it_is(tmp_path: Path, teacher: tuple[TeacherFAN, Path]) -> None:
    network, path = teacher
    model = build_model(with_teacher(tmp_path, path))
    data = {"lq": batch(1)["lq"]}
    model.feed_data(data)
    model.optimize_parameters(1)
    large = F.interpolate(data["lq"], size=(4 * SIDE, 4 * SIDE), mode="bilinear", align_corners=False)
    with torch.no_grad():
        assert torch.allclose(model.gt, network(large)[-1], atol=1e-6)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in model.net_teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in model.net_teacher.parameters())


def test_network_learns_the_targets(tmp_path: Path) -> None:
    model = build_model(options(tmp_path, optim_g={"type": "Adam", "lr": 1e-2}))
    losses = []
    for iteration in range(1, 21):
        model.feed_data(batch(0))
        model.optimize_parameters(iteration)
        losses.append(model.get_current_log()["l_g_heatmap"])
    assert losses[-1] < 0.5 * losses[0]


def test_teacher_without_weights_is_refused(tmp_path: Path) -> None:
    message = "path.pretrain_network_teacher must name the weights of the teacher, got none. Set network_teacher: ~ to"
    with pytest.raises(ValueError, match=message):
        build_model(with_teacher(tmp_path, None))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        build_model(with_teacher(tmp_path, tmp_path / "nowhere.pth"))


def test_teacher_that_a_resume_would_lose_is_refused(tmp_path: Path) -> None:
    made = with_teacher(tmp_path, tmp_path / "teacher.pth")
    made["path"]["ignore_resume_networks"] = None
    with pytest.raises(ValueError, match=r"path.ignore_resume_networks must have network_teacher: .* Set ignore_"):
        build_model(made)


def test_neither_teacher_nor_landmarks_is_refused(tmp_path: Path) -> None:
    made = options(tmp_path)
    made["datasets"] = {"train": {"landmarks": False}}
    with pytest.raises(ValueError, match="datasets.train.landmarks must not be false without network_teacher"):
        build_model(made | {"network_teacher": None})


def test_other_number_of_landmarks_is_refused(tmp_path: Path) -> None:
    model = build_model(options(tmp_path))
    model.feed_data(batch(num_landmarks=5))
    message = r"targets' shape \(2, 5, 16, 16\), got \(2, 68, 16, 16\)\. Set network_g.num_landmarks: 5"
    with pytest.raises(ValueError, match=message):
        model.optimize_parameters(1)


@pytest.fixture
def loader(tmp_path: Path) -> DataLoader:
    root = tmp_path / "val.lmdb"
    keys = write_lmdb(root, 3, SIDE)
    points = np.random.default_rng(0).uniform(0, SIDE - 1, (3, 68, 2)).astype(np.float32)
    write_landmarks(root / "landmarks.npz", Landmarks(tuple(keys), points))
    section = {"type": "LandmarkDataset", "name": "faces", "dataroot_gt": str(root), "gt_size": SIDE}
    return DataLoader(LandmarkDataset(section))


class Perfect(torch.nn.Module):
    """Gives the heatmaps of the points that it was told, one face after the other."""

    def __init__(self, points: list[torch.Tensor]) -> None:
        super().__init__()
        self.points = points

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return render_gaussian(self.points.pop(0), tuple(image.shape[2:]), 1.0)


def test_validation_measures_the_points_and_keeps_the_best(tmp_path: Path, loader: DataLoader) -> None:
    model = build_model(options(tmp_path))
    landmarks = [sample["landmarks"][None] for sample in loader.dataset]
    for iteration, shift in ((10, 0.0), (20, 3.0)):
        model.net_g = Perfect([points + shift for points in landmarks])
        model.validation(loader, iteration, None)
        if iteration == 10:
            assert model.metric_results["nme"] < 0.1  # rounded to quarters of a pixel
    best = model.best_metric_results["faces"]["nme"]
    assert (best["better"], best["iter"]) == ("lower", 10)
    assert model.metric_results["nme"] > best["val"]


def test_validation_draws_the_points(tmp_path: Path, loader: DataLoader) -> None:
    model = build_model(options(tmp_path))
    model.validation(loader, 7, None, save_img=True)
    drawn = sorted(path.relative_to(tmp_path / "pictures").as_posix() for path in tmp_path.rglob("*.png"))
    assert drawn == [f"face_0{i}/face_0{i}_7.png" for i in range(3)]


def test_test_phase_needs_no_teacher_and_names_pictures_as_basicsr(tmp_path: Path, loader: DataLoader) -> None:
    made = options(tmp_path) | {"is_train": False, "network_teacher": None}
    model = build_model(made)
    model.validation(loader, "any", None, save_img=True)
    assert (tmp_path / "pictures/faces/face_00_tiny.png").is_file()


def test_checkpoint_is_one_of_the_alignment_net(tmp_path: Path) -> None:
    model = build_model(options(tmp_path))
    step(model, 1)
    model.save(0, 1)
    weights = load_weights(tmp_path / "models/net_g_1.pth")
    assert (weights.system, weights.arch) == ("progressive", "CompressedFAN")
    assert weights.args == {"num_landmarks": 68, "num_feat": 2}


def test_resume_continues_bit_for_bit(tmp_path: Path, teacher: tuple[TeacherFAN, Path]) -> None:
    whole = build_model(with_teacher(tmp_path, teacher[1]))
    for iteration in (1, 2):
        step(whole, iteration)
    whole.save(0, 2)
    step(whole, 3)
    made = with_teacher(tmp_path, teacher[1])
    made["path"]["pretrain_network_g"] = str(tmp_path / "models/net_g_2.pth")
    resumed = build_model(made)
    resumed.resume_training(read_checkpoint(tmp_path / "states/2.state"))
    step(resumed, 3)
    one, other = (model.net_g.state_dict() for model in (whole, resumed))
    assert all(torch.equal(value, other[key]) for key, value in one.items())
