"""Metrics in their two forms: what they need, batches against single faces, sets in parts, what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from basicsr.utils.registry import METRIC_REGISTRY as BASICSR

from facesr_plugin.metrics import fid_metric
from facesr_plugin.metrics.building import MISSING, ImageMetric, SetMetric, build_metric, find_metric, is_of_points
from facesr_plugin.metrics.catalogue import PROTOCOLS, better_of
from facesr_plugin.metrics.landmark_metric import calculate_nme
from facesr_plugin.registry import METRIC_REGISTRY
from helpers.metrics import degraded, faces

GT = faces(3, 48, 40)
RNG = np.random.default_rng(0)
REFERENCE = RNG.uniform(4, 36, (3, 68, 2))
BATCH = {
    "img": degraded(GT, 15),
    "img2": GT,
    "landmarks": REFERENCE,
    "box": np.tile([2.0, 3.0, 38.0, 40.0], (3, 1)),
    "points": REFERENCE + RNG.normal(size=REFERENCE.shape),
    "reference": REFERENCE,
}
NETWORKS = {"lpips_alex", "lpips_vgg", "fid", "identity", "identity_aligned"}
FULL_REFERENCE = [name for name in PROTOCOLS if name.endswith(("psnr", "ssim", "_rgb", "_y"))]


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_are_registered_and_complete(name: str, nothing_here: None) -> None:
    protocol = PROTOCOLS[name]
    assert find_metric(protocol.section["type"]) is BASICSR.get(protocol.section["type"])
    assert protocol.better == better_of(protocol.section["type"])
    assert protocol.summary
    if name in NETWORKS:
        pytest.importorskip("lpips" if name.startswith("lpips") else "facexlib")
        with pytest.raises(MISSING, match="run `facesr weights fetch "):
            build_metric(protocol.section)
    else:
        assert build_metric(protocol.section).better == protocol.better


@pytest.mark.parametrize("name", FULL_REFERENCE)
def test_batch_is_one_by_one(name: str) -> None:
    metric = build_metric(PROTOCOLS[name].section)
    assert isinstance(metric, ImageMetric)
    options = {key: value for key, value in PROTOCOLS[name].section.items() if key != "type"}
    faces_ = [{key: BATCH[key][face] for key in metric.takes} for face in range(3)]
    alone = [find_metric(PROTOCOLS[name].section["type"])(**face, **options) for face in faces_]
    assert metric.measure(BATCH).tolist() == alone
    assert metric.measure({key: values[:1] for key, values in BATCH.items()}).tolist() == alone[:1]


@pytest.mark.parametrize("name", FULL_REFERENCE)
def test_equal_images_are_perfect_and_more_noise_is_worse(name: str) -> None:
    metric = build_metric(PROTOCOLS[name].section)
    values = np.array([metric.measure({**BATCH, "img": degraded(GT, noise)}) for noise in (0, 6, 20, 60)])
    assert values[0] == pytest.approx([1.0 if "ssim" in name else np.inf] * 3, abs=1e-12)
    assert (np.diff(values[1:], axis=0) < 0).all()
    assert (values[1] < values[0]).all()


@pytest.mark.parametrize("name", FULL_REFERENCE)
def test_mismatched_sizes_are_refused(name: str) -> None:
    metric = build_metric(PROTOCOLS[name].section)
    with pytest.raises(ValueError, match=r"images must have the same shape, got \(48, 40, 3\) and \(48, 39, 3\)"):
        metric.measure({**BATCH, "img2": GT[:, :, :39]})


@pytest.mark.parametrize(("border", "side"), [(0, 10), (4, 18)])
def test_images_below_the_window_of_ssim_are_refused(border: int, side: int) -> None:
    metric = build_metric({"type": "calculate_ssim", "crop_border": border})
    cut = {key: BATCH[key][:, :, : side + 1] for key in ("img", "img2")}
    assert np.isfinite(metric.measure(cut)).all()
    with pytest.raises(ValueError, match=rf"sides of {side + 1} or more, got {side} x 48"):
        metric.measure({key: images[:, :, :side] for key, images in cut.items()})


def test_needs_and_takes_are_those_of_the_function() -> None:
    plain = build_metric({"type": "calculate_sparnet_psnr"})
    assert (plain.needs, plain.takes) == ({"img", "img2"}, {"img", "img2"})
    box = build_metric({"type": "calculate_jasrnet_box_psnr"})
    assert (box.needs, box.takes) == ({"img", "img2", "landmarks"}, {"img", "img2", "landmarks", "box"})
    assert build_metric({"type": "calculate_face_niqe"}).needs == {"img"}
    with pytest.raises(ValueError, match="batch must have landmarks for this metric, got img, img2"):
        box.measure({"img": GT, "img2": GT})


def test_metrics_of_other_projects_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BASICSR._obj_map, "mine", lambda gain, **data: gain * float(data["img"].mean()))
    metric = build_metric({"type": "mine", "gain": 2, "better": "lower"})
    assert metric.measure(BATCH) == pytest.approx(2 * BATCH["img"].mean((1, 2, 3)))
    assert metric.better == "lower"


def test_landmarks_are_measured_over_all_faces() -> None:
    section = {"type": "calculate_nme", "normaliser": "box"}
    whole, parts, other = (build_metric(section) for _ in range(3))
    assert isinstance(whole, SetMetric)
    assert is_of_points(section)
    whole.add(BATCH)
    parts.add({key: values[:1] for key, values in BATCH.items()})
    other.add({key: values[1:] for key, values in BATCH.items()})
    parts.merge(other.state())
    expected = calculate_nme(BATCH["points"], REFERENCE, normaliser="box")
    assert whole.value() == pytest.approx(expected)
    assert parts.value() == pytest.approx(expected)


def test_landmark_sets_tell_what_they_lack() -> None:
    full = build_metric({"type": "calculate_nme"})
    full.add(BATCH)
    metric = full.anew()
    with pytest.raises(ValueError, match="a metric of landmarks needs one face or more, got none"):
        metric.value()
    metric.add(BATCH)
    with pytest.raises(ValueError, match="same arrays, got points, reference, visible after points, reference"):
        metric.add({**BATCH, "visible": np.ones((3, 68), bool)})


def test_networks_get_their_options_and_whole_batches(tmp_path: Path) -> None:
    from facexlib.recognition.arcface_arch import MobileFaceNet

    torch.manual_seed(0)
    torch.save(MobileFaceNet(16).state_dict(), tmp_path / "mobile.pth")
    section = {"type": "calculate_identity_similarity", "weights": tmp_path / "mobile.pth"}
    metric = build_metric(section)
    assert metric.needs == metric.takes == {"img", "img2"}
    assert metric.measure({**BATCH, "img": GT}) == pytest.approx([1, 1, 1])
    aligned = build_metric({**section, "type": "calculate_aligned_identity_similarity"})
    assert aligned.needs == {"img", "img2", "landmarks"}
    with pytest.raises(FileNotFoundError) as caught:
        build_metric({**section, "weights": tmp_path / "none.pth"})
    assert not isinstance(caught.value, MISSING)


@pytest.mark.parametrize(("statistics", "needs"), [(None, {"img", "img2"}), ("gt.npz", {"img"})])
def test_fid_is_a_set_that_needs_the_truth_or_statistics(
    monkeypatch: pytest.MonkeyPatch, statistics: str | None, needs: set[str]
) -> None:
    monkeypatch.setattr(fid_metric, "_load_network", lambda weights: torch.nn.Identity())
    monkeypatch.setattr(fid_metric, "read_statistics", lambda path: (np.zeros(2048), np.eye(2048)))
    metric = build_metric({"type": "calculate_fid", "statistics": statistics})
    assert isinstance(metric, SetMetric)
    assert (metric.needs, metric.better) == (needs, "lower")


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"type": "calculate_psnrr"}, "type of a metric must be one of .*calculate_psnr, .*got 'calculate_psnrr'"),
        ({"type": "calculate_sparnet_psnr", "crop_border": 4}, "calculate_sparnet_psnr has no option 'crop_border'"),
        ({"type": "calculate_lpips", "nett": "vgg"}, "calculate_lpips has no option 'nett'"),
        ({"type": "calculate_lpips", "device": "cpu"}, "calculate_lpips has no option 'device'"),
        ({"type": "calculate_fid", "images": 1}, "calculate_fid has no option 'images'"),
        ({"type": "calculate_dic_ssim", "better": "more"}, "better must be one of higher, lower, got 'more'"),
    ],
)
def test_wrong_sections_are_refused(section: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build_metric(section)


def test_documentation_has_every_protocol() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for name, (section, summary, better, *_) in PROTOCOLS.items():
        options = yaml.safe_dump({key: section[key] for key in section if key != "type"}, sort_keys=False)
        options = f", `{', '.join(options.splitlines())}`" if len(section) > 1 else ""
        assert f"| `{name}` | `{section['type']}`{options} | {summary} | {better} |" in page


def test_every_metric_of_ours_is_in_a_protocol() -> None:
    types = {protocol.section["type"] for protocol in PROTOCOLS.values()}
    assert {name for name, _ in METRIC_REGISTRY.items()} <= types
