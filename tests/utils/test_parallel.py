import os
import signal
import time

import pytest

from facesr_plugin.utils.parallel import WorkerPool


def double(task: int) -> int:
    return 2 * task


def slow_first(task: int) -> int:
    time.sleep(0.2 if task == 0 else 0)
    return task


def fail_on_three(task: int) -> int:
    if task == 3:
        raise ValueError("task 3 is wrong")
    return task


def die(task: int) -> int:
    if task == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_map_keeps_the_order(workers):
    with WorkerPool(double, workers) as pool:
        assert list(pool.map(range(50))) == [2 * task for task in range(50)]
        assert list(pool.map(iter([]))) == []
        assert list(pool.map([1])) == [2]


def test_map_waits_for_a_slow_task_in_its_turn():
    with WorkerPool(slow_first, 2) as pool:
        assert list(pool.map(range(30))) == list(range(30))


def test_map_uses_several_processes():
    with WorkerPool(lambda _: (time.sleep(0.01), os.getpid())[1], 2) as pool:
        assert len(set(pool.map(range(10)))) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_map_raises_what_the_function_raised(workers):
    with pytest.raises(ValueError, match="task 3 is wrong"), WorkerPool(fail_on_three, workers) as pool:
        list(pool.map(range(10)))


def test_map_says_that_a_worker_was_killed():
    with (
        pytest.raises(ChildProcessError, match=r"a worker process died \(exit code -9\).*Use fewer --workers"),
        WorkerPool(die, 2) as pool,
    ):
        list(pool.map(range(20)))
