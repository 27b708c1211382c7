import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr_plugin.pipeline.detector import FaceDetector


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small detector as it starts training, saved from DataParallel."""
    from facexlib.detection.retinaface import RetinaFace

    torch.manual_seed(0)
    state = RetinaFace(network_name="mobile0.25", device=torch.device("cpu")).state_dict()
    path = tmp_path_factory.mktemp("weights") / "mobile.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    return path


def test_detector_finds_nothing_above_an_impossible_score(weights: Path) -> None:
    detector = FaceDetector("mobile0.25", weights, threshold=1.0)
    assert detector(np.zeros((48, 64, 3), np.uint8)) == []


def test_detector_gives_coordinates_of_the_photo_before_it_was_reduced(weights: Path) -> None:
    y, x = np.mgrid[:128, :160]
    photo = np.stack([x, y, x + y // 2], -1).astype(np.uint8)
    large = np.repeat(np.repeat(photo, 4, 0), 4, 1)
    here = FaceDetector("mobile0.25", weights, threshold=0.0)(photo)
    there = FaceDetector("mobile0.25", weights, threshold=0.0, max_side=160)(large)
    assert len(here) == len(there) > 0
    np.testing.assert_allclose((there[0].landmarks + 0.5) / 4 - 0.5, here[0].landmarks, atol=1e-6)
    np.testing.assert_allclose((there[0].box + 0.5) / 4 - 0.5, here[0].box, atol=1e-6)


def test_detector_refuses_other_weights(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold weights of the detector resnet50, got others: .*Missing key"):
        FaceDetector("resnet50", weights)
    with pytest.raises(FileNotFoundError, match="weights must be an existing file"):
        FaceDetector("mobile0.25", tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"detector must be one of resnet50, mobile0\.25, got 'dlib'"):
        FaceDetector("dlib", weights)


def test_detector_pickles(weights: Path) -> None:
    detector = FaceDetector("mobile0.25", weights, threshold=0.0)
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    copy = pickle.loads(pickle.dumps(detector))
    assert len(detector(photo)) > 0
    np.testing.assert_array_equal(copy(photo)[0].landmarks, detector(photo)[0].landmarks)
