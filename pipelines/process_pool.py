"""Processes on this machine, each under a watchdog: hung or crashed tasks are killed, named and survived.

Every executor ends here: whatever brings a task to a machine, there it runs in a process that this module watches.
"""

import contextlib
import importlib
import logging
import multiprocessing
import os
import secrets
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from kinetics_sounds.plugins import ignore_working_folder

T = TypeVar("T")
R = TypeVar("R")

MARK = "KINETICS_SOUNDS_WORKER"
"""What a worker's tasks start has this in its environment, with a value that is the worker's alone."""
SECONDS_TO_LEAVE = 2.0
"""What a worker has for its `finally` blocks when whoever drives it is gone."""
MAX_ATTEMPTS = 3
"""Times that a task is begun, on whichever executor, before it is held for the cause of its losses."""
SECONDS_TO_STALL = 60.0
"""Beyond the longest time that a task has: when no task ended for so long, the pool is stuck."""

_log = logging.getLogger(__name__)

_busy = False
"""In a worker: whether it carries out a task."""


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
    trace: str = ""
    """The traceback of what was raised."""


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    """A task that was handed in."""

    task: T
    timeout_seconds: float
    lives: int


class SupervisedPool(Generic[T, R]):
    """As many processes as there are workers, started by spawning; they go by themselves when this one is killed.

    A pool of pebble's survives its workers while they work, but not one that dies between tasks or as it starts (out of
    memory, say), and one that dies as it takes a task holds the pool's locks for ever. Then another pool takes its place.
    """

    def __init__(self, function: Callable[[T], R], *, workers: int) -> None:
        """Nothing is started before the first task."""
        self.workers = workers
        self._function = function
        self._pool = self._new_pool()
        self._running: dict[ProcessFuture[R], _Job[T]] = {}
        self._moved = 0.0

    @property
    def busy(self) -> int:
        """Tasks handed in whose results were not taken yet."""
        return len(self._running)

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Hand in a task, which is killed once it has run this long."""
        if not self._running:
            self._moved = time.monotonic()
            if self._broken():  # while nothing was to be done, so no task lost a life
                self._replace("a worker died while it had no task")
        self._hand_in(_Job(task, timeout_seconds, MAX_ATTEMPTS))

    def finished(self, seconds: float) -> list[tuple[T, R | Failed]]:
        """The tasks that ended since the last call, with their results; waits at most `seconds` for the first."""
        if not self._running:
            time.sleep(seconds)
            return []
        done, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        if self._broken():
            self._replace("a worker died before it had begun a task")
        elif not done and time.monotonic() > self._moved + self._longest() + SECONDS_TO_STALL:
            self._replace(f"no task ended in {time.monotonic() - self._moved:.0f} s")
        ended = [future for future in self._running if future.done()]  # in the order that they were handed in
        if ended:
            self._moved = time.monotonic()
        return [(job.task, result) for future in ended for job, result in self._outcome(future)]

    def close(self) -> None:
        """End the processes and what they run."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def _new_pool(self) -> ProcessPool:
        ignore_working_folder()  # here too: on another machine no command of ours was the first
        context = multiprocessing.get_context("spawn")
        module = getattr(self._function, "__module__", None) or "builtins"
        return ProcessPool(
            max_workers=self.workers, context=context, initializer=_begin, initargs=[os.getpid(), module]
        )

    def _hand_in(self, job: _Job[T]) -> None:
        try:
            future = self._pool.schedule(_carry_out, args=[self._function, job.task], timeout=job.timeout_seconds)
        except RuntimeError as error:  # it has just broken, or its workers cannot be started
            future = ProcessFuture()
            future.set_exception(BrokenProcessPool(str(error)))
        self._running[future] = job

    def _longest(self) -> float:
        return max(job.timeout_seconds for job in self._running.values())

    def _broken(self) -> bool:
        try:
            return not self._pool.active  # starts it where it is new
        except BrokenProcessPool:
            return True

    def _replace(self, why: str) -> None:
        """Begin a new pool; what the old one did not finish is lost with it."""
        _log.warning("the pool of workers is started anew: %s", why)
        self.close()
        for future in self._running:
            if not future.done():
                future.set_exception(BrokenProcessPool(why))
        self._pool = self._new_pool()

    def _outcome(self, future: ProcessFuture[R]) -> list[tuple[_Job[T], R | Failed]]:
        """Of a task that ended; nothing where it was lost with its pool and is handed in again."""
        job = self._running.pop(future)
        if not isinstance(future.exception(), BrokenProcessPool):
            return [(job, _result(future))]
        if job.lives == 1:
            return [
                (
                    job,
                    Failed(
                        Cause.DIED, f"it was lost {MAX_ATTEMPTS} times with the pool of workers: {future.exception()}"
                    ),
                )
            ]
        self._hand_in(_Job(job.task, job.timeout_seconds, job.lives - 1))
        return []


def forget_main() -> None:
    """In a process whose main module is a tool's own: spare the processes that it spawns from importing that first.

    Functions are importable by name, so nothing is missed; Ray's main module costs a second and 100 MB.
    """
    main = vars(sys.modules["__main__"])
    main.pop("__file__", None)
    main["__spec__"] = None


def _result(future: ProcessFuture[Any]) -> Any:  # noqa: ANN401 - pebble's types say less than this file's
    try:
        return future.result()
    except TimeoutError:
        return Failed(Cause.TIMED_OUT, "the task ran past its time and was killed")
    except ProcessExpired as error:
        return Failed(Cause.DIED, f"its process died with exit code {error.exitcode}")
    except Exception as error:  # noqa: BLE001 - whatever a task raised is that task's outcome, named in its row
        lines = "".join(traceback.format_exception(error)).rstrip()
        return Failed(Cause.RAISED, f"{type(error).__name__}: {error}", lines)


def _carry_out(function: Callable[[T], R], task: T) -> R:
    """In a worker: the task; a worker that is told to leave does so once the task's `finally` blocks are through."""
    global _busy
    try:
        try:
            _busy = True
            return function(task)
        finally:
            _busy = False  # a signal until here is caught below, a later one ends the worker as it comes
    except SystemExit as leaving:  # the pool would take it for a result and go on
        os._exit(leaving.code if isinstance(leaving.code, int) and leaving.code else 1)  # 0 is no death to the pool


def _begin(driver: int, module: str) -> None:
    """In a new worker: Ctrl-C is the driver's to handle, and the worker goes when the driver is gone.

    The tasks' module is imported here, where that may take its time: a worker takes a task with the pool's locks held.
    """
    os.environ[MARK] = mark = secrets.token_hex(8)
    _leave_a_guard(f"{MARK}={mark}".encode())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR2):  # what Slurm sends to every process of a job that must end
        signal.signal(number, _leave)
    threading.Thread(target=_leave_with, args=(driver,), daemon=True).start()
    importlib.import_module(module)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    if not _busy:
        os._exit(128 + number)
    raise SystemExit(128 + number)  # so that what a task started is ended in its `finally`


def _leave_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_LEAVE)
    os._exit(1)


def _leave_a_guard(mark: bytes) -> None:
    """Fork a process that outlives this one, however it ends, and then kills what its tasks started.

    No signal could do that for a worker that is killed together with whoever watches it (as Ray does), and groups and
    sessions are the tools' own.
    """
    ours, open_while_we_live = os.pipe()
    if os.fork():
        os.close(ours)
        return
    try:
        os.close(open_while_we_live)
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for each, copy in ((ours, 0), (null, 1), (null, 2)):
            os.dup2(each, copy)
        os.closerange(3, most_descriptors())
        os.read(0, 1)
        while _kill_marked(mark):
            time.sleep(0.05)
    finally:
        os._exit(0)


def most_descriptors() -> int:
    """How many there may be; the system may say -1 for no limit, or a thousand million."""
    return min(max(os.sysconf("SC_OPEN_MAX"), 256), 65536)


def _kill_marked(mark: bytes) -> int:
    """Kill each process that was started with the mark; how many there were, none where there is no /proc."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # another user's, or it has just ended
            if mark in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
                count += 1
    return count
