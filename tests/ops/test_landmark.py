import numpy as np
import pytest

from facesr_plugin.ops.landmark import LAYOUTS, five_points, flip_permutation, group_matrix, points_68


def numbered(count: int) -> np.ndarray:
    """Points that tell their index: (k, 1000 - k)."""
    return np.stack([np.arange(count), 1000 - np.arange(count)], -1).astype(np.float32)


def test_points_68_of_98_are_those_of_facexlib():
    from facexlib.alignment import landmark_98_to_68

    points = np.random.default_rng(0).uniform(0, 256, (98, 2)).astype(np.float32)
    assert np.allclose(points_68(points), landmark_98_to_68(points), atol=1e-5)


def test_points_68_takes_many_faces_and_leaves_68_alone():
    points = np.random.default_rng(0).uniform(0, 256, (3, 98, 2))
    assert np.array_equal(points_68(points)[1], points_68(points[1]))
    assert np.array_equal(points_68(points[:, :68]), points[:, :68])


def test_points_68_rejects_other_layouts():
    with pytest.raises(ValueError, match="must have 68 or 98 points to give 68, got 194"):
        points_68(np.zeros((2, 194, 2)))


def test_five_points_of_68():
    expected = [38.5, 44.5, 30, 48, 54]
    assert five_points(numbered(68))[:, 0].tolist() == expected
    assert five_points(np.stack([numbered(68)] * 2)).shape == (2, 5, 2)


def test_five_points_of_98_lie_where_the_pupils_are():
    eyes = [np.mean([60, 61, 63, 64, 65, 67]), np.mean([68, 69, 71, 72, 73, 75])]
    assert np.allclose(five_points(numbered(98))[:, 0], [*eyes, 54, 76, 82])


def test_five_points_leaves_5_alone_and_rejects_others():
    assert np.array_equal(five_points(numbered(5)), numbered(5))
    with pytest.raises(ValueError, match="must have 5, 19, 68 or 98 points to give 5, got 194"):
        five_points(np.zeros((194, 2)))


def test_five_points_of_19_change_places_in_the_mirrored_face():
    five = five_points(numbered(19))
    assert five[:, 0].tolist() == [7, 10, 13, 15, 17]
    mirrored = five_points(numbered(19)[flip_permutation(19)])
    assert np.array_equal(mirrored, five[flip_permutation(5)])


@pytest.mark.parametrize("num_points", LAYOUTS)
def test_flip_permutation_is_its_own_inverse(num_points):
    table = flip_permutation(num_points)
    assert sorted(table) == list(range(num_points))
    assert np.array_equal(table[table], np.arange(num_points))


def test_flip_permutation_of_68_points_exchanges_the_eyes():
    table = flip_permutation(68)
    assert table[[36, 37, 38, 39, 40, 41]].tolist() == [45, 44, 43, 42, 47, 46]
    assert table[[0, 8, 17, 21, 27, 30, 31, 33]].tolist() == [16, 8, 26, 22, 27, 30, 35, 33]
    assert table[[48, 51, 55, 57, 60, 62, 65, 66]].tolist() == [54, 51, 59, 57, 64, 62, 67, 66]


def test_released_flip_permutation_leaves_each_eye_its_points():
    table, correct = flip_permutation(68, released=True), flip_permutation(68)
    assert table[36:48].tolist() == [39, 38, 37, 36, 41, 40, 45, 44, 43, 42, 47, 46]
    assert np.array_equal(np.delete(table, range(36, 48)), np.delete(correct, range(36, 48)))
    with pytest.raises(ValueError, match="must have 68 points to be mirrored, got 5"):
        flip_permutation(5, released=True)


def test_flip_permutation_of_98_points_agrees_with_that_of_68():
    """Mirroring, then taking 68 of 98, is taking 68, then mirroring."""
    points = np.random.default_rng(0).uniform(0, 256, (98, 2))
    before, after = points_68(points[flip_permutation(98)]), points_68(points)[flip_permutation(68)]
    assert np.allclose(before, after)


def test_flip_permutation_of_98_points_exchanges_what_68_points_have_not():
    assert flip_permutation(98)[[1, 62, 66, 96]].tolist() == [31, 70, 74, 97]


def test_flip_permutation_of_68_points_agrees_with_that_of_5():
    points = np.random.default_rng(0).uniform(0, 256, (68, 2))
    assert np.allclose(five_points(points[flip_permutation(68)]), five_points(points)[flip_permutation(5)])


def test_flip_permutation_of_19_and_194_points():
    assert flip_permutation(19)[[0, 5, 6, 13, 15, 18]].tolist() == [5, 0, 11, 13, 17, 18]
    assert flip_permutation(194)[[0, 20, 41, 114, 133, 154, 193]].tolist() == [40, 20, 57, 134, 153, 174, 173]


def test_flip_permutation_rejects_other_numbers():
    with pytest.raises(ValueError, match="landmarks must have 5, 19, 68, 98, 194 points to be mirrored, got 29"):
        flip_permutation(29)


def test_group_matrix_of_68_points_gives_each_point_to_one_group():
    matrix = group_matrix(68)
    assert matrix.sum(1).tolist() == [6, 6, 9, 20, 27]
    assert (matrix.sum(0) == 1).all()
    assert matrix[:, [36, 47, 30, 48, 0, 26]].argmax(0).tolist() == [0, 1, 2, 3, 4, 4]


def test_group_matrix_of_5_points_gives_each_its_own():
    assert np.array_equal(group_matrix(5), np.eye(5))


def test_group_matrix_of_194_points_leaves_out_the_ends_of_contours_unless_told():
    released, whole = group_matrix(194), group_matrix(194, whole_contours=True)
    assert released.sum(1).tolist() == [38, 38, 16, 55, 40]
    assert np.flatnonzero((whole - released).sum(0)).tolist() == [40, 57, 113, 133, 153, 173, 193]
    assert (whole.sum(0) == 1).all()


@pytest.mark.parametrize("num_points", [68, 194])
def test_group_matrix_of_the_mirrored_face_has_the_eyes_exchanged(num_points):
    matrix = group_matrix(num_points, whole_contours=num_points == 194)
    assert np.array_equal(matrix[:, flip_permutation(num_points)], matrix[[1, 0, 2, 3, 4]])


def test_group_matrix_refuses_other_layouts():
    with pytest.raises(ValueError, match="num_landmarks must be one of 5, 68, 194 to be merged into groups, got 98"):
        group_matrix(98)
    with pytest.raises(ValueError, match="whole_contours must be false unless num_landmarks is 194, got it with 5"):
        group_matrix(5, whole_contours=True)
