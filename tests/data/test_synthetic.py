"""Synthetic faces: determinism, landmarks, size and arguments."""

import warnings

import numpy as np
import pytest

from facesr_plugin.data.synthetic import MAX_SIZE, MIN_SIZE, generate_face

SEEDS = range(6)


@pytest.fixture(scope="module")
def faces() -> list[tuple[np.ndarray, np.ndarray]]:
    return [generate_face(seed, 64) for seed in SEEDS]


def test_generate_face_gives_rgb_and_68_points() -> None:
    image, landmarks = generate_face(0)
    assert image.shape == (128, 128, 3)
    assert image.dtype == np.uint8
    assert landmarks.shape == (68, 2)
    assert landmarks.dtype == np.float32


def test_generate_face_repeats_itself(faces: list[tuple[np.ndarray, np.ndarray]]) -> None:
    image, landmarks = generate_face(3, 64)
    np.testing.assert_array_equal(image, faces[3][0])
    np.testing.assert_array_equal(landmarks, faces[3][1])


def test_generate_face_neither_reads_nor_moves_the_global_generator(faces: list[tuple[np.ndarray, np.ndarray]]) -> None:
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    image, _ = generate_face(1, 64)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(image, faces[1][0])


def test_generate_face_differs_by_seed(faces: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for one, other in zip(faces, faces[1:], strict=False):
        assert np.abs(one[0].astype(int) - other[0]).mean() > 8
        assert np.abs(one[1] - other[1]).max() > 0.5


def test_generate_face_landmarks_lie_in_the_image(faces: list[tuple[np.ndarray, np.ndarray]]) -> None:
    points = np.stack([landmarks for _, landmarks in faces])
    assert ((points > -0.5) & (points < 63.5)).all(axis=-1).mean() > 0.97


def test_generate_face_is_framed_like_aligned_faces(faces: list[tuple[np.ndarray, np.ndarray]]) -> None:
    points = 2 * np.stack([landmarks for _, landmarks in faces]) + 0.5
    left, right = points[:, 36:42].mean(axis=1), points[:, 42:48].mean(axis=1)
    np.testing.assert_allclose(right[:, 0] - left[:, 0], 35, atol=6)
    np.testing.assert_allclose(0.5 * (left + right)[:, 1], 53, atol=5)
    np.testing.assert_allclose(points[:, 48:60].mean(axis=1)[:, 1], 91, atol=6)


def test_generate_face_landmarks_have_ibug_order(faces: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, points in faces:
        x, y = points.T
        for row in (
            [0, 8, 16],
            [17, 21, 22, 26],
            [31, 33, 35],
            [36, 39, 42, 45],
            [48, 51, 54],
            [60, 62, 64],
            [60, 66, 64],
        ):
            assert (np.diff(x[row]) > 0).all()
        for column in ([27, 28, 29, 30, 33, 51, 57, 8], [37, 41], [38, 40], [43, 47], [44, 46], [51, 62, 66, 57]):
            assert (np.diff(y[column]) > 0).all()


@pytest.mark.parametrize("seed", [0, 4])
def test_generate_face_scales_its_landmarks(seed: int) -> None:
    small, large = generate_face(seed, 64)[1], generate_face(seed, 128)[1]
    np.testing.assert_allclose(large, (small + 0.5) * 2 - 0.5, atol=1e-3)


def test_generate_face_keeps_its_look_when_larger() -> None:
    small, large = generate_face(2, 64)[0].astype(float), generate_face(2, 128)[0].astype(float)
    reduced = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(reduced.ravel(), small.ravel())[0, 1] > 0.93


def test_generate_face_eyes_and_lips_stand_out_at_the_landmarks() -> None:
    image, points = generate_face(2, 256)
    iris = points[[37, 38, 40, 41]].mean(axis=0)
    cheek = 0.5 * (points[36] + points[48])
    at = [image[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean() for x, y in (iris, cheek)]
    assert at[0] < 0.8 * at[1]


@pytest.mark.parametrize(
    ("seed", "size", "error", "text"),
    [
        (-1, 128, ValueError, "seed must not be negative, got -1"),
        (0, 16, ValueError, "size must be from 32 to"),
        (0, MAX_SIZE + 1, ValueError, "size must be from 32 to"),
        (0.5, 128, TypeError, "seed must be an integer, got 0.5"),
        (0, "128", TypeError, "size must be an integer, got '128'"),
    ],
)
def test_generate_face_refuses_bad_arguments(seed: object, size: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        generate_face(seed, size)


def test_generate_face_makes_the_smallest_size_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(4):
            generate_face(seed, MIN_SIZE)
