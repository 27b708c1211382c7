import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import UnsupportedCheckpointError, build_network, load_weights
from facesr_plugin.commands.prepare_landmarks import MODELS
from facesr_plugin.ops.affine import FFHQ_TEMPLATE, transform
from facesr_plugin.ops.heatmap import render_gaussian
from facesr_plugin.pipeline.aligner import alignment
from facesr_plugin.pipeline.joint import find_landmarks
from facesr_plugin.pipeline.landmark_heads import HEADS, Framing, HeatmapHead
from facesr_plugin.pipeline.restorer import load
from helpers.faces import make_image
from helpers.fill import fill_state
from helpers.landmarks import save_compressed_fan, save_stacked_hourglass, save_tiny_jasrnet
from helpers.tiny import save_tiny_sparnet

CPU = torch.device("cpu")
TEMPLATE = np.array(FFHQ_TEMPLATE)


def test_the_command_offers_every_head() -> None:
    assert tuple(HEADS) == MODELS


@pytest.mark.parametrize("framing", [kind.framing for kind in HEADS.values()], ids=list(HEADS))
def test_framing_brings_the_eyes_to_their_place(framing: Framing) -> None:
    turn = np.array([[1.2, -0.5, 30], [0.5, 1.2, -12]])
    five = transform(TEMPLATE, turn)
    found = transform(five, framing.matrix(five))
    left, right = found[:2]
    assert right[0] - left[0] == pytest.approx(framing.eye_distance * framing.side, rel=1e-3)
    assert right[1] - left[1] == pytest.approx(0, abs=0.01 * framing.side)
    centre = (left + right) / 2
    assert centre == pytest.approx([framing.side / 2 - 0.5, framing.eyes_y * framing.side - 0.5], abs=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_framing_takes_an_aligned_face_as_it_is(share: float) -> None:
    face = np.zeros((96, 96, 3), np.uint8)
    face[31:35, 63:67] = 255  # about (64.5, 32.5)
    crop = Framing(64, 0.2, 0.5, ready_side=48, ready_share=share).ready(face)
    assert crop.image.shape == (48, 48, 3)
    weight = crop.image[..., 0].astype(float)
    rows, columns = np.mgrid[:48, :48]
    centre = [(weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()]
    assert transform([64.5, 32.5], crop.matrix) == pytest.approx(centre, abs=0.05)


def test_framing_wants_aligned_faces_square() -> None:
    with pytest.raises(ValueError, match="an aligned face must be square, got 40 x 30. Without --aligned it is"):
        HEADS["fan98"].framing.ready(np.zeros((30, 40, 3), np.uint8))


@pytest.mark.parametrize("side", [64, 256])
def test_head_finds_the_peaks_of_rendered_heatmaps(side: int) -> None:
    """Heatmaps of 64 pixels over a crop of ``side``: a quarter of a heatmap pixel is the decoder's own error."""
    true = np.random.default_rng(0).uniform(8, side - 9, (2, 98, 2))
    stride = side / 64
    in_map = torch.from_numpy((true + 0.5) / stride - 0.5)
    head = HeatmapHead(lambda images: render_gaussian(in_map[: len(images)], (64, 64), 1.5), CPU)
    points, score = head(np.zeros((2, side, side, 3), np.uint8))
    assert np.abs(points - true).max() <= 0.25 * stride + 1e-6
    assert score.shape == (2, 98)
    assert score.min() > 0.7


def test_head_shows_the_network_rgb_in_0_to_1() -> None:
    seen = []

    def heatmaps(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.zeros(len(images), 5, 4, 4)

    HeatmapHead(heatmaps, CPU)(np.full((1, 8, 8, 3), (255, 51, 0), np.uint8))
    assert seen[0].shape == (1, 3, 8, 8)
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([1, 0.2, 0])


def test_head_decodes_as_facexlib_does_where_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks off the border; facexlib's pixels have their corners at integers."""
    from facexlib.alignment import awing_arch

    monkeypatch.setattr(np, "float", float, raising=False)  # which today's numpy lacks
    peaks = torch.from_numpy(np.random.default_rng(0).uniform(3, 60, (1, 98, 2)))
    heatmaps = render_gaussian(peaks, (64, 64), 1.5)
    theirs = awing_arch.calculate_points(heatmaps.numpy()) * 4
    ours = HeatmapHead(lambda _: heatmaps, CPU)(np.zeros((1, 256, 256, 3), np.uint8)).points
    assert np.allclose(ours + 0.5, theirs)


def test_head_keeps_a_peak_at_the_border_to_itself() -> None:
    """facexlib's decoder takes other faces' values there."""
    heatmaps = torch.zeros(2, 1, 64, 64)
    heatmaps[0, 0, 0, 0] = heatmaps[1, 0, 20, 30] = 1
    heatmaps[1, 0, 20, 31] = 0.5
    points = HeatmapHead(lambda _: heatmaps, CPU)(np.zeros((2, 64, 64, 3), np.uint8)).points
    assert points.tolist() == [[[0, 0]], [[30.25, 20]]]


@pytest.fixture(scope="module")
def fan98_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All keys of facexlib's file, as DataParallel saves them."""
    from facexlib.alignment.awing_arch import FAN

    shapes = {key: tuple(value.shape) for key, value in FAN(4, num_landmarks=98, device=CPU).state_dict().items()}
    state = {f"module.{key}": torch.from_numpy(value) for key, value in fill_state(shapes).items()}
    path = tmp_path_factory.mktemp("fan98") / "alignment_WFLW_4HG.pth"
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def test_fan98_gives_98_points(fan98_file: Path) -> None:
    head = HEADS["fan98"].load(fan98_file, CPU)
    crops = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    points, score = head(crops)
    assert points.shape == (1, 98, 2)
    assert score.shape == (1, 98)
    assert points.std(1).min() > 1


def test_fan98_refuses_other_weights(tmp_path: Path) -> None:
    path = save_compressed_fan(tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth must hold facexlib's network of 98 points, got other weights"):
        HEADS["fan98"].load(path, CPU)


def test_compressed_fan_has_the_points_that_it_was_trained_for(tmp_path: Path) -> None:
    head = HEADS["compressed_fan"].load(save_compressed_fan(tmp_path / "x.pth", num_landmarks=5), CPU)
    points, _ = head(np.zeros((3, 20, 20, 3), np.uint8))
    assert points.shape == (3, 5, 2)


def test_stacked_hourglass_sees_and_decodes_as_in_dics_evaluation(tmp_path: Path) -> None:
    path = save_stacked_hourglass(tmp_path / "x.pth")
    crops = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    points, score = HEADS["stacked_hourglass"].load(path, CPU)(crops)
    network = build_network(load_weights(path), "StackedHourglass").eval()
    mean = torch.tensor([0.509, 0.424, 0.378]).view(3, 1, 1)
    heatmaps = network(torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 - mean).heatmaps
    (row, column) = divmod(heatmaps[1, 7].argmax().item(), 32)
    assert np.abs(points[1, 7] - [4 * column, 4 * row]).tolist() == [1, 1]
    assert score[1, 7] == pytest.approx(heatmaps[1, 7].max().item(), rel=1e-5)


@pytest.mark.parametrize("name", ["fan98", "compressed_fan", "stacked_hourglass"])
def test_missing_weights_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"(alignment_WFLW_4HG|compressed_fan|HG_68_CelebA)\.pth .* is not in .*\. "
    ):
        HEADS[name].load(None, CPU)
    with pytest.raises(FileNotFoundError, match=r"weights must be an existing file, got '.*none\.pth'"):
        HEADS[name].load(tmp_path / "none.pth", CPU)


def test_fan68_says_what_is_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(ImportError, match=r"fan68 needs the library face-alignment \(pip install face-alignment\), or"):
        HEADS["fan68"].load(None, CPU)


@pytest.mark.parametrize("old", [True, False])
def test_fan68_takes_the_librarys_network(monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    class FaceAlignment:
        def __init__(self, kind: object, device: str, face_detector: str, compile: bool = True) -> None:  # noqa: A002
            assert (kind, device, face_detector, compile) == ("2D", "cpu", "folder", False)
            stacks = [torch.zeros(1, 68, 64, 64), torch.zeros(1, 68, 64, 64)]
            stacks[1][..., 10, 20] = 1
            self.face_alignment_net = lambda _: stacks if old else stacks[1]

    kinds = types.SimpleNamespace(**{"_2D" if old else "TWO_D": "2D"})
    library = types.SimpleNamespace(FaceAlignment=FaceAlignment, LandmarksType=kinds)
    monkeypatch.setitem(sys.modules, "face_alignment", library)
    points, score = HEADS["fan68"].load(None, CPU)(np.zeros((1, 256, 256, 3), np.uint8))
    assert points[0, 5].tolist() == [20.5 * 4 - 0.5, 10.5 * 4 - 0.5]
    assert score.min() == 1


def test_fan68_refuses_weights_of_another_network(tmp_path: Path) -> None:
    path = save_compressed_fan(tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth must hold weights of TeacherFAN, got CompressedFAN"):
        HEADS["fan68"].load(path, CPU)
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "y.pth")
    with pytest.raises(UnsupportedCheckpointError, match=r"cannot use .*y\.pth"):
        HEADS["fan68"].load(tmp_path / "y.pth", CPU)


@pytest.mark.parametrize(("gt_size", "scale", "side"), [(128, 8, 16), (64, 4, 16), (128, 2, 64)])
def test_jasrnet_sees_small_faces_as_it_was_trained(tmp_path: Path, gt_size: int, scale: int, side: int) -> None:
    path = save_tiny_jasrnet(tmp_path / "w.pth", 19, gt_size=gt_size, scale=scale)
    head = HEADS["jasrnet"].load(path, CPU)
    assert head.framing == replace(HEADS["jasrnet"].framing, side=side, ready_side=side)
    crop = head.framing.ready(make_image(0, 128))
    small = np.array(Image.fromarray(make_image(0, 128)).resize((side, side), Image.Resampling.BICUBIC))
    assert np.array_equal(crop.image, small)
    points, score = head(np.stack([crop.image, make_image(1, side)]))
    (expected,) = find_landmarks(load(path, "cpu"), [small])
    assert points.shape == (2, 19, 2)
    assert np.allclose(points[0], expected.points, atol=1e-3)
    assert np.allclose(score[0], expected.score, atol=1e-5)


def test_jasrnet_wants_faces_framed_as_it_was_trained(tmp_path: Path) -> None:
    head = HEADS["jasrnet"].load(save_tiny_jasrnet(tmp_path / "w.pth", framing="loose"), CPU)
    five = transform(TEMPLATE, np.array([[1.2, -0.5, 30], [0.5, 1.2, -12]]))
    places = (transform(five, head.framing.matrix(five)) + 0.5) / 16
    upright = (transform(TEMPLATE, alignment(TEMPLATE, replace(get_card("jasrnet"), framing="loose"))) + 0.5) / 16
    assert places[:2] == pytest.approx(upright[:2], abs=0.02)


def test_jasrnet_needs_weights_with_a_landmark_head(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"jasrnet has no published weights. Name those that you trained .* --weights"):
        HEADS["jasrnet"].load(None, CPU)
    with pytest.raises(ValueError, match="landmarks must be of a network that finds them"):
        HEADS["jasrnet"].load(save_tiny_sparnet(tmp_path / "w.pth"), CPU)
    with pytest.raises(ValueError, match="landmarks need faces framed as box or loose, got a network of ffhq"):
        HEADS["jasrnet"].load(save_tiny_jasrnet(tmp_path / "w.pth", framing="ffhq"), CPU)
