"""Where tasks are carried out: one file an executor, each with a class `Pool`.

A pool takes tasks one by one and gives results back as they come, so whoever drives it decides what is asked when.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Protocol

from kinetics_sounds import plugins

from ..process_pool import Cause, Failed, R, T

__all__ = ["AHEAD", "Cause", "Failed", "Pool", "R", "T", "in_order", "options", "start"]

AHEAD = 2
"""Tasks handed out per worker before the first result is taken: memory stays flat however many there are."""
SECONDS_BETWEEN_LOOKS = 0.5
"""How soon a request to stop is seen while no task ends; how often a job without work looks for some."""


class Pool(Protocol[T, R]):
    """Processes that carry out one function, each task under a watchdog that kills it when its time is over.

    Built as `Pool(function, workers=N, folder=FOLDER, options=OPTIONS)`: the function is importable by name, the folder
    exists and every process sees it, and the options are an instance of the module's `Options` where it has one.
    Processes go by themselves when the driver is killed.
    """

    workers: int

    @property
    def busy(self) -> int:
        """Tasks handed in whose results were not taken yet."""

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Hand in a task, which is killed once it has run this long."""

    def finished(self, seconds: float) -> list[tuple[T, R | Failed]]:
        """The tasks that ended since the last call, with their results; waits at most `seconds` for the first."""

    def close(self) -> None:
        """End the processes and what they run."""


def options() -> dict[str, type]:
    """The options of each executor that has some, by its name."""
    modules = {name: plugins.load(__name__, name) for name in plugins.names(__name__)}
    return {name: module.Options for name, module in modules.items() if hasattr(module, "Options")}


def start(
    name: str, function: Callable[[Any], Any], *, workers: int, folder: Path, chosen: object = None
) -> "Pool[Any, Any]":
    """A pool of the executor that is called `name`."""
    pool: Pool[Any, Any] = plugins.load(__name__, name).Pool(function, workers=workers, folder=folder, options=chosen)
    return pool


def in_order(
    pool: Pool[T, R], tasks: Iterable[T], *, timeout_seconds: float, stop: Callable[[], bool]
) -> Generator[tuple[T, R | Failed]]:
    """Each task with its result in the order of the tasks; ends early once `stop()` is true.

    Tasks must differ from each other. No more are handed in than `AHEAD` a worker beyond the first that has no result.
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
