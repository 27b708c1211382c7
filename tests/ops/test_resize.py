import numpy as np
import pytest
import torch
from PIL import Image

from facesr_plugin.ops import resize
from facesr_plugin.ops.resize import resize_pil

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
SIZES = [
    ((16, 16), (128, 128)),
    ((128, 128), (16, 16)),
    ((128, 128), (149, 149)),
    ((37, 53), (101, 7)),
    ((53, 37), (53, 64)),
    ((9, 5), (1, 1)),
    ((1, 1), (5, 3)),
    ((178, 218), (128, 128)),
    ((31, 33), (31, 33)),
    ((85, 56), (61, 80)),
    ((90, 30), (45, 15)),
]


def resize_with_pillow(images: np.ndarray, size: tuple[int, int], kernel: str) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(image).resize(size[::-1], FILTERS[kernel])) for image in images])


def bytes_with_edges(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Noise with many saturated pixels, so that overshoot is clipped in both passes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    return np.where(rng.random(shape) < 0.5, np.where(images > 127, 255, 0), images).astype(np.uint8)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_resize_pil_equals_pillow(source, target, kernel):
    images = bytes_with_edges((3, *source, 3))
    ours = resize_pil(torch.from_numpy(images).permute(0, 3, 1, 2), target, kernel)
    assert np.array_equal(ours.permute(0, 2, 3, 1).numpy(), resize_with_pillow(images, target, kernel))


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
def test_resize_pil_equals_pillow_at_random_sizes(kernel):
    rng = np.random.default_rng(7)
    for seed in range(40):
        source, target = tuple(rng.integers(1, 90, 2)), tuple(int(side) for side in rng.integers(1, 90, 2))
        images = bytes_with_edges((1, *source, 3), seed)
        ours = resize_pil(torch.from_numpy(images).permute(0, 3, 1, 2), target, kernel)
        assert np.array_equal(ours.permute(0, 2, 3, 1).numpy(), resize_with_pillow(images, target, kernel))


def test_order_of_the_passes_is_told_apart_by_the_probe():
    tall = torch.tensor([(97 * i * i) % 256 for i in range(48)], dtype=torch.uint8).view(1, 1, 12, 4)
    assert not torch.equal(*(resize._resize(tall, (3, 3), "bicubic", y_first) for y_first in (True, False)))


def test_resize_pil_gives_a_sample_alone_what_it_gives_in_a_batch():
    images = torch.from_numpy(bytes_with_edges((4, 3, 20, 24)))
    assert torch.equal(resize_pil(images, (50, 11), "bicubic")[2:3], resize_pil(images[2:3], (50, 11), "bicubic"))


def test_resize_pil_rejects_float_images():
    with pytest.raises(TypeError, match="images must be uint8, got torch.float32"):
        resize_pil(torch.zeros(1, 3, 4, 4), (8, 8), "bicubic")


@pytest.mark.parametrize(
    ("shape", "size", "kernel", "text"),
    [
        ((3, 4, 4), (8, 8), "bicubic", r"images must have shape \(N, C, h, w\)"),
        ((1, 3, 0, 4), (8, 8), "bicubic", "1 or more"),
        ((1, 3, 4, 4), (0, 8), "bicubic", r"size must be 1 or more on both sides, got \(0, 8\)"),
        ((1, 3, 4, 4), (8, 8), "cubic", "kernel must be one of bicubic, bilinear, got 'cubic'"),
    ],
)
def test_resize_pil_rejects_what_it_cannot_do(shape, size, kernel, text):
    with pytest.raises(ValueError, match=text):
        resize_pil(torch.zeros(shape, dtype=torch.uint8), size, kernel)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_resize_pil_is_the_same_on_a_gpu():
    images = torch.from_numpy(bytes_with_edges((4, 3, 37, 53)))
    assert torch.equal(resize_pil(images.cuda(), (128, 99), "bicubic").cpu(), resize_pil(images, (128, 99), "bicubic"))
