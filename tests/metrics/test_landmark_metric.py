import numpy as np
import pytest

from facesr_plugin.metrics.landmark_metric import (
    calculate_landmark_auc,
    calculate_landmark_failure_rate,
    calculate_nme,
    landmark_errors,
)
from facesr_plugin.registry import METRIC_REGISTRY
from helpers.fill import uniform


def reference_faces(count: int, amplitude: float, always_visible: list[int], seed: int) -> dict[str, np.ndarray]:
    """The 12 faces of JASRNet's reference: see ``uniform``; later faces have larger errors."""
    gt = [np.float32([[20], [15]]) + np.float32([[90], [95]]) * uniform(f"gt{m}", (2, count), seed) for m in range(12)]
    visible = np.array([uniform(f"gtvis{m}", (count,), seed) < 0.9 for m in range(12)])
    visible[:, always_visible] = True
    delta = [(uniform(f"delta{m}", (2, count), seed) - 0.5) * 2 * amplitude * (m + 1) for m in range(12)]
    reference = np.array(gt).transpose(0, 2, 1)
    points = reference + np.array(delta).transpose(0, 2, 1)
    boxes = np.concatenate([reference.min(1), reference.max(1)], axis=1)
    return {"points": points, "reference": reference, "visible": visible, "boxes": boxes}


def test_metrics_agree_with_jasrnet_on_68_points():
    faces = reference_faces(68, 1.2, [36, 45], seed=0)
    assert 100 * calculate_nme(**faces) == pytest.approx(12.81365571388354, rel=1e-5)
    for limit, area, accuracy in ((0.07, 12.387443721860933, 25), (0.08, 15.117975654493915, 500 / 12)):
        assert 100 * calculate_landmark_auc(**faces, limit=limit) == pytest.approx(area, abs=100 / 2000)
        assert 100 * calculate_landmark_failure_rate(**faces, limit=limit) == pytest.approx(100 - accuracy)


def test_metrics_agree_with_jasrnet_on_19_points():
    faces = reference_faces(19, 1.5, [], seed=1)
    assert 100 * calculate_nme(**faces, normaliser="box") == pytest.approx(9.657142109548051, rel=1e-5)
    area = 100 * calculate_landmark_auc(**faces, normaliser="box", limit=0.07)
    assert area == pytest.approx(16.527013506753377, abs=100 / 2000)


def square(count: int = 68) -> np.ndarray:
    """A face whose points are all at (0, 0) but for a few at (30, 40)."""
    points = np.zeros((1, count, 2))
    points[:, -1] = 30, 40
    return points


@pytest.mark.parametrize(
    ("normaliser", "more", "length"),
    [
        ("box", {}, np.sqrt(30 * 40)),
        ("box", {"boxes": np.array([[1, 1, 5, 17]])}, 8),
        ("image", {"image_size": np.array([[64, 36]])}, 48),
    ],
)
def test_landmark_errors_are_divided_by_the_named_length(normaliser, more, length):
    errors = landmark_errors(square() + [0, 4], square(), normaliser=normaliser, **more)
    assert errors == pytest.approx([4 / length])


@pytest.mark.parametrize(("count", "corners"), [(68, (36, 45)), (98, (60, 72))])
def test_inter_ocular_is_between_the_outer_eye_corners(count, corners):
    points = np.zeros((1, count, 2))
    points[:, corners[1]] = 6, 8
    assert landmark_errors(points + 1, points) == pytest.approx([np.sqrt(2) / 10])
    with pytest.raises(ValueError, match="needs both outer eye corners, which are not visible in face 0"):
        landmark_errors(points, points, visible=np.arange(count)[None] != corners[0])


@pytest.mark.parametrize("count", [5, 68, 98])
def test_inter_pupil_is_between_the_eyes(count):
    points = np.zeros((1, count, 2))
    points[:, {5: 1, 68: slice(42, 48), 98: slice(68, 76)}[count]] = 6, 8
    assert landmark_errors(points + 1, points, normaliser="inter_pupil") == pytest.approx([np.sqrt(2) / 10])


def test_points_that_are_not_visible_do_not_count():
    reference, points = square(5), square(5) + [0, 4]
    points[0, 2], visible = np.nan, np.array([[True, True, False, True, True]])
    assert landmark_errors(points, reference, normaliser="box", visible=visible) == pytest.approx([4 / np.sqrt(1200)])


def test_auc_and_failure_rate_of_known_errors():
    reference = np.repeat(square(5), 4, axis=0)
    shift = np.array([0, 0.02, 0.06, 0.10])[:, None, None] * [0, 10]
    sides = {"normaliser": "image", "image_size": np.full((4, 2), 10)}
    assert calculate_nme(reference + shift, reference, **sides) == pytest.approx(0.045)
    assert calculate_landmark_auc(reference + shift, reference, limit=0.08, **sides) == pytest.approx(
        (1 + 0.75 + 0.25 + 0) / 4
    )
    assert calculate_landmark_failure_rate(reference + shift, reference, limit=0.08, **sides) == 0.25


def test_landmark_metrics_are_registered_and_ignore_other_keys():
    metric = METRIC_REGISTRY.get("calculate_nme")
    assert metric(square() + 1, square(), normaliser="box", better="lower") == metric(
        square() + 1, square(), normaliser="box"
    )
    assert "calculate_landmark_auc" in METRIC_REGISTRY
    assert "calculate_landmark_failure_rate" in METRIC_REGISTRY


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"normaliser": "nose"}, "normaliser must be one of inter_ocular, inter_pupil, box, image, got 'nose'"),
        ({"reference": square(5)}, r"must both have shape \(N, K, 2\), N >= 1, got \(1, 68, 2\) and \(1, 5, 2\)"),
        ({"points": np.zeros((0, 68, 2)), "reference": np.zeros((0, 68, 2))}, "N >= 1"),
        ({"visible": np.zeros((1, 68), bool)}, "visible must have shape .* and a point of each face"),
        ({"visible": np.ones((1, 5), bool)}, r"visible must have shape \(1, 68\)"),
        ({"normaliser": "image"}, r"normaliser image needs image_size \(N, 2\)"),
        ({}, "normaliser inter_ocular must be one positive length per face"),
        ({"points": square(19), "reference": square(19)}, "inter_ocular needs .* 68 or 98 points, got 19 points"),
        (
            {"points": square(19), "reference": square(19), "normaliser": "inter_pupil"},
            "must have 5, 68 or 98 points to give 5, got 19",
        ),
    ],
)
def test_landmark_errors_tell_what_is_wrong(arguments, text):
    with pytest.raises(ValueError, match=text):
        landmark_errors(**{"points": square(), "reference": square(), **arguments})


@pytest.mark.parametrize("metric", [calculate_landmark_auc, calculate_landmark_failure_rate])
def test_limits_are_positive(metric):
    with pytest.raises(ValueError, match="limit must be positive, got 0"):
        metric(square(), square(), normaliser="box", limit=0)
