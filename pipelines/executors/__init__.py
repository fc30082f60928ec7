"""Executors run tasks: one file per executor, each with a class `Pool`.

A pool takes tasks one by one and returns results as they come; the driver decides when to submit what.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Protocol

from kinetics_sounds import plugins

from ..process_pool import Cause, Failed, R, T

__all__ = ["AHEAD", "Cause", "Failed", "Pool", "R", "T", "in_order", "options", "start"]

AHEAD = 2
"""Number of tasks per worker submitted before their results are needed; bounds memory."""
SECONDS_BETWEEN_LOOKS = 0.5
"""Polling interval for stop requests while no task ends, and of idle jobs for work."""


class Pool(Protocol[T, R]):
    """Worker processes for one function; a task is killed at its time limit.

    Built as `Pool(function, workers=N, folder=FOLDER, options=OPTIONS)`: the function is importable by name, the folder exists
    and is visible to all processes, and the options are an instance of the module's `Options` if it has that class. The processes
    end when the driver is killed.
    """

    workers: int

    @property
    def busy(self) -> int:
        """Number of tasks submitted whose results were not collected yet."""

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Submit a task; it is killed once it has run this long."""

    def finished(self, seconds: float) -> list[tuple[T, R | Failed]]:
        """Tasks that ended since the last call, with their results; waits at most `seconds` for the first."""

    def close(self) -> None:
        """End the processes and their child processes."""


def options() -> dict[str, type]:
    """Option classes of the executors that have one, by name."""
    modules = {name: plugins.load(__name__, name) for name in plugins.names(__name__)}
    return {name: module.Options for name, module in modules.items() if hasattr(module, "Options")}


def start(
    name: str, function: Callable[[Any], Any], *, workers: int, folder: Path, chosen: object = None
) -> "Pool[Any, Any]":
    """Start a pool of the executor `name`."""
    pool: Pool[Any, Any] = plugins.load(__name__, name).Pool(function, workers=workers, folder=folder, options=chosen)
    return pool


def in_order(
    pool: Pool[T, R], tasks: Iterable[T], *, timeout_seconds: float, stop: Callable[[], bool]
) -> Generator[tuple[T, R | Failed]]:
    """Yield each task with its result, in the order of the tasks; ends early once `stop()` is true.

    Tasks must be distinct. At most `AHEAD` tasks per worker are submitted beyond the first one without a result.
    """
    source = iter(tasks)
    waiting: deque[T] = deque()
    results: dict[T, R | Failed] = {}
    ended = False
    while not stop():
        while not ended and len(waiting) < pool.workers * AHEAD:
            try:
                task = next(source)
            except StopIteration:
                ended = True
            else:
                waiting.append(task)
                pool.submit(task, timeout_seconds=timeout_seconds)
        if not waiting:
            return
        if waiting[0] not in results:
            results.update(pool.finished(SECONDS_BETWEEN_LOOKS))
        if waiting[0] in results:
            yield waiting[0], results.pop(waiting.popleft())
