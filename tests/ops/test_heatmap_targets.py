"""Targets and decoder of heatmaps whose cells cover several pixels."""

import numpy as np
import pytest
import torch

from facesr_plugin.ops.heatmap_targets import decode_centroid, render_targets
from facesr_plugin.ops.landmark import flip_permutation
from helpers.jasrnet_literal import literal_targets


def points(*shape, low=0.0, high=128.0, seed=0):
    return torch.rand(*shape, 2, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


@pytest.mark.parametrize("kind", ["gaussian", "laplacian"])
@pytest.mark.parametrize(("stride", "sigma"), [(8, 4.0), (4, 3.0), (1, 1.5), (3, 8.0), (16, 5.0)])
def test_render_targets_equals_the_formulas_cell_by_cell(kind, stride, sigma):
    size = (48, 96)
    landmarks = points(2, 5, low=-5, high=100)
    found = render_targets(landmarks, size, stride, sigma, kind)
    for image, heatmaps, mask in zip(landmarks, found.heatmaps, found.mask, strict=True):
        expected, visible = literal_targets(image.numpy(), size, stride, sigma, kind)
        np.testing.assert_allclose(heatmaps, expected, atol=1e-7)
        assert np.array_equal(mask.flatten(), visible)


def test_render_targets_peaks_at_one_on_a_cells_centre():
    found = render_targets(torch.tensor([[[3.5, 11.5]]]), (32, 32))
    assert found.heatmaps[0, 0, 1, 0] == 1
    assert found.heatmaps[0, 0].max() == 1
    assert found.heatmaps[0, 1, 1, 0] == 0


@pytest.mark.parametrize(
    ("point", "visible"),
    [((0, 0), 1), ((64, 32), 1), ((64.01, 5), 0), ((5, 32.01), 0), ((-0.01, 5), 0), ((np.nan, np.nan), 0)],
)
def test_render_targets_shows_points_up_to_the_border_inclusive(point, visible):
    found = render_targets(torch.tensor([[point]], dtype=torch.float32), (32, 64))
    assert found.mask.flatten().tolist() == [visible, 1]
    assert (found.heatmaps[0, 0].max() > 0) == bool(visible)
    assert torch.equal(found.heatmaps[0, 1], 1 - found.heatmaps[0, 0])


def test_render_targets_cuts_small_values_off():
    found = render_targets(points(1, 68), (128, 128)).heatmaps[:, :-1]
    assert found[found > 0].min() >= 0.01
    assert found.max() <= 1


@pytest.mark.parametrize("count", [5, 19, 68, 194])
def test_targets_of_the_mirrored_face_are_the_mirrored_targets(count):
    landmarks = points(2, count, high=127)
    permutation = flip_permutation(count)
    mirrored = landmarks[:, permutation].clone()
    mirrored[..., 0] = 127 - mirrored[..., 0]
    found, expected = (render_targets(given, (128, 128)).heatmaps for given in (mirrored, landmarks))
    channels = [*permutation.tolist(), count]
    torch.testing.assert_close(found, expected[:, channels].flip(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "box"}, "kind must be one of gaussian, laplacian, got 'box'"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"sigma": 0}, "sigma must be positive, got 0"),
        ({"size": (128, 60)}, r"size must be multiples of the stride 8, got \(128, 60\)"),
        ({"landmarks": torch.zeros(1, 3)}, r"landmarks must be float and have shape \(N, K, 2\)"),
    ],
)
def test_render_targets_refuses(change, text):
    with pytest.raises(ValueError, match=text):
        render_targets(**{"landmarks": torch.zeros(1, 2, 2), "size": (128, 128), **change})


def test_decode_centroid_is_exact_to_a_fifth_of_a_pixel():
    landmarks = points(8, 68, low=36, high=92)
    found = decode_centroid(render_targets(landmarks, (128, 128)).heatmaps[:, :-1])
    error = (found.points - landmarks).norm(dim=-1)
    assert error.mean() < 0.2
    assert error.max() < 0.3


def test_decode_centroid_official_is_as_far_off_as_the_released_lines_of_today():
    landmarks = points(8, 68, low=16, high=112)
    found = decode_centroid(render_targets(landmarks, (128, 128)).heatmaps[:, :-1], mode="official")
    assert 2.5 < (found.points - landmarks).norm(dim=-1).mean() < 3


def test_decode_centroid_of_nothing_is_the_middle_of_the_first_cell():
    found = decode_centroid(torch.zeros(1, 2, 16, 16))
    torch.testing.assert_close(found.points, torch.full((1, 2, 2), 3.5))
    assert torch.equal(found.score, torch.zeros(1, 2))


def test_decode_centroid_of_no_numbers_is_no_number():
    maps = torch.zeros(1, 2, 16, 16)
    maps[0, 0, 4, 4] = torch.nan
    assert decode_centroid(maps).points.isnan().tolist() == [[[True, True], [False, False]]]


def test_decode_centroid_keeps_to_its_window():
    maps = torch.zeros(1, 1, 16, 24)
    maps[0, 0, 8, 4] = 1
    maps[0, 0, 8, 9] = 0.9  # five cells away
    found = decode_centroid(maps, stride=4)
    assert found.points.tolist() == [[[17.5, 33.5]]]
    maps[0, 0, 8, 8] = 0.5  # four cells away
    assert decode_centroid(maps, stride=4).points[0, 0, 0].item() == pytest.approx(17.5 + 4 * 4 / 3)


def test_decode_centroid_of_a_batch_is_that_of_each_image():
    maps = torch.rand(3, 4, 12, 16, generator=torch.Generator().manual_seed(1))
    found = decode_centroid(maps)
    assert torch.equal(found.points[1:2], decode_centroid(maps[1:2]).points)
    assert torch.equal(found.score, maps.flatten(2).max(2).values)


@pytest.mark.parametrize(
    ("maps", "mode", "text"),
    [
        (torch.zeros(1, 1, 4, 4), "today", "mode must be one of subpixel, official, got 'today'"),
        (torch.zeros(1, 4, 4), "subpixel", r"heatmaps must have shape \(N, K, H, W\), got \(1, 4, 4\)"),
    ],
)
def test_decode_centroid_refuses(maps, mode, text):
    with pytest.raises(ValueError, match=text):
        decode_centroid(maps, mode=mode)
