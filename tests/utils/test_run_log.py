"""The clock of a run, and the line of the log."""

from __future__ import annotations

import math

import pytest

from facesr_plugin.utils import run_log
from facesr_plugin.utils.run_log import (
    Line,
    RunClock,
    Speed,
    format_duration,
    format_number,
    images_per_iteration,
    to_come,
)


class Time:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def clock(time: Time) -> RunClock:
    return RunClock(time)


def iterate(clock: RunClock, time: Time, number: int, data: float = 1, work: float = 3) -> None:
    """Wait for data, then work, that many times."""
    for _ in range(number):
        time.now += data
        clock.begin()
        time.now += work
        clock.end()


def test_speed_is_that_since_the_last_line(clock: RunClock, time: Time) -> None:
    iterate(clock, time, 10, work=9)
    clock.read()
    iterate(clock, time, 5)
    assert clock.read() == Speed(seconds=4, waiting=0.25)


def test_speed_contains_the_wait_for_the_device(clock: RunClock, time: Time) -> None:
    iterate(clock, time, 11)
    time.now += 40
    assert clock.read() == Speed(seconds=8, waiting=0.125)


def test_first_iteration_of_a_process_counts_only_until_there_are_others(clock: RunClock, time: Time) -> None:
    iterate(clock, time, 1, data=100, work=50)
    assert clock.read() == Speed(seconds=50, waiting=0)
    assert clock.seconds_left(2, {}) == 100
    iterate(clock, time, 2)
    assert clock.read() == Speed(seconds=4, waiting=0.25)
    assert clock.seconds_left(2, {}) == 8


def test_saving_and_validation_are_no_part_of_the_speed(clock: RunClock, time: Time) -> None:
    iterate(clock, time, 2)
    with clock.aside("save"):
        time.now += 1000
    iterate(clock, time, 1)
    assert clock.read() == Speed(seconds=4, waiting=0.25)


def test_time_left_counts_what_is_to_come_beside_the_iterations(clock: RunClock, time: Time) -> None:
    iterate(clock, time, 3)
    clock.read()
    for seconds in (10, 30):
        with clock.aside("validation"), clock.aside("save"):
            time.now += seconds
    assert clock.seconds_left(5, {"validation": 3, "save": 7}) == 5 * 4 + 3 * 20


def test_time_left_follows_a_change_of_speed(clock: RunClock, time: Time) -> None:
    for work in (3, 9):
        for _ in range(run_log._RECENT + 1):
            iterate(clock, time, 2, work=work)
            clock.read()
    assert clock.seconds_left(1, {}) == 10


def test_every_iteration_is_announced(clock: RunClock, time: Time) -> None:
    seen = []
    clock.on_iteration = lambda: seen.append(clock.iterations)
    iterate(clock, time, 3)
    assert seen == [1, 2, 3]
    assert clock.elapsed == 12


@pytest.mark.parametrize(
    ("iteration", "total", "every", "number"),
    [(1, 10, 5, 2), (5, 10, 5, 2), (6, 10, 5, 1), (10, 10, 5, 1), (10, 10, 3, 0), (1, 10, 5e3, 0), (7, 12, 5.0, 1)],
)
def test_to_come_counts_this_iteration_and_the_last(iteration: int, total: int, every: float, number: int) -> None:
    assert to_come(iteration, total, every) == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3, "3"),
        (12345, "12,345"),
        (0.052341, "0.05234"),
        (1.0, "1.000"),
        (27.3149, "27.31"),
        (99999.4, "99999"),
        (1e5, "1.000e+05"),
        (-2.5e-4, "-2.500e-04"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_numbers_have_four_digits_that_say_something(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3725.9, "1:02:05"), (180000, "2 days, 2:00:00"), (-3, "0:00:00"), (math.nan, "?")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


LINE = Line(
    epoch=3,
    iteration=1200,
    total=110000,
    rates=[2e-4, 1e-5],
    losses={"l_g_pixel": 0.0523, "step": 2},
    speed=Speed(0.25, 0.034),
    images=32,
    memory=3 * 2**30,
    left=40000,
    skipped={"images": 0, "steps": 2},
)


def test_line_says_all_in_one() -> None:
    assert LINE.text() == (
        "epoch: 3, iter: 1,200/110,000, lr: 2.00e-04, 1.00e-05 | l_g_pixel: 0.05230, step: 2 | 128 images/s, "
        "data: 3% | memory: 3.00 GiB | skipped steps: 2 | eta: 11:06:40"
    )


def test_tensorboard_has_basicsrs_tags_and_the_runs() -> None:
    assert LINE.scalars() == {
        "losses/l_g_pixel": 0.0523,
        "step": 2,
        "run/images_per_second": 128,
        "run/data_percent": pytest.approx(3.4),
        "run/memory_gib": 3,
    }


@pytest.mark.parametrize(
    ("dist", "num_gpu", "world_size", "images"), [(False, 0, 1, 4), (False, 2, 1, 8), (True, 2, 3, 12)]
)
def test_images_of_an_iteration_are_those_of_all_devices(
    dist: bool, num_gpu: int, world_size: int, images: int
) -> None:
    data = {"train": {"batch_size_per_gpu": 4}}
    opt = {"dist": dist, "num_gpu": num_gpu, "world_size": world_size, "datasets": data}
    assert images_per_iteration(opt) == images


def test_memory_of_a_process_without_gpu_is_what_it_resides_in() -> None:
    held = bytearray(50_000_000)
    assert len(held) < run_log.peak_memory(on_gpu=False) < 2**40
