import numpy as np
import pytest

from facesr_plugin.metrics.landmark_metric import (
    calculate_landmark_auc,
    calculate_landmark_failure_rate,
    calculate_nme,
    calculate_nrmse,
    ced_curve,
    landmark_errors,
)
from facesr_plugin.ops.landmark import flip_permutation
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
        ("diagonal", {}, 50),
        ("diagonal", {"boxes": np.array([[1, 1, 4, 5]])}, 5),
        ("image", {"image_size": np.array([[64, 36]])}, 48),
    ],
)
def test_landmark_errors_are_divided_by_the_named_length(normaliser, more, length):
    errors = landmark_errors(square() + [0, 4], square(), normaliser=normaliser, **more)
    assert errors == pytest.approx([4 / length])


@pytest.mark.parametrize(("count", "corners"), [(49, (19, 28)), (51, (19, 28)), (68, (36, 45)), (98, (60, 72))])
def test_inter_ocular_is_between_the_outer_eye_corners(count, corners):
    points = np.zeros((1, count, 2))
    points[:, corners[1]] = 6, 8
    assert landmark_errors(points + 1, points) == pytest.approx([np.sqrt(2) / 10])
    with pytest.raises(ValueError, match="needs both outer eye corners, which are not visible in face 0"):
        landmark_errors(points, points, visible=np.arange(count)[None] != corners[0])


@pytest.mark.parametrize(
    ("count", "eye"), [(5, 1), (19, 10), (51, slice(25, 31)), (68, slice(42, 48)), (98, slice(68, 76))]
)
def test_inter_pupil_is_between_the_eyes(count, eye):
    points = np.zeros((1, count, 2))
    points[:, eye] = 6, 8
    assert landmark_errors(points + 1, points, normaliser="inter_pupil") == pytest.approx([np.sqrt(2) / 10])


@pytest.mark.parametrize("count", [5, 19, 68, 98, 194])
def test_the_eyes_change_places_in_the_mirrored_face(count):
    points = np.random.default_rng(0).uniform(0, 50, (3, count, 2))
    mirrored = points[:, flip_permutation(count)] * [-1, 1]
    found = [landmark_errors(truth + 1, truth, normaliser="inter_pupil") for truth in (points, mirrored)]
    assert found[0] == pytest.approx(found[1])


def test_unknown_points_of_the_reference_do_not_count():
    reference, points = square(5), square(5) + [0, 4]
    reference[0, 2] = np.nan
    assert landmark_errors(points, reference, normaliser="box") == pytest.approx([4 / np.sqrt(1200)])
    seen = np.array([[True, False, True, False, True]])
    assert landmark_errors(points, reference, normaliser="box", visible=seen) == pytest.approx([4 / np.sqrt(1200)])
    with pytest.raises(ValueError, match="inter_pupil needs all points of both eyes, .* not visible in face 0"):
        landmark_errors(points, reference, normaliser="inter_pupil", visible=seen)


def test_ced_curve_counts_errors_below_each_threshold():
    assert ced_curve(np.array([0.3, 0.1, 0.2]), np.array([0, 0.1, 0.15, 0.3, 1])) == pytest.approx(
        [0, 0, 1 / 3, 2 / 3, 1]
    )
    with pytest.raises(ValueError, match=r"errors must have shape \(N\), N >= 1, got \(0,\)"):
        ced_curve(np.zeros(0), np.zeros(1))


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
        ({"normaliser": "nose"}, "normaliser must be one of inter_ocular, inter_pupil, box, .*, got 'nose'"),
        ({"reference": square(5)}, r"must both have shape \(N, K, 2\), N >= 1, got \(1, 68, 2\) and \(1, 5, 2\)"),
        ({"points": np.zeros((0, 68, 2)), "reference": np.zeros((0, 68, 2))}, "N >= 1"),
        ({"visible": np.zeros((1, 68), bool)}, "faces must have a visible point each, got none in face 0"),
        ({"reference": np.full((1, 68, 2), np.nan)}, "faces must have a visible point each, got none in face 0"),
        ({"visible": np.ones((1, 5), bool)}, r"visible must have shape \(1, 68\), got \(1, 5\)"),
        ({"normaliser": "image"}, r"normaliser image needs image_size \(N, 2\)"),
        ({}, "normaliser inter_ocular must be one positive length per face"),
        (
            {"points": square(19), "reference": square(19)},
            "inter_ocular needs .* of 49, 51, 68, 98 points, got 19",
        ),
        (
            {"points": square(21), "reference": square(21), "normaliser": "inter_pupil"},
            "inter_pupil needs all points of both eyes, known of 5, .*, got 21 points. Use box",
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


def test_nrmse_is_the_root_of_the_mean_square() -> None:
    reference = square()
    points = reference.copy()
    points[0, :17] += [3, 4]  # a quarter of the points is off by 5
    assert calculate_nrmse(points, reference, normaliser="width") == pytest.approx(2.5 / 30)
    assert calculate_nme(points, reference, normaliser="width") == pytest.approx(1.25 / 30)


@pytest.mark.parametrize(
    ("normaliser", "length"),
    [("dic_eye_outer_width", 40), ("dic_eye_dist", 32), ("dic_inter_ocular", 50), ("inter_ocular", 20)],
)
def test_nrmse_has_the_published_normalisers_beside_the_intended_ones(normaliser: str, length: float) -> None:
    reference = square()
    reference[0, 45] = 20, 0  # outer corner of the right eye
    reference[0, 46] = 40, 30  # its neighbour
    reference[0, 43], reference[0, 37], reference[0, 40] = (30, 7), (0, 0), (6, 2)
    error = calculate_nrmse(reference + [0, 4], reference, normaliser=normaliser)
    assert error == pytest.approx(4 / length)


def test_nrmse_refuses_the_published_normalisers_for_other_points() -> None:
    with pytest.raises(ValueError, match="dic_eye_dist needs four points of the eyes, known of 68 points, got 194"):
        calculate_nrmse(square(194), square(194), normaliser="dic_eye_dist")
