import numpy as np
import pytest
import torch

from facesr_plugin.ops import degradation
from facesr_plugin.ops.jpeg import compress_jpeg
from helpers.faces import make_image


def noisy(seed: int, height: int, width: int) -> np.ndarray:
    return degradation.add_noise(make_image(seed, height, width), 30.0, True, seed)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (31, 47), (32, 33), (50, 18), (9, 40)])
def test_compress_jpeg_gives_the_bytes_of_pillow(height, width):
    images, qualities = [noisy(seed, height, width) for seed in range(4)], [20, 37, 68, 90]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    found = compress_jpeg(batch, qualities).permute(0, 2, 3, 1).numpy()
    expected = np.stack([degradation.compress_jpeg(i, q) for i, q in zip(images, qualities, strict=True)])
    # equal with libjpeg-turbo; a few levels where Pillow is built with another libjpeg
    assert np.abs(found - expected).max() <= 4
    assert (found != expected).mean() < 0.1


def test_compress_jpeg_keeps_grey_grey():
    grey = torch.from_numpy(degradation.to_grey(noisy(0, 20, 20))).permute(2, 0, 1)[None].float()
    found = compress_jpeg(grey, [40])
    assert torch.equal(found[:, 0], found[:, 2])
    assert found.dtype == torch.float32
