import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from facesr_plugin.cards import get_card
from facesr_plugin.data.transforms import make_lq
from facesr_plugin.ops.protocol import (
    denormalise,
    normalise,
    prepare_input,
    quantise,
    reduce_faces,
    to_float,
    to_uint8,
)

CARD = get_card("sparnet")


def test_prepare_input_enlarges_as_pillow_does():
    small = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize((128, 128), Image.Resampling.BICUBIC))
    expected = (torch.from_numpy(large.copy()).permute(2, 0, 1).float().div(255) - 0.5) / 0.5
    lq = to_float(torch.from_numpy(small).permute(2, 0, 1)[None])
    assert torch.equal(prepare_input(lq, CARD)[0], expected)


def test_prepare_input_does_not_round_images_of_the_target_size():
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prepare_input(images, CARD), (images - 0.5) / 0.5)


def test_prepare_input_takes_another_size():
    assert prepare_input(torch.zeros(1, 3, 20, 30), CARD, (160, 240)).shape == (1, 3, 160, 240)


def test_prepare_input_leaves_the_small_image_to_a_system_without_upsampling():
    card = dataclasses.replace(CARD, upsampling=None)
    assert prepare_input(torch.full((1, 3, 16, 16), 0.75), card).unique().tolist() == [0.5]
    with pytest.raises(ValueError, match=r"size must be that of lq, \(16, 16\), for system sparnet, got \(128, 128\)"):
        prepare_input(torch.zeros(1, 3, 16, 16), card, (128, 128))


def test_prepare_input_rejects_other_shapes():
    with pytest.raises(ValueError, match=r"lq must have shape \(N, 3, h, w\), got \(3, 16, 16\)"):
        prepare_input(torch.zeros(3, 16, 16), CARD)


def test_to_uint8_inverts_to_float():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)


def test_denormalise_inverts_normalise():
    images = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(denormalise(normalise(images, CARD), CARD), images, atol=1e-7)


def test_normalise_uses_each_channel_its_own_statistics():
    card = dataclasses.replace(CARD, mean=(0.0, 0.25, 0.5), std=(1.0, 0.5, 0.25))
    assert normalise(torch.full((1, 3, 1, 1), 0.75), card).flatten().tolist() == [0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("rounding", "expected"), [("truncate", [0, 0, 127, 127, 255]), ("round", [0, 1, 128, 128, 255])]
)
def test_quantise_rounds_as_the_card_says(rounding, expected):
    card = dataclasses.replace(CARD, output_rounding=rounding)
    levels = torch.tensor([-40.0, 0.9, 127.5, 127.9, 300.0])
    output = (levels / 255 * 2 - 1).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert quantise(output, card)[0, 0, 0].tolist() == expected


def test_quantise_of_half_precision_equals_that_of_float():
    output = torch.linspace(-1.2, 1.2, 64).view(1, 1, 8, 8).expand(1, 3, 8, 8).bfloat16()
    assert torch.equal(quantise(output, CARD), quantise(output.float(), CARD))


@pytest.mark.parametrize("system", ["sparnet", "progressive"])
def test_reduce_faces_makes_the_small_input_of_the_data_sets(system):
    card = get_card(system)
    faces = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = np.stack([make_lq(face, 8, card.reduction) for face in faces])
    reduced = reduce_faces(to_float(torch.from_numpy(faces).permute(0, 3, 1, 2)), card, 8)
    assert np.array_equal(to_uint8(reduced).permute(0, 2, 3, 1), expected)
