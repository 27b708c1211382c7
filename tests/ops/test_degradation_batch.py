import functools

import numpy as np
import pytest
import torch

from facesr_plugin.ops import degradation as cpu
from facesr_plugin.ops.degradation_batch import BATCHED, degrade_batch
from helpers.faces import make_image

IMAGES = [cpu.add_noise(make_image(seed, 36, 36), 20.0, True, seed) for seed in range(3)]
BATCH = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2).float()
EXACT = {"blur_median", "add_noise"}

CASES = [
    *((cpu.blur_gaussian, {"sigma": sigma}) for sigma in (3.0, 4.4, 15.0)),
    *((cpu.blur_average, {"size": size}) for size in (3, 4, 15)),
    *((cpu.blur_median, {"size": size}) for size in (3, 6, 9)),
    *((cpu.blur_motion, {"size": k, "angle": a, "direction": d}) for k, a, d in ((5, 30.0, 0.4), (12, 215.0, -0.8))),
    *((cpu.resize_opencv, {"size": (s, s), "kernel": k}) for s in (13, 50) for k in cpu.RESIZE_KERNELS),
    *((cpu.add_noise, {"std": 15.0, "per_channel": flag, "seed": 3}) for flag in (True, False)),
    (cpu.compress_jpeg, {"quality": 50}),
]


def to_array(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("function", "keywords"), CASES)
def test_operator_agrees_with_the_cpus(function, keywords):
    other = next(values for name, values in CASES if name is function)
    plans = [keywords, other, keywords]
    for image, values, found in zip(IMAGES, plans, BATCHED[function](BATCH, plans), strict=True):
        expected = function(image, **values)
        assert found.shape == (3, *expected.shape[:2])
        error = np.abs(to_array(found) - expected)
        assert error.max() <= (0 if function.__name__ in EXACT else 4 if function is cpu.compress_jpeg else 1)


def test_degrade_batch_follows_each_images_plan():
    down = functools.partial(cpu.resize_opencv, size=(12, 12), kernel="area")
    plans = [
        [
            functools.partial(cpu.blur_median, size=3),
            functools.partial(cpu.resize_opencv, size=(9, 9), kernel="nearest"),
        ],
        [],
        [down, functools.partial(cpu.add_noise, std=5.0, per_channel=True, seed=1)],
    ]
    for image, plan, found in zip(IMAGES, plans, degrade_batch(BATCH, plans), strict=True):
        for operation in plan:
            image = operation(image)
        expected = cpu.resize_opencv(image, (36, 36), "cubic")
        assert np.abs(to_array(found) - expected).max() <= 2  # one level of `area`, enlarged


def invert(image: np.ndarray) -> np.ndarray:
    return 255 - image


def test_degrade_batch_runs_other_functions_on_the_cpu():
    found = degrade_batch(BATCH, [[functools.partial(invert)], [], []])
    assert torch.equal(found[0], 255 - BATCH[0])
    assert torch.equal(found[1:], BATCH[1:])


def test_every_published_operator_has_a_batched_form():
    names = {
        "blur_gaussian",
        "blur_average",
        "blur_median",
        "blur_motion",
        "resize_opencv",
        "add_noise",
        "compress_jpeg",
    }
    assert {function.__name__ for function in BATCHED} == names
