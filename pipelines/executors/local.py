"""Processes on this machine: hung or crashed tasks are killed, named and survived."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from types import FrameType
from typing import Generic

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from . import Cause, Failed, R, T


class Pool(Generic[T, R]):
    """As many processes as there are workers, started by spawning."""

    def __init__(
        self, function: Callable[[T], R], *, workers: int, folder: Path | None = None, options: object = None
    ) -> None:
        """Nothing is started before the first task; `folder` and `options` are not needed here."""
        del folder, options
        self.workers = workers
        self._function = function
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(max_workers=workers, context=context, initializer=_begin, initargs=[os.getpid()])
        self._running: dict[ProcessFuture[R], T] = {}

    @property
    def busy(self) -> int:
        """Tasks handed in whose results were not taken yet."""
        return len(self._running)

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Hand in a task, which is killed once it has run this long."""
        self._running[self._pool.schedule(self._function, args=[task], timeout=timeout_seconds)] = task

    def finished(self, seconds: float) -> list[tuple[T, R | Failed]]:
        """The tasks that ended since the last call, with their results; waits at most `seconds` for the first."""
        if not self._running:
            time.sleep(seconds)
            return []
        done, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        ended = [future for future in self._running if future in done]  # in the order that they were handed in
        results: list[tuple[T, R | Failed]] = []
        for future in ended:
            result = _result(future)
            results.append((self._running.pop(future), result))
        return results

    def close(self) -> None:
        """End the processes and what they run."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _result(future: ProcessFuture[R]) -> R | Failed:
    try:
        result: R = future.result()
        return result
    except TimeoutError:
        return Failed(Cause.TIMED_OUT, "the task ran past its time and was killed")
    except ProcessExpired as error:
        return Failed(Cause.DIED, f"its process died with exit code {error.exitcode}")
    except Exception as error:  # noqa: BLE001 - whatever a task raised is that task's outcome, named in its row
        return Failed(Cause.RAISED, f"{type(error).__name__}: {error}")


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
