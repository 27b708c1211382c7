"""System cards: the facts of each protocol, and their consistency with what is registered."""

from __future__ import annotations

import dataclasses

import pytest

from facesr_plugin.cards import CARDS, SystemCard, get_card


def test_sparnet_card_has_the_published_protocol() -> None:
    card = get_card("sparnet")
    assert (card.lq_size, card.scale, card.gt_size) == (16, 8, 128)
    assert card.mean == card.std == (0.5, 0.5, 0.5)
    assert card.output_rounding == "truncate"


def test_sparnethd_card_takes_files_resized_to_the_size_of_its_output() -> None:
    card = get_card("sparnethd")
    assert (card.lq_size, card.scale, card.gt_size) == (512, 1, 512)
    assert (card.upsampling.library, card.upsampling.kernel) == ("pil", "bicubic")
    assert (card.framing, card.size_multiple, card.output_rounding) == ("ffhq", 16, "truncate")


def test_progressive_card_takes_the_small_image_of_the_published_chain() -> None:
    card = get_card("progressive")
    assert (card.lq_size, card.scale, card.gt_size) == (16, 8, 128)
    assert (card.upsampling, card.reduction.kernel, card.reduction.factors(8)) == (None, "bilinear", [2, 2, 2])
    assert (card.framing, card.size_multiple, card.output_rounding) == ("celeba", 1, "round")


def test_dic_card_takes_the_small_image_minus_the_mean_of_celeba() -> None:
    card = get_card("dic")
    assert (card.lq_size, card.scale, card.gt_size, card.num_landmarks) == (16, 8, 128, 68)
    assert (card.mean, card.std) == ((0.509, 0.424, 0.378), (1.0, 1.0, 1.0))
    assert (card.upsampling, card.reduction.kernel, card.reduction.factors(8)) == (None, "bicubic", [8])
    assert (card.size_multiple, card.output_rounding) == (8, "round")


def test_dic_card_counts_its_multiple_in_the_small_image() -> None:
    assert get_card("dic").sized(192).lq_size == 24
    with pytest.raises(ValueError, match="faces of dic must have a multiple of 64 pixels, at most 4096, got 72"):
        get_card("dic").sized(72)


@pytest.mark.parametrize(("system", "gt_size", "lq_size"), [("sparnethd", 128, 128), ("sparnet", 64, 8)])
def test_card_of_another_size_keeps_the_scale(system: str, gt_size: int, lq_size: int) -> None:
    card = get_card(system).sized(gt_size)
    assert (card.lq_size, card.gt_size) == (lq_size, gt_size)
    assert dataclasses.replace(card, lq_size=get_card(system).lq_size) == get_card(system)


def test_jasrnet_card_enlarges_the_small_image_with_opencv() -> None:
    card = get_card("jasrnet")
    assert (card.lq_size, card.scale, card.gt_size, card.num_landmarks) == (16, 8, 128, 68)
    assert (card.upsampling.library, card.upsampling.kernel, card.reduction.kernel) == ("opencv", "bicubic", "bicubic")
    assert (card.mean, card.std, card.output_rounding) == ((0, 0, 0), (1, 1, 1), "round")


@pytest.mark.parametrize(("gt_size", "scale", "lq_size"), [(256, 4, 64), (256, 2, 128), (96, 3, 32)])
def test_card_of_another_reduction_has_its_small_size(gt_size: int, scale: int, lq_size: int) -> None:
    card = get_card("jasrnet").sized(gt_size, scale)
    assert (card.lq_size, card.scale, card.gt_size) == (lq_size, scale, gt_size)


@pytest.mark.parametrize(("gt_size", "scale", "step"), [(256, 3, 24), (60, 4, 8), (128, 0, 0), (128, -8, 0)])
def test_card_refuses_sizes_that_its_reduction_cannot_give(gt_size: int, scale: int, step: int) -> None:
    message = f"faces of jasrnet must have a multiple of {step} pixels, at most 4096, got {gt_size}"
    with pytest.raises(ValueError, match=message):
        get_card("jasrnet").sized(gt_size, scale)


def test_card_of_another_range_maps_white_to_it() -> None:
    card = get_card("jasrnet").in_range(255)
    assert [(1 - mean) / std for mean, std in zip(card.mean, card.std, strict=True)] == [255, 255, 255]


@pytest.mark.parametrize("gt_size", [0, 20, 65536])
def test_card_refuses_sizes_that_its_networks_cannot_have(gt_size: int) -> None:
    message = f"faces of sparnethd must have a multiple of 16 pixels, at most 4096, got {gt_size}"
    with pytest.raises(ValueError, match=message):
        get_card("sparnethd").sized(gt_size)


def test_unknown_system_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="system must be one of .*sparnet.*, got 'sparnt'"):
        get_card("sparnt")


def test_cards_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_card("sparnet").scale = 4


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.system)
def test_card_is_consistent(card: SystemCard) -> None:
    import facesr_plugin.archs  # noqa: F401
    from facesr_plugin.registry import ARCH_REGISTRY

    assert card.arch in ARCH_REGISTRY
    assert card.output_rounding in ("truncate", "round")
    assert card.gt_size % card.size_multiple == 0
    assert len(card.mean) == len(card.std) == 3
    assert all(value > 0 for value in card.std)
