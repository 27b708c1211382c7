import functools
import types
from collections import Counter

import numpy as np
import pytest
import yaml

from facesr_plugin.data import degradation
from facesr_plugin.data.degradation import DEGRADATION_REGISTRY, degrade, draw_operations, parse_degradations
from helpers.docs import code_blocks
from helpers.faces import make_image

PUBLISHED = [
    {"type": "blur", "prob": 0.5},
    {"type": "downsample"},
    {"type": "noise", "prob": 0.2},
    {"type": "jpeg", "prob": 0.7},
]
IMAGE = make_image(1, 64)


@pytest.fixture(scope="module")
def drawn():
    """3000 draws of the published list."""
    degradations, rng = parse_degradations(PUBLISHED, "degradations"), np.random.default_rng(0)
    return [draw_operations(degradations, rng) for _ in range(3000)]


def values_of(drawn, function: str, name: str) -> np.ndarray:
    return np.array([op.keywords[name] for plan in drawn for op in plan if op.func.__name__ == function])


def near(share: float, expected: float) -> bool:
    return abs(share - expected) < 4 * (expected * (1 - expected) / 3000) ** 0.5


def test_published_list_has_the_published_probabilities(drawn):
    counts = Counter(op.func.__name__ for plan in drawn for op in plan)
    assert counts["resize_opencv"] == 3000
    for kind in ("gaussian", "average", "median", "motion"):
        assert near(counts[f"blur_{kind}"] / 3000, 0.125)
    assert near(counts["add_noise"] / 3000, 0.2)
    assert near(counts["compress_jpeg"] / 3000, 0.7)


def test_published_list_keeps_the_order(drawn):
    order = ["blur", "resize", "add", "compress"]
    for plan in drawn:
        places = [order.index(op.func.__name__.partition("_")[0]) for op in plan]
        assert places == sorted(set(places))


@pytest.mark.parametrize(
    ("function", "name", "low", "high"),
    [
        ("blur_average", "size", 3, 15),
        ("blur_median", "size", 3, 15),
        ("blur_motion", "size", 5, 25),
        ("compress_jpeg", "quality", 37, 90),
    ],
)
def test_published_whole_numbers_reach_both_ends(drawn, function, name, low, high):
    values = values_of(drawn, function, name)
    assert (values.min(), values.max()) == (low, high)


def test_published_sizes_are_32_to_127_with_every_kernel(drawn):
    sizes = values_of(drawn, "resize_opencv", "size")
    assert (sizes[:, 0] == sizes[:, 1]).all()
    assert set(sizes[:, 0]) == set(range(32, 128))
    kernels = Counter(values_of(drawn, "resize_opencv", "kernel"))
    assert sorted(kernels) == ["area", "cubic", "linear", "nearest"]
    assert all(near(count / 3000, 0.25) for count in kernels.values())


@pytest.mark.parametrize(
    ("function", "name", "low", "high"),
    [
        ("blur_gaussian", "sigma", 3, 15),
        ("blur_motion", "angle", 0, 360),
        ("blur_motion", "direction", -1, 1),
        ("add_noise", "std", 0, 25.5),
    ],
)
def test_published_numbers_are_uniform(drawn, function, name, low, high):
    values = values_of(drawn, function, name)
    assert low <= values.min() < values.max() <= high
    assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / 12**0.5 / len(values) ** 0.5


def test_degrade_enlarges_to_the_images_size():
    operations = draw_operations(
        parse_degradations([{"type": "downsample", "low_size": [9, 9]}], "d"), np.random.default_rng(0)
    )
    degraded = degrade(IMAGE, operations)
    assert (degraded.shape, degraded.dtype) == (IMAGE.shape, np.uint8)
    assert not np.array_equal(degraded, IMAGE)
    assert np.array_equal(degrade(IMAGE, []), IMAGE)


def fade_by(image: np.ndarray, factor: float) -> np.ndarray:
    return (image * factor).astype(np.uint8)


def return_floats(image: np.ndarray) -> np.ndarray:
    return image / 255


@pytest.fixture
def registry(monkeypatch):
    """The registry, as it was again afterwards."""
    monkeypatch.setattr(DEGRADATION_REGISTRY, "_objects", dict(DEGRADATION_REGISTRY.items()))


@pytest.fixture
def own(registry):
    """A degradation of a user."""

    @DEGRADATION_REGISTRY.register()
    def fade(rng: np.random.Generator, *, strength: tuple[float, float], broken: bool = False):
        return (
            functools.partial(return_floats)
            if broken
            else functools.partial(fade_by, factor=1 - rng.uniform(*strength))
        )

    return fade


def test_a_users_function_takes_part(own):
    entries = [{"type": "fade", "strength": [0.5, 0.5]}, {"type": "jpeg", "prob": 0.0}]
    operations = draw_operations(parse_degradations(entries, "d"), np.random.default_rng(0))
    assert np.array_equal(degrade(IMAGE, operations), IMAGE // 2)


def test_a_users_function_must_return_bytes(own):
    operations = draw_operations(
        parse_degradations([{"type": "fade", "strength": [0, 1], "broken": True}], "d"), np.random.default_rng(0)
    )
    with pytest.raises(TypeError, match=r"return_floats must return \(H, W, 3\) uint8 RGB, got \(64, 64, 3\) float64"):
        degrade(IMAGE, operations)


def test_the_documented_degradation_fades_images(registry):
    example = code_blocks("docs/sparnethd.md", "Your own degradation")
    exec(example["python"], types.ModuleType("fade_dataset").__dict__)
    entries = yaml.safe_load(example["yaml"])["degradations"]
    degradations, rng = parse_degradations(entries, "d"), np.random.default_rng(0)
    plans = [draw_operations(degradations, rng) for _ in range(3000)]
    fades = [plan[0] for plan in plans if plan[0].func.__name__ == "lower_contrast"]
    assert near(len(fades) / 3000, 0.3)
    for fade in fades[:9]:
        faded = degrade(IMAGE, [fade]).astype(float)
        assert 0.4 <= fade.keywords["factor"] <= 0.9
        assert np.allclose(faded.std((0, 1)), IMAGE.std((0, 1)) * fade.keywords["factor"], atol=0.5)
        assert np.allclose(faded.mean((0, 1)), IMAGE.mean((0, 1)), atol=0.5)


@pytest.mark.parametrize(
    ("entry", "error", "text"),
    [
        ("blur", TypeError, r"d\[0\] must be a mapping with the key type, got 'blur'"),
        ({"prob": 1}, TypeError, "must be a mapping with the key type"),
        ({"type": "blurr"}, ValueError, r"d\[0\]\.type must be registered, got 'blurr', did you mean 'blur'\?"),
        ({"type": "blur", "prob": 2}, ValueError, "prob must be a number from 0 to 1, got 2"),
        ({"type": "blur", "sigmas": [1, 2]}, ValueError, r"d\[0\]: unknown key 'sigmas', did you mean 'sigma'\?"),
        ({"type": "blur", "kinds": ["box"]}, ValueError, "kinds must be a list of gaussian, average, median, motion"),
        ({"type": "blur", "kinds": []}, ValueError, r"kinds must be a list of .*, got \[\]"),
        (
            {"type": "blur", "sigma": [5, 3]},
            ValueError,
            r"sigma must be \[low, high\], numbers with 0.1 <= low <= high",
        ),
        ({"type": "blur", "median_size": [3, 5.5]}, ValueError, r"median_size must be .* whole numbers"),
        ({"type": "downsample", "low_size": [0, 5]}, ValueError, "low_size must be .* 1 <= low <= high, got"),
        ({"type": "noise", "std": 5}, ValueError, r"std must be \[low, high\], .* got 5"),
        ({"type": "jpeg", "compression": [10, 101]}, ValueError, "0 <= low <= high <= 100, got"),
    ],
)
def test_parse_degradations_rejects_wrong_entries(entry, error, text):
    with pytest.raises(error, match=text):
        parse_degradations([entry], "d")


def test_registry_has_the_published_degradations():
    assert [name for name, _ in degradation.DEGRADATION_REGISTRY.items()] == ["blur", "downsample", "noise", "jpeg"]
