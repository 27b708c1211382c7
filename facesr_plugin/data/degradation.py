"""Random degradations as a list in an option file: ``[{type: blur, prob: 0.5, sigma: [3, 15]}, ...]``.

A degradation is a registered function that draws: it takes a ``numpy.random.Generator`` and its options, and returns an
``Operation``, a pure function on an image with its parameters bound. So all random values of a sample are known before
a pixel is touched, in a worker or on the training device (``ops/degradation_batch.py``).
Defaults are the published values of SPARNetHD (spec 4.2). An own one, in a module that is imported before training::

    @DEGRADATION_REGISTRY.register()
    def fade(rng: np.random.Generator, *, strength: Sequence[float]) -> Operation:
        return functools.partial(scale_contrast, factor=1 - rng.uniform(*strength))
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from facesr_plugin.ops import degradation as ops
from facesr_plugin.registry import Registry
from facesr_plugin.utils.option_file import nearest

Operation = functools.partial
"""``(H, W, 3)`` uint8 RGB in, the same (of any size) out; ``func`` and ``keywords`` say what it does."""

DEGRADATION_REGISTRY = Registry("degradation")


class Degradation(NamedTuple):
    """One entry of the list: a drawing function with its options, and how often it happens."""

    draw: Callable[[np.random.Generator], Operation]
    prob: float


def parse_degradations(entries: Sequence[Mapping[str, Any]], where: str) -> tuple[Degradation, ...]:
    """Build the list of an option file, and draw each once so that a wrong value is found now.

    Args:
        entries: Each with ``type`` (registered name), ``prob`` (1 if left out) and the function's own options.
        where: Name of the option, for messages.

    Raises:
        TypeError: If an entry is no mapping, or a value has the wrong type.
        ValueError: If a type or option is unknown, a value is wrong, or ``prob`` is not from 0 to 1.
    """
    return tuple(_parse_one(entry, f"{where}[{i}]") for i, entry in enumerate(entries))


def _parse_one(entry: Mapping[str, Any], where: str) -> Degradation:
    if not isinstance(entry, Mapping) or "type" not in entry:
        raise TypeError(f"{where} must be a mapping with the key type, got {entry!r}")
    options = {key: value for key, value in entry.items() if key not in ("type", "prob")}
    kind, prob = str(entry["type"]), entry.get("prob", 1.0)
    known = [name for name, _ in DEGRADATION_REGISTRY.items()]
    if kind not in known:
        raise ValueError(f"{where}.type must be registered, got {kind!r}{nearest(kind, known)}. Known: {sorted(known)}")
    if isinstance(prob, bool) or not isinstance(prob, int | float) or not 0 <= prob <= 1:
        raise ValueError(f"{where}.prob must be a number from 0 to 1, got {prob!r}")
    function = DEGRADATION_REGISTRY.get(kind)
    allowed = [*inspect.signature(function).parameters][1:]
    for key in options:
        if key not in allowed:
            raise ValueError(f"{where}: unknown key {key!r}{nearest(str(key), allowed)}. Known: {', '.join(allowed)}")
    draw = functools.partial(function, **options)
    try:
        draw(np.random.default_rng(0))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error
    return Degradation(draw, float(prob))


def draw_operations(degradations: Sequence[Degradation], rng: np.random.Generator) -> list[Operation]:
    """Draw what happens to one image, in the order of the list."""
    return [degradation.draw(rng) for degradation in degradations if rng.random() < degradation.prob]


def degrade(image: np.ndarray, operations: Sequence[Operation]) -> np.ndarray:
    """Apply operations to ``(H, W, 3)`` uint8 RGB and enlarge the result (OpenCV cubic) to the image's size.

    Raises:
        TypeError: If an operation returns something else than uint8.
    """
    degraded = image
    for operation in operations:
        degraded = operation(degraded)
        check_image(degraded, operation)
    return enlarge(degraded, image.shape[:2])


def check_image(image: Any, operation: Operation) -> None:
    """Refuse what a user's function must not return."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"degradation {operation.func.__name__} must return (H, W, 3) uint8 RGB, got {got}")


def enlarge(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a degraded image to ``size`` (height, width) with OpenCV's cubic kernel."""
    return image if image.shape[:2] == tuple(size) else ops.resize_opencv(image, size, "cubic")


# Published


@DEGRADATION_REGISTRY.register()
def blur(
    rng: np.random.Generator,
    *,
    kinds: Sequence[str] = ("gaussian", "average", "median", "motion"),
    sigma: Sequence[float] = (3.0, 15.0),
    average_size: Sequence[int] = (3, 15),
    median_size: Sequence[int] = (3, 15),
    motion_size: Sequence[int] = (5, 25),
) -> Operation:
    """Draw one kind of blur, each as likely as the others.

    Args:
        rng: Source of the random numbers.
        kinds: Among ``gaussian``, ``average``, ``median``, ``motion``; one named twice is twice as likely.
        sigma: Range of the Gaussian's standard deviation in pixels.
        average_size: Range of the side of the averaged square, in whole pixels, ends included.
        median_size: The same of the median; an even side is enlarged by 1.
        motion_size: The same of the motion's kernel; an even side is enlarged by 1.

    Raises:
        ValueError: If a kind is unknown or a range is wrong.
    """
    sizes = {"average": average_size, "median": median_size, "motion": motion_size}
    _check_choices("kinds", kinds, ("gaussian", *sizes))
    for name, value in sizes.items():
        _check_range(f"{name}_size", value, lowest=2, kind=int)
    _check_range("sigma", sigma, lowest=0.1)
    kind = _choose(rng, kinds)
    if kind == "gaussian":
        return functools.partial(ops.blur_gaussian, sigma=float(rng.uniform(*sigma)))
    size = _draw_whole(rng, sizes[kind])
    if kind == "motion":
        angle, direction = float(rng.uniform(0, 360)), float(rng.uniform(-1, 1))
        return functools.partial(ops.blur_motion, size=size, angle=angle, direction=direction)
    return functools.partial({"average": ops.blur_average, "median": ops.blur_median}[kind], size=size)


@DEGRADATION_REGISTRY.register()
def downsample(
    rng: np.random.Generator,
    *,
    low_size: Sequence[int] = (32, 127),
    kernels: Sequence[str] = ("nearest", "linear", "area", "cubic"),
) -> Operation:
    """Draw the side of the small square image and the kernel of OpenCV's resize.

    Args:
        rng: Source of the random numbers.
        low_size: Range of the side in whole pixels, ends included.
        kernels: Each as likely as the others; only ``area`` is antialiased.

    Raises:
        ValueError: If a kernel is unknown or the range is wrong.
    """
    _check_choices("kernels", kernels, ops.RESIZE_KERNELS)
    _check_range("low_size", low_size, lowest=1, kind=int)
    side = _draw_whole(rng, low_size)
    return functools.partial(ops.resize_opencv, size=(side, side), kernel=_choose(rng, kernels))


@DEGRADATION_REGISTRY.register()
def noise(rng: np.random.Generator, *, std: Sequence[float] = (0.0, 25.5), per_channel_prob: float = 0.5) -> Operation:
    """Draw additive Gaussian noise.

    Args:
        rng: Source of the random numbers.
        std: Range of the standard deviation in grey levels; one value per image.
        per_channel_prob: How often R, G and B have their own noise instead of a common one.

    Raises:
        ValueError: If the range is wrong.
    """
    _check_range("std", std, lowest=0.0)
    level, per_channel = float(rng.uniform(*std)), bool(rng.random() < per_channel_prob)
    return functools.partial(ops.add_noise, std=level, per_channel=per_channel, seed=int(rng.integers(2**63)))


@DEGRADATION_REGISTRY.register()
def jpeg(rng: np.random.Generator, *, compression: Sequence[float] = (10.0, 65.0)) -> Operation:
    """Draw a JPEG compression, imgaug's number from 0 to 100: quality ``round(1 + 99 (1 - c / 101))``.

    Args:
        rng: Source of the random numbers.
        compression: Range; the drawn number is cut to a whole one.

    Raises:
        ValueError: If the range is wrong.
    """
    _check_range("compression", compression, lowest=0.0, highest=100.0)
    return functools.partial(ops.compress_jpeg, quality=ops.jpeg_quality(int(rng.uniform(*compression))))


def _choose(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _draw_whole(rng: np.random.Generator, limits: Sequence[int]) -> int:
    return int(rng.integers(limits[0], limits[1], endpoint=True))


def _check_choices(name: str, choices: Sequence[str], known: Sequence[str]) -> None:
    if not isinstance(choices, list | tuple) or not choices or not set(choices) <= set(known):
        raise ValueError(f"{name} must be a list of {', '.join(known)}, got {choices!r}")


def _check_range(
    name: str, limits: Sequence[float], *, lowest: float, highest: float = float("inf"), kind: type = float
) -> None:
    numbers = isinstance(limits, list | tuple) and len(limits) == 2
    numbers = numbers and all(isinstance(limit, (int, kind)) and not isinstance(limit, bool) for limit in limits)
    if not numbers or not lowest <= limits[0] <= limits[1] <= highest:
        what = "whole numbers" if kind is int else "numbers"
        limit = f"{lowest:g} <= low <= high" + ("" if highest == float("inf") else f" <= {highest:g}")
        raise ValueError(f"{name} must be [low, high], {what} with {limit}, got {limits!r}")
