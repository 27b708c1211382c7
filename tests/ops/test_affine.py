import numpy as np
import pytest

from facesr_plugin.ops.affine import (
    FFHQ_TEMPLATE,
    fit_similarity,
    invert,
    rescale_source,
    rescale_target,
    scale_of,
    transform,
    warp_cubic,
)

POINTS = np.array(FFHQ_TEMPLATE)
TURN = np.array([[1.2, -0.5, 7.0], [0.5, 1.2, -30.0]])
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def random_image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def shifted(x: float, y: float) -> np.ndarray:
    return IDENTITY + [[0, 0, x], [0, 0, y]]


def catmull_rom(values: np.ndarray, t: float) -> float:
    """The interpolating cubic with tangents (p[i+1] - p[i-1]) / 2, as Catmull and Rom define it."""
    a, b, c, d = values.astype(float)
    return b + t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * b - 3 * c + d - a))) / 2


def test_fit_similarity_finds_the_matrix() -> None:
    np.testing.assert_allclose(fit_similarity(POINTS, transform(POINTS, TURN)), TURN, atol=1e-10)


def test_fit_similarity_is_the_least_squares_solution() -> None:
    target = transform(POINTS, TURN) + np.random.default_rng(0).normal(0, 5, POINTS.shape)
    x, y = POINTS.T
    one, zero = np.ones(5), np.zeros(5)
    system = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, u, v = np.linalg.lstsq(system, target.T.reshape(-1), rcond=None)[0]
    np.testing.assert_allclose(fit_similarity(POINTS, target), [[a, -b, u], [b, a, v]], atol=1e-8)


def test_fit_similarity_refuses_points_in_one_place() -> None:
    with pytest.raises(ValueError, match="points must not coincide"):
        fit_similarity(np.ones((5, 2)), POINTS)


@pytest.mark.parametrize("points", [np.ones((5, 3)), np.ones((4, 2)), np.ones((1, 2)), np.full((5, 2), np.nan)])
def test_fit_similarity_refuses_other_points(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="points must be"):
        fit_similarity(points, POINTS)


def test_invert_goes_back() -> None:
    np.testing.assert_allclose(transform(transform(POINTS, TURN), invert(TURN)), POINTS, atol=1e-9)
    with pytest.raises(ValueError, match="matrix must be finite and invertible"):
        invert(np.zeros((2, 3)))


def test_scale_of_is_the_length_of_a_pixel() -> None:
    assert scale_of(TURN) == pytest.approx(1.3)


def test_rescaling_keeps_the_corners() -> None:
    corner = np.array([-0.5, 7.5])
    np.testing.assert_allclose(transform(corner, rescale_target(IDENTITY, 4)), [-0.5, 31.5])
    np.testing.assert_allclose(transform([-0.5, 31.5], rescale_source(IDENTITY, 4)), corner)


def test_warp_cubic_keeps_an_image_in_place() -> None:
    image = random_image(9, 7, 3)
    np.testing.assert_array_equal(warp_cubic(image, IDENTITY, (9, 7)), image)


@pytest.mark.parametrize("t", [0.25, 0.5, 0.9])
def test_warp_cubic_is_catmull_rom(t: float) -> None:
    image = random_image(1, 12).astype(np.float32)
    row = warp_cubic(image, shifted(-t, 0), (1, 12))[0]
    expected = [catmull_rom(image[0, x - 1 : x + 3], t) for x in range(1, 10)]
    np.testing.assert_allclose(row[1:10], np.clip(expected, 0, image.max()), atol=1e-3)


def test_warp_cubic_takes_zero_outside() -> None:
    image = np.full((4, 4), 100, np.uint8)
    moved = warp_cubic(image, shifted(2.5, 0), (4, 8))
    assert moved[:, 0].max() == 0
    np.testing.assert_allclose(moved[:, 2], 50)
    assert moved.max() == 100  # overshoot is clipped


def test_warp_cubic_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    image = random_image(20, 30, 3)
    whole = warp_cubic(image, TURN, (16, 40))
    monkeypatch.setattr("facesr_plugin.ops.affine._CHUNK", 77)
    np.testing.assert_array_equal(warp_cubic(image, TURN, (16, 40)), whole)


def test_warp_cubic_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="image must have shape"):
        warp_cubic(np.zeros((0, 3)), IDENTITY, (2, 2))
