"""The frozen landmark network: one per file, its mode, its errors."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facesr_plugin.archs.fan_arch import CompressedFAN, TeacherFAN
from facesr_plugin.checkpoints import UnsupportedCheckpointError, Weights, save_weights, to_official
from facesr_plugin.losses.alignment import FrozenAligner, load_aligner
from helpers.tiny_fan import TINY_FAN, save_tiny_fan, tiny_fan


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_tiny_fan(tmp_path / "fan.pth")


def images(number: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(number, 3, 8, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_aligner_gives_the_networks_heatmaps_of_images_in_zero_to_one(weights: Path) -> None:
    x = images()
    found = load_aligner(weights)(x)
    assert found.shape == (2, 3, 8, 6)
    torch.testing.assert_close(found, tiny_fan()((x + 1) / 2), rtol=1e-5, atol=1e-6)


def test_aligner_reads_the_authors_key_names(weights: Path, tmp_path: Path) -> None:
    official = tmp_path / "official.pth"
    torch.save(to_official("progressive", tiny_fan().state_dict(), TINY_FAN), official)
    assert torch.equal(load_aligner(official)(images()), load_aligner(weights)(images()))


def test_aligner_of_one_file_and_mode_is_one_as_long_as_it_is_used(weights: Path, tmp_path: Path) -> None:
    first = load_aligner(weights)
    assert load_aligner(str(tmp_path / "." / "fan.pth")) is first
    assert load_aligner(weights, "train") is not first
    assert load_aligner(save_tiny_fan(tmp_path / "other.pth")) is not first
    first.marked = True
    del first
    gc.collect()
    assert not hasattr(load_aligner(weights), "marked")


def test_aligner_of_a_file_that_was_replaced_is_another(weights: Path) -> None:
    first = load_aligner(weights)
    save_tiny_fan(weights, seed=1)
    assert not torch.equal(load_aligner(weights)(images()), first(images()))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_aligner_keeps_its_mode_and_its_weights(weights: Path, mode: str) -> None:
    aligner = load_aligner(weights, mode)
    outer = torch.nn.Sequential(aligner).train().eval().train()
    assert outer[0].net.training == (mode == "train")
    assert not any(parameter.requires_grad for parameter in aligner.parameters())


def test_mode_eval_judges_each_image_alone_and_train_the_batch(weights: Path) -> None:
    x = images(3)
    alone = load_aligner(weights)
    torch.testing.assert_close(alone(x)[:1], alone(x[:1]), rtol=1e-5, atol=1e-6)
    before = copy.deepcopy(alone.state_dict())
    together = load_aligner(weights, "train")
    assert not torch.allclose(together(x)[:1], together(x[:1]), atol=1e-3)
    assert all(torch.equal(before[key], value) for key, value in alone.state_dict().items())
    torch.testing.assert_close(together(x), tiny_fan().train()((x + 1) / 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_pair_has_a_graph_for_the_restored_images_only(weights: Path, mode: str) -> None:
    aligner, sr, gt = load_aligner(weights, mode), images().requires_grad_(), images(seed=1).requires_grad_()
    pair = aligner.pair(sr, gt)
    assert pair.sr.requires_grad
    assert not pair.gt.requires_grad
    assert torch.equal(pair.sr, aligner(sr))
    assert torch.equal(pair.gt, aligner(gt))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda aligner: pickle.loads(pickle.dumps(aligner))])  # noqa: S301
def test_aligner_can_be_copied_after_use(weights: Path, copier: Any) -> None:
    aligner = load_aligner(weights)
    aligner.pair(images().requires_grad_(), images()).sr.sum().backward()
    assert torch.equal(copier(aligner)(images()), aligner(images()))


def test_missing_weights_say_where_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"compressed_fan.pth \(.*\) is not in .*\. Put the compressed FAN"):
        load_aligner()
    with pytest.raises(FileNotFoundError, match="weights must be an existing file, got .*none.pth"):
        load_aligner(tmp_path / "none.pth")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path, args = tmp_path / "teacher.pth", {"num_stacks": 1, "num_landmarks": 2}
    save_weights(path, Weights("progressive", "TeacherFAN", args, TeacherFAN(**args).state_dict(), "params", path))
    with pytest.raises(UnsupportedCheckpointError, match="must hold weights of CompressedFAN, got TeacherFAN"):
        load_aligner(path)


def test_unknown_mode_is_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match="mode must be one of eval, train, got 'official'"):
        load_aligner(weights, "official")


def test_images_of_different_shapes_are_refused() -> None:
    aligner = FrozenAligner(CompressedFAN(**TINY_FAN))
    with pytest.raises(ValueError, match=r"one shape \(N, 3, H, W\), got \(2, 3, 8, 6\) and \(1, 3, 8, 6\)"):
        aligner.pair(images(2), images(1))
