"""Processes on this machine, each under a watchdog: hung or crashed tasks are killed, named and survived.

Every executor ends here: whatever brings a task to a machine, there it runs in a process that this module watches.
"""

import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Generic, NoReturn, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

T = TypeVar("T")
R = TypeVar("R")

MARK = "KINETICS_SOUNDS_WORKER"
"""What a task starts has this in its environment: the mark of its processes and the worker's id."""
SECONDS_TO_LEAVE = 2.0
"""What a worker has for its `finally` blocks when whoever drives it is gone."""


class Cause(StrEnum):
    """Why a task gave no result."""

    TIMED_OUT = "timed_out"
    """It ran past its time and was killed."""
    DIED = "died"
    """Its process, or the machine that it ran on, went away."""
    RAISED = "raised"
    """It raised, which tasks here never mean to: a bug."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A task that gave no result."""

    cause: Cause
    detail: str


class Processes(Generic[T, R]):
    """As many processes as there are workers, started by spawning; they go by themselves when this one is killed."""

    def __init__(self, function: Callable[[T], R], *, workers: int) -> None:
        """Nothing is started before the first task."""
        self.workers = workers
        self._function = function
        self._mark = secrets.token_hex(8)
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(
            max_workers=workers, context=context, initializer=_begin, initargs=[os.getpid(), self._mark]
        )
        self._running: dict[ProcessFuture[R], T] = {}

    @property
    def busy(self) -> int:
        """Tasks handed in whose results were not taken yet."""
        return len(self._running)

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Hand in a task, which is killed once it has run this long."""
        future = self._pool.schedule(_carry_out, args=[self._function, task], timeout=timeout_seconds)
        self._running[future] = task

    def finished(self, seconds: float) -> list[tuple[T, R | Failed]]:
        """The tasks that ended since the last call, with their results; waits at most `seconds` for the first."""
        if not self._running:
            time.sleep(seconds)
            return []
        done, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        ended = [future for future in self._running if future in done]  # in the order that they were handed in
        return [(self._running.pop(future), self._result(future)) for future in ended]

    def close(self) -> None:
        """End the processes and what they run."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        _kill_orphans(self._mark)

    def _result(self, future: ProcessFuture[R]) -> R | Failed:
        try:
            return future.result()
        except TimeoutError:
            failed = Failed(Cause.TIMED_OUT, "the task ran past its time and was killed")
        except ProcessExpired as error:
            failed = Failed(Cause.DIED, f"its process died with exit code {error.exitcode}")
        except Exception as error:  # noqa: BLE001 - whatever a task raised is that task's outcome, named in its row
            return Failed(Cause.RAISED, f"{type(error).__name__}: {error}")
        _kill_orphans(self._mark)
        return failed


def _carry_out(function: Callable[[T], R], task: T) -> R:
    """In a worker: the task; a worker that is told to leave does so once the task's `finally` blocks are through."""
    try:
        return function(task)
    except SystemExit as leaving:  # the pool would take it for a result and go on
        os._exit(leaving.code if isinstance(leaving.code, int) else 1)


def _begin(driver: int, mark: str) -> None:
    """In a new worker: Ctrl-C is the driver's to handle, and the worker goes when the driver is gone."""
    os.environ[MARK] = f"{mark}-{os.getpid()}"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR2):  # what Slurm sends to every process of a job that must end
        signal.signal(number, _leave)
    threading.Thread(target=_leave_with, args=(driver, mark), daemon=True).start()


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # so that what a task started is ended in its `finally`


def _leave_with(driver: int, mark: str) -> None:
    while os.getppid() == driver:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_LEAVE)
    _kill(pid for pid, worker in _marked(mark) if worker == os.getpid())
    os._exit(1)


def _kill_orphans(mark: str) -> None:
    """Kill what tasks started whose worker is gone; a group of its own or another parent does not save it."""
    _kill(pid for pid, worker in _marked(mark) if not _is_child(worker))


def _kill(pids: Iterator[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it has just ended


def _marked(mark: str) -> Iterator[tuple[int, int]]:
    """Each process that bears the mark, and the worker that it belongs to; none where there is no /proc."""
    wanted = f"{MARK}={mark}-".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # another user's, or it has just ended
        yield from ((int(path.parent.name), int(word[len(wanted) :])) for word in words if word.startswith(wanted))


def _is_child(pid: int) -> bool:
    """Whether a process is one that this process started and that has not ended."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return False
    return state != "Z" and int(parent) == os.getpid()
