"""Map a function over tasks in several processes that neither outlive their parent nor leave it waiting.

``multiprocessing.Pool`` waits for ever when the system kills a worker (out of memory), and ``ProcessPoolExecutor``
leaves workers behind when the parent is killed; here each worker has one pipe, and either end sees the other one die.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

_AHEAD = 4  # finished tasks per worker that may wait for an earlier one


class WorkerPool:
    """Processes that run one function; a context manager.

    They start on entering, so that what the parent opens later (databases, locks) is not theirs.

    Args:
        function: Importable by name where processes do not fork; called with one task.
        workers: Processes; 0 runs everything in this one.
    """

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self._function = function
        self._workers = workers
        self._links: dict[Connection, Any] = {}

    def __enter__(self) -> WorkerPool:
        forks = sys.platform == "linux"
        context = multiprocessing.get_context("fork" if forks else None)
        for _ in range(self._workers):
            ours, theirs = context.Pipe()
            inherited = [*self._links, ours] if forks else []
            process = context.Process(target=_serve, args=(theirs, inherited, self._function), daemon=True)
            process.start()
            theirs.close()
            self._links[ours] = process
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for link, process in self._links.items():
            link.close()
            if kind is not None:
                process.terminate()
        for process in self._links.values():
            process.join()
        self._links = {}

    def map(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """Yield the results in the order of the tasks.

        Raises:
            Exception: What the function raised, in its turn.
            ChildProcessError: If a worker died.
        """
        if not self._workers:
            yield from map(self._function, tasks)
            return
        queue = enumerate(tasks)
        running: dict[Connection, int] = {}
        done: dict[int, tuple[bool, Any]] = {}
        following = 0
        exhausted = False
        while running or done or not exhausted:
            exhausted = exhausted or self._hand_out(queue, running, len(done))
            if following in done:
                yield _unpack(done.pop(following))
                following += 1
            elif running:
                for link in wait(list(running)):
                    done[running.pop(link)] = self._receive(link)

    def _hand_out(self, queue: Iterator[tuple[int, Any]], running: dict[Connection, int], waiting: int) -> bool:
        """Give every idle worker a task; say whether there are no more."""
        if waiting > _AHEAD * self._workers:
            return False
        for link in [link for link in self._links if link not in running]:
            number, task = next(queue, (None, None))
            if number is None:
                return True
            try:
                link.send(task)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise self._death(link) from error
            running[link] = number
        return False

    def _receive(self, link: Connection) -> tuple[bool, Any]:
        try:
            return link.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._death(link) from error

    def _death(self, link: Connection) -> ChildProcessError:
        process = self._links[link]
        process.join()
        return ChildProcessError(
            f"a worker process died (exit code {process.exitcode}); -9 means that the memory was exhausted. "
            "Use fewer --workers; the same command continues where it stopped."
        )


def _unpack(result: tuple[bool, Any]) -> Any:
    fine, value = result
    if not fine:
        raise value
    return value


def _serve(link: Connection, inherited: list[Connection], function: Callable[[Any], Any]) -> None:
    """Answer tasks until the parent closes its end or dies."""
    for end in inherited:  # copies of the parent's ends would keep the pipes open after its death
        end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            task = link.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            result = (True, function(task))
        except Exception as error:
            result = (False, error)
        try:
            link.send(result)
        except (BrokenPipeError, ConnectionResetError):
            return
