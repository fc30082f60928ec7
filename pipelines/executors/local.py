"""Processes on this machine: hung or crashed tasks are killed, named and survived."""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""Tasks handed out per worker before the first result is taken: memory stays flat however many there are."""

SECONDS_BETWEEN_LOOKS = 0.5
"""How soon a request to stop is seen while no task ends."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A task that gave no result: its process hung, died or raised."""

    timed_out: bool
    detail: str


def run(
    function: Callable[[T], R],
    tasks: Iterable[T],
    *,
    workers: int,
    timeout_seconds: float,
    stop: Callable[[], bool],
    ordered: bool = False,
) -> Generator[tuple[T, R | Failed]]:
    """Each task with its result, as they end, or in the order of the tasks; ends early once `stop()` is true.

    `function` must be importable by name. A task that runs past `timeout_seconds` has its process killed. Closing the
    iterator ends what is running. Workers end by themselves when this process is killed.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(max_workers=workers, context=context, initializer=_begin, initargs=[os.getpid()])
    pending: deque[tuple[T, ProcessFuture[R]]] = deque()
    source = iter(tasks)
    try:
        while not stop():
            for task in itertools.islice(source, workers * AHEAD - len(pending)):
                pending.append((task, pool.schedule(function, args=[task], timeout=timeout_seconds)))
            if not pending:
                return
            watched = [pending[0][1]] if ordered else [future for _, future in pending]
            wait(watched, timeout=SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
            place = next((number for number, future in enumerate(watched) if future.done()), None)
            if place is not None:
                task, future = pending[place]
                del pending[place]
                yield task, _result(future)
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _result(future: ProcessFuture[Any]) -> Any:  # noqa: ANN401 - whatever the function returns, or Failed
    try:
        return future.result()
    except TimeoutError:
        return Failed(timed_out=True, detail="the task ran past its time and was killed")
    except ProcessExpired as error:
        return Failed(timed_out=False, detail=f"its process died with exit code {error.exitcode}")
    except Exception as error:  # noqa: BLE001 - whatever a task raised is that task's outcome, named in its row
        return Failed(timed_out=False, detail=f"{type(error).__name__}: {error}")


def _begin(driver: int) -> None:
    """In a new worker: Ctrl-C is the driver's to handle, and the worker goes when the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)  # so that what a task started is ended in its `finally`
    threading.Thread(target=_leave_with, args=(driver,), daemon=True).start()


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _leave_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(0.5)
    os._exit(1)
