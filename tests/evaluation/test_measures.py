import re
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr_plugin.evaluation.measures import build_measures, choose_metrics, sections_of
from facesr_plugin.metrics.catalogue import PROTOCOLS

CPU = torch.device("cpu")


def build(names: list[str], given: set[str], **more):
    return build_measures(sections_of(names, {}, None), ["net", "other"], given, CPU, **more)


@pytest.mark.parametrize(
    ("given", "statistics", "num_points", "expected"),
    [
        ({"img"}, False, None, "niqe"),
        ({"img"}, True, None, "niqe fid"),
        ({"img", "img2"}, False, None, "psnr_rgb psnr_y ssim_rgb ssim_y lpips_alex fid identity"),
        ({"img", "points", "reference", "landmarks"}, False, 19, "niqe nme_box"),
        (
            {"img", "points", "reference", "landmarks"},
            False,
            68,
            "niqe nme_inter_ocular auc_inter_ocular failure_inter_ocular",
        ),
    ],
)
def test_choose_metrics_takes_what_can_be_measured(given, statistics, num_points, expected) -> None:
    assert choose_metrics(given, statistics=statistics, num_points=num_points) == expected.split()


def test_choose_metrics_cuts_out_faces_where_landmarks_are_known() -> None:
    chosen = choose_metrics({"img", "img2", "landmarks"}, statistics=False, num_points=5)
    assert "identity_aligned" in chosen
    assert set(chosen) <= PROTOCOLS.keys()


def test_sections_of_are_in_the_order_of_the_report_with_their_files() -> None:
    sections = sections_of(["fid", "psnr_y", "fid"], {}, "s.npz")
    assert list(sections) == ["psnr_y", "fid"]
    assert sections["fid"] == {"type": "calculate_fid", "statistics": "s.npz"}
    assert sections_of(["lpips_vgg"], {"lpips_vgg": Path("w.pth")}, None)["lpips_vgg"]["weights"] == "w.pth"


@pytest.mark.parametrize(
    ("names", "weights", "statistics", "text"),
    [
        (["psnr"], {}, None, "metrics must be some of psnr_rgb, .*, got 'psnr'"),
        (["psnr_y"], {"fid": "w"}, None, "must be for metrics that are measured, got one for 'fid'"),
        (["psnr_y"], {}, "s.npz", "must be for metrics that are measured, got one for 'fid'"),
        (["psnr_y"], {"psnr_y": "w"}, None, "must be for metrics with a network, got one for 'psnr_y'"),
    ],
)
def test_sections_of_refuse_what_has_no_effect(names, weights, statistics, text) -> None:
    with pytest.raises(ValueError, match=text):
        sections_of(names, weights, statistics)


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("psnr_y", {"img"}, "metric psnr_y needs the ground truth. Give GT_DIR, or leave it out of --metrics."),
        ("nme_box", {"img"}, "metric nme_box needs the true landmarks. Give --landmarks"),
        ("nme_box", {"img", "reference"}, "needs the landmarks of the restored faces. Give --landmark-model"),
        ("jasrnet_box_psnr", {"img", "img2"}, "needs the true landmarks"),
    ],
)
def test_build_measures_names_what_a_metric_lacks(name: str, given: set[str], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        build([name], given)


def test_build_measures_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = build(
        ["psnr_y", "identity", "nme_box"], {"img", "img2", "points", "reference"}, out_of_reach={"points": "no model"}
    )
    assert [measure.name for measure in found.measures] == ["psnr_y"]
    assert "facesr weights fetch arcface" in found.missing["identity"]
    assert found.missing["nme_box"] == "no model"


def test_metrics_of_landmarks_are_measured_face_by_face() -> None:
    found = build(["nme_box", "failure_inter_ocular"], {"img", "points", "reference"})
    assert all(measure.per_face for measure in found.measures)
    reference = np.random.default_rng(0).random((2, 68, 2)) * 100
    points = reference + np.array([[[3, 4]], [[0, 0]]])
    boxes = np.array([[0, 0, 100, 100]] * 2)
    batch = {"points": points, "reference": reference, "boxes": boxes, "img": np.zeros((2, 1, 1, 3), np.uint8)}
    assert found.of_faces["nme_box"].measure(batch).tolist() == [0.05, 0]
    assert found.of_faces["failure_inter_ocular"].measure(batch)[1] == 0
