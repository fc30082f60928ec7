"""Supervised worker processes on this machine: hung or crashed tasks are killed, reported and survived.

All executors use it: wherever a task runs, it runs in a process supervised by this module.
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
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from kinetics_sounds.interrupts import interrupts_blocked
from kinetics_sounds.plugins import ignore_working_folder

T = TypeVar("T")
R = TypeVar("R")

MARK = "KINETICS_SOUNDS_WORKER"
"""Environment variable that marks all processes started by a worker's tasks, with a value unique to the worker."""
SECONDS_TO_LEAVE = 2.0
"""Time for a worker's `finally` blocks after its driver is gone."""
MAX_ATTEMPTS = 3
"""Maximum number of starts of a task, on any executor, before its losses are attributed to it."""
SECONDS_TO_STALL = 60.0
"""If no task ends for this long beyond the longest time limit, the pool counts as stuck."""

_log = logging.getLogger(__name__)

_busy = False
"""In a worker: whether a task is running."""


class Cause(StrEnum):
    """Why a task has no result."""

    TIMED_OUT = "timed_out"
    """It exceeded its time limit and was killed."""
    DIED = "died"
    """Its process, or its machine, ended."""
    RAISED = "raised"
    """It raised an exception, which tasks must not do: a bug."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A task without a result."""

    cause: Cause
    detail: str
    trace: str = ""
    """Traceback of the exception."""


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    """A submitted task."""

    task: T
    timeout_seconds: float
    lives: int


class SupervisedPool(Generic[T, R]):
    """`workers` processes, started by spawning; they end with this process.

    pebble's pool survives workers that die during a task, but not one that dies between tasks or at its start (out of memory, for
    instance), and one that dies while taking a task keeps the pool's locks for ever. In these cases the pool is replaced.
    """

    def __init__(self, function: Callable[[T], R], *, workers: int) -> None:
        """Processes start with the first task."""
        self.workers = workers
        self._function = function
        self._pool = self._new_pool()
        self._running: dict[ProcessFuture[R], _Job[T]] = {}
        self._moved = 0.0

    @property
    def busy(self) -> int:
        """Number of tasks submitted whose results were not collected yet."""
        return len(self._running)

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Submit a task; it is killed once it has run this long."""
        if not self._running:
            self._moved = time.monotonic()
            if self._broken():  # while nothing was to be done, so no task lost a life
                self._replace("an idle worker died")
        self._hand_in(_Job(task, timeout_seconds, MAX_ATTEMPTS))

    def finished(self, seconds: float) -> list[tuple[T, R | Failed]]:
        """Tasks that ended since the last call, with their results; waits at most `seconds` for the first."""
        if not self._running:
            time.sleep(seconds)
            return []
        done, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        if self._broken():
            self._replace("a worker died before it started a task")
        elif not done and time.monotonic() > self._moved + self._longest() + SECONDS_TO_STALL:
            self._replace(f"no task ended in {time.monotonic() - self._moved:.0f} s")
        ended = [future for future in self._running if future.done()]  # in the order that they were handed in
        if ended:
            self._moved = time.monotonic()
        return [(job.task, result) for future in ended for job, result in self._outcome(future)]

    def close(self) -> None:
        """End the processes and their child processes."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def _new_pool(self) -> ProcessPool:
        ignore_working_folder()  # here too: on another machine no command of ours was the first
        resource_tracker.ensure_running()  # which unblocks SIGINT
        context = multiprocessing.get_context("spawn")
        module = getattr(self._function, "__module__", None) or "builtins"
        return ProcessPool(
            max_workers=self.workers, context=context, initializer=_begin, initargs=[os.getpid(), module]
        )

    def _hand_in(self, job: _Job[T]) -> None:
        try:
            with interrupts_blocked():
                future = self._pool.schedule(_carry_out, args=[self._function, job.task], timeout=job.timeout_seconds)
        except RuntimeError as error:  # it has just broken, or its workers cannot be started
            future = ProcessFuture()
            future.set_exception(BrokenProcessPool(str(error)))
        self._running[future] = job

    def _longest(self) -> float:
        return max(job.timeout_seconds for job in self._running.values())

    def _broken(self) -> bool:
        try:
            with interrupts_blocked():
                return not self._pool.active  # starts it where it is new
        except BrokenProcessPool:
            return True

    def _replace(self, why: str) -> None:
        """Start a new pool; unfinished tasks of the old one are lost."""
        _log.warning("the pool of workers is restarted: %s", why)
        self.close()
        for future in self._running:
            if not future.done():
                future.set_exception(BrokenProcessPool(why))
        self._pool = self._new_pool()

    def _outcome(self, future: ProcessFuture[R]) -> list[tuple[_Job[T], R | Failed]]:
        """Result of an ended task; empty if it was lost with its pool and submitted again."""
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
    """In a process whose main module belongs to a tool: keep spawned processes from importing that module.

    Functions are imported by name, so it is not needed; Ray's main module costs a second and 100 MB.
    """
    main = vars(sys.modules["__main__"])
    main.pop("__file__", None)
    main["__spec__"] = None


def _result(future: ProcessFuture[Any]) -> Any:  # noqa: ANN401 - pebble's types say less than this file's
    try:
        return future.result()
    except TimeoutError:
        return Failed(Cause.TIMED_OUT, "the task exceeded its time limit and was killed")
    except ProcessExpired as error:
        return Failed(Cause.DIED, f"its process died with exit code {error.exitcode}")
    except Exception as error:  # noqa: BLE001 - whatever a task raised is that task's outcome, named in its row
        lines = "".join(traceback.format_exception(error)).rstrip()
        return Failed(Cause.RAISED, f"{type(error).__name__}: {error}", lines)


def _carry_out(function: Callable[[T], R], task: T) -> R:
    """In a worker: run the task; a worker told to exit does so after the task's `finally` blocks."""
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
    """Initialise a worker: ignore Ctrl-C, which the driver handles, and exit when the driver is gone.

    Also imports the tasks' module now: a worker takes its first task while holding the pool's locks.
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
    """Fork a process that outlives this one and then kills the processes started by its tasks.

    No signal handler could do that for a worker that is killed together with its supervisor (as Ray does), and process groups and
    sessions are used by the tools.
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
    """Maximum number of open files; the system may report -1 for no limit, or a billion."""
    return min(max(os.sysconf("SC_OPEN_MAX"), 256), 65536)


def _kill_marked(mark: bytes) -> int:
    """Kill all processes with the mark; returns their number, 0 without /proc."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # another user's, or it has just ended
            if mark in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
                count += 1
    return count
