"""Heatmaps: drawn, decoded, brought to [0, 1]."""

from __future__ import annotations

import math

import pytest
import torch

from facesr_plugin.ops.heatmap import (
    decode_argmax,
    decode_subpixel,
    decode_two_peaks,
    merge_heatmaps,
    render_gaussian,
    scale_to_unit,
)


def test_render_gaussian_is_the_formula() -> None:
    maps = render_gaussian(torch.tensor([[[3.0, 1.5], [0.0, 0.0]]], dtype=torch.float64), (6, 8), sigma=1.2)
    assert maps.shape == (1, 2, 6, 8)
    assert maps.dtype == torch.float64
    assert maps[0, 0, 4, 1].item() == pytest.approx(math.exp(-(2.0**2 + 2.5**2) / (2 * 1.2**2)))
    assert maps[0, 1, 0, 0].item() == 1


def test_render_gaussian_is_exact_in_float32() -> None:
    landmarks = torch.rand(4, 68, 2) * 32
    exact = render_gaussian(landmarks.double(), (32, 32), sigma=1.0)
    assert (render_gaussian(landmarks, (32, 32), sigma=1.0) - exact).abs().max().item() < 1e-7


def test_render_gaussian_leaves_the_tail_of_a_point_outside_and_nothing_of_an_unknown_one() -> None:
    maps = render_gaussian(torch.tensor([[[-2.0, 3.0], [math.nan, 3.0]]]), (6, 8), sigma=1.0)
    assert maps[0, 0].max().item() == pytest.approx(math.exp(-2))
    assert maps[0, 1].count_nonzero() == 0


def test_render_gaussian_has_the_gradient_of_its_value() -> None:
    landmarks = torch.tensor([[[1.3, 2.2]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda points: render_gaussian(points, (4, 5), 1.5), landmarks)


@pytest.mark.parametrize("landmarks", [torch.zeros(2, 68, 3), torch.zeros(68, 2), torch.zeros(1, 68, 2).long()])
def test_render_gaussian_refuses_other_landmarks(landmarks: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"landmarks must be float and have shape \(N, K, 2\), got torch\."):
        render_gaussian(landmarks, (4, 4), 1.0)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_render_gaussian_refuses_a_sigma_that_is_not_positive(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be positive, got"):
        render_gaussian(torch.zeros(1, 1, 2), (4, 4), sigma)


@pytest.mark.parametrize(
    ("second", "decoded"),
    [
        ((5, 4), (3.25, 2.25)),
        ((3, 4), (2.75, 2.25)),  # on the same column: back
        ((5, 2), (3.25, 1.75)),
        ((1, 0), (2.75, 1.75)),
    ],
)
def test_decode_two_peaks_moves_towards_the_second_largest(second: tuple, decoded: tuple) -> None:
    maps = torch.zeros(1, 2, 6, 8) - 3
    maps[0, 0, 2, 3], maps[0, 0, second[1], second[0]] = -1, -2
    assert decode_two_peaks(maps)[0, 0].tolist() == list(decoded)


def test_decode_argmax_is_the_inverse_of_render_gaussian() -> None:
    landmarks = torch.tensor([[[0.0, 5.0], [7.0, 0.0]], [[3.0, 2.0], [6.0, 4.0]]])
    assert torch.equal(decode_argmax(render_gaussian(landmarks, (6, 8), 1.0)), landmarks)


@pytest.mark.parametrize(
    ("drawn", "decoded"),
    [
        ((3.3, 2.2), (3.25, 2.25)),
        ((2.7, 1.8), (2.75, 1.75)),
        ((3.0, 2.0), (3.0, 2.0)),  # neighbours of the same size
        ((3.3, 0.2), (3.0, 0.0)),  # first and last row and column
        ((3.3, 5.0), (3.0, 5.0)),
        ((0.3, 2.2), (0.0, 2.0)),
        ((7.0, 2.2), (7.0, 2.0)),
    ],
)
def test_decode_subpixel_moves_towards_the_larger_neighbour(
    drawn: tuple[float, float], decoded: tuple[float, float]
) -> None:
    maps = render_gaussian(torch.tensor([[drawn]]), (6, 8), 1.0)
    assert decode_subpixel(maps).squeeze().tolist() == pytest.approx(decoded)


@pytest.mark.parametrize("decode", [decode_argmax, decode_subpixel])
def test_decoding_refuses_other_shapes(decode: object) -> None:
    with pytest.raises(ValueError, match=r"heatmaps must have shape \(N, K, H, W\), got \(68, 4, 4\)"):
        decode(torch.zeros(68, 4, 4))


def test_scale_to_unit_takes_all_heatmaps_of_an_image_together() -> None:
    maps = torch.tensor([[[[-1.0, 0.0]], [[1.0, 3.0]]], [[[2.0, 2.0]], [[2.0, 4.0]]]])
    assert scale_to_unit(maps).flatten(1).tolist() == [[0, 0.25, 0.5, 1], [0, 0, 0, 1]]
    low = torch.tensor([-5.0, 3.0]).view(2, 1, 1, 1)
    assert scale_to_unit(maps, low).flatten(1).tolist() == [[0.5, 0.625, 0.75, 1], [-1, -1, -1, 1]]


def test_scale_to_unit_makes_an_image_of_one_value_0() -> None:
    assert torch.equal(scale_to_unit(torch.full((1, 2, 3, 3), 0.7)), torch.zeros(1, 2, 3, 3))


def test_scale_to_unit_has_the_gradient_of_its_value_at_the_extremes_too() -> None:
    maps = torch.linspace(-1, 2, 24, dtype=torch.float64).flip(0).roll(5).view(2, 2, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(scale_to_unit, maps)
    low = torch.full((2, 1, 1, 1), -1.1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: scale_to_unit(x, low), maps)


GROUPS = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def test_merge_heatmaps_adds_up_what_was_divided_by_its_peak() -> None:
    maps = torch.tensor([[[[1.0, 2.0]], [[-4.0, 4.0]], [[0.0, 8.0]]]])
    assert merge_heatmaps(maps, GROUPS).tolist() == [[[[-0.5, 2.0]], [[0.0, 1.0]]]]


def test_merge_heatmaps_divides_by_005_at_least() -> None:
    maps = torch.tensor([[[[0.01, -0.02]], [[-1.0, -2.0]], [[0.0, 0.1]]]])
    assert merge_heatmaps(maps, torch.eye(3)).flatten().tolist() == pytest.approx([0.2, -0.4, -20, -40, 0, 1])


def test_merge_heatmaps_has_the_gradient_of_its_value_through_the_peaks_too() -> None:
    maps = torch.randn(2, 3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: merge_heatmaps(x, GROUPS.double()), maps)


def test_merge_heatmaps_keeps_full_precision_under_autocast() -> None:
    maps = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        merged = merge_heatmaps(maps, GROUPS)
    assert torch.equal(merged, merge_heatmaps(maps, GROUPS))
