"""Supervised worker processes that fill rows of shared-memory arrays; a worker that hangs or dies is replaced.

Decoded data never passes through a pipe, and each worker has its own pipe, so a failure affects only one worker.
"""

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from kinetics_sounds.errors import BUG_BELOW, FaultError, KineticsSoundsError, RunError
from kinetics_sounds.interrupts import interrupts_blocked
from kinetics_sounds.plugins import ignore_working_folder

from .shared_memory import Context, Shared

STRIKES = 2
"""Times that a row may hang or crash its worker before it counts as bad."""
LIVES = 3
"""Workers that may die in a row without a row to blame before the run fails."""
MOST_ROWS = 1024
"""Maximum rows sent to a worker at once, so that the pipe never fills up in both directions."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_MORE = 5.0
"""Seconds beyond the row timeout after which the kernel ends an orphaned worker."""

Row = TypeVar("Row")
RowIn = TypeVar("RowIn", contravariant=True)


class BadRowError(Exception):
    """A row that can never be filled; its message is the reason."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a row took."""

    read: float
    decode: float
    """Seconds for everything but reading: decoding, cropping, resizing."""


class Deadline:
    """Measures the time of a row; in a worker, against the timeout."""

    def __init__(self, since: np.ndarray | None = None, *, seconds: float = 0.0) -> None:
        """`since` is shared with the trainer: start time in ns of the monotonic clock, 0 while stopped; shape ()."""
        self._since, self._seconds = since, seconds

    def start(self) -> None:
        """Start counting."""
        if self._since is not None:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
            self._since[...] = time.monotonic_ns()

    def stop(self) -> None:
        """Stop counting."""
        if self._since is not None:
            self._since[...] = 0
            signal.setitimer(signal.ITIMER_REAL, 0)

    def stopped(self) -> Self:
        """Stop counting inside the block and restart after it: slow disks and networks are not the row's fault."""
        return self

    def __enter__(self) -> None:
        self.stop()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.start()


class RowWriter(Protocol[RowIn]):
    """Callable that a worker runs for each row; must be picklable."""

    def __call__(self, row: RowIn, out: Mapping[str, np.ndarray], clock: Deadline, /) -> Times:
        """Write one row's arrays into `out`; start the deadline when its timeout should count.

        Raises BadRowError for a row that can never be filled; any other exception ends the run.
        """
        ...


@dataclass(frozen=True, slots=True)
class Done(Generic[Row]):
    """A finished row."""

    batch: int
    place: int
    """Row within the batch."""
    row: Row
    times: Times | None
    """None if the row could not be filled."""
    reason: str = ""


def start_method(*preload: str) -> Context:
    """Start method of worker processes; never fork, which FFmpeg and CUDA do not survive.

    A fork server, where available, is started, and imports the modules `preload` once for all workers.
    """
    ignore_working_folder()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    resource_tracker.ensure_running()  # which unblocks SIGINT
    with interrupts_blocked():
        forkserver.ensure_running()
    return context


@dataclass(frozen=True, slots=True)
class _Task(Generic[Row]):
    """Rows of one batch for one worker."""

    number: int
    batch: int
    slot: int
    rows: tuple[tuple[int, Row], ...]
    """Requests, each with its row in the batch."""


@dataclass(slots=True)
class _Worker(Generic[Row]):
    process: Any
    pipe: Connection
    waiting: deque[_Task[Row]] = field(default_factory=deque)
    """Assigned tasks that are not sent yet."""
    sent: dict[int, _Task[Row]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows still to fill."""
        return sum(len(task.rows) for task in (*self.waiting, *self.sent.values()))


class Workers(Generic[Row]):
    """Worker processes and the ring of slots that they fill: row r of slot s of an array is at `[s, r]`."""

    def __init__(
        self, fill: RowWriter[Row], ring: Mapping[str, Shared], *, count: int, context: Context, seconds: float
    ) -> None:
        """Start `count` workers; one that spends more than `seconds` on a row is killed."""
        self._fill, self._ring, self._context, self._seconds = fill, dict(ring), context, seconds
        self._progress = Shared(context, (count, 3), np.dtype(np.int64))
        """Per worker: task, row within it, and start time (ns of the monotonic clock; 0: not counting)."""
        self._tasks = self._deaths = 0
        self._strikes: dict[Row, int] = {}
        self._ended: list[Done[Row]] = []
        self._workers = [self._start(number) for number in range(count)]

    def submit(self, batch: int, slot: int, rows: Sequence[tuple[int, Row]]) -> None:
        """Assign the rows of a batch to workers, which fill the slot."""
        share = max(1, -(-len(rows) // len(self._workers)))
        for first in range(0, len(rows), share):
            self._tasks += 1
            self._give(_Task(self._tasks, batch, slot, tuple(rows[first : first + share])))

    def finished(self, seconds: float) -> list[Done[Row]]:
        """Rows finished since the last call; waits at most `seconds` for the first.

        Raises the exception of a `fill`, and RunError if workers keep dying without a row to blame.
        """
        until = time.monotonic() + seconds
        while True:
            left = max(0.0, until - time.monotonic())
            heard = wait([worker.pipe for worker in self._workers], timeout=min(left, SECONDS_BETWEEN_LOOKS))
            for number, worker in enumerate(self._workers):
                if worker.pipe in heard:
                    self._hear(number)
            self._replace_the_late()
            if self._ended or left == 0:
                ended, self._ended = self._ended, []
                return ended

    def close(self) -> None:
        """Kill the workers; they have nothing to save."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _start(self, number: int) -> _Worker[Row]:
        self._progress.array[number] = 0
        ours, theirs = self._context.Pipe()
        limit = self._seconds + SECONDS_MORE
        args = theirs, self._fill, self._ring, self._progress, number, limit, dict(os.environ)
        process = self._context.Process(target=_serve, args=args, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _give(self, task: _Task[Row]) -> None:
        worker = min(self._workers, key=lambda each: each.rows)
        worker.waiting.append(task)
        self._send(worker)

    def _send(self, worker: _Worker[Row]) -> None:
        """Send tasks to a worker; the tasks of a worker that has just died are reassigned later."""
        while worker.waiting and sum(len(task.rows) for task in worker.sent.values()) < MOST_ROWS:
            task = worker.waiting.popleft()
            worker.sent[task.number] = task
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                worker.pipe.send(task)

    def _hear(self, number: int) -> None:
        """Receive messages of a worker: finished rows, a fatal error, or end of file."""
        worker = self._workers[number]
        try:
            task, said, cause = worker.pipe.recv()
        except (EOFError, OSError):  # end of file, between or within messages
            worker.process.join()
            self._replace(number, _death(worker.process.exitcode))
            return
        if isinstance(said, Exception):
            raise said from cause
        del worker.sent[task]
        self._ended += said
        self._deaths = 0
        self._send(worker)

    def _replace_the_late(self) -> None:
        now = time.monotonic_ns()
        for number, worker in enumerate(self._workers):
            since = int(self._progress.array[number, 2])
            if since and now - since > self._seconds * 1e9:
                worker.process.kill()
                worker.process.join()
                self._replace(number, f"did not end within {self._seconds:g} s")

    def _replace(self, number: int, why: str) -> None:
        """Replace a dead worker and reassign its rows, except one that killed a worker twice."""
        worker = self._workers[number]
        worker.pipe.close()
        at, place, since = self._progress.array[number].tolist()
        self._workers[number] = self._start(number)
        guilty = worker.sent[at].rows[place][1] if since and at in worker.sent and why != _KILLED else None
        if guilty is None:
            self._deaths += 1
            if self._deaths >= LIVES:
                raise RunError(
                    f"{LIVES} loading processes in a row {why}; the machine may lack memory: give fewer --workers, or 0"
                )
        else:
            self._strikes[guilty] = self._strikes.get(guilty, 0) + 1
        for task in (*worker.sent.values(), *worker.waiting):
            rows = []
            for place_in_batch, row in task.rows:
                if self._strikes.get(row, 0) < STRIKES:
                    rows.append((place_in_batch, row))
                else:
                    self._ended.append(
                        Done(task.batch, place_in_batch, row, None, f"loading it {why}, {STRIKES} times")
                    )
            if rows:
                self._tasks += 1
                self._give(_Task(self._tasks, task.batch, task.slot, tuple(rows)))


_KILLED = "died of SIGKILL"
"""Signals that are not the row's fault: out of memory, or sent by a user."""


def _death(code: int | None) -> str:
    """Describe how a process ended."""
    if code is not None and code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"died with exit code {code}"


def _serve(
    pipe: Connection,
    fill: RowWriter[Row],
    ring: Mapping[str, Shared],
    progress: Shared,
    number: int,
    seconds: float,
    environment: Mapping[str, str],
) -> None:
    """Main loop of a worker: fill rows until the pipe closes.

    The trainer kills a worker that hangs. If the trainer is gone, the kernel kills it after `seconds`, because a decoder may
    hang without returning to Python.
    """
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # the trainer needs batches until it has saved
        signal.signal(each, signal.SIG_IGN)
    os.environ.clear()  # the fork server's environment may lack newer keys and endpoints
    os.environ.update(environment)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    arrays = {name: shared.array for name, shared in ring.items()}
    mine = progress.array[number]
    clock = Deadline(mine[2, ...], seconds=seconds)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the trainer is gone
        while True:
            task: _Task[Row] = pipe.recv()
            done: list[Done[Row]] = []
            try:
                for at, (place, row) in enumerate(task.rows):
                    mine[:] = task.number, at, 0
                    out = {name: array[task.slot, place, ...] for name, array in arrays.items()}
                    done.append(_filled(fill, task.batch, place, row, out, clock))
                    clock.stop()
            except Exception as error:  # noqa: BLE001 - it is raised where the rows were asked for
                cause = error.__cause__ and _sendable(error.__cause__)  # pickling the error alone would lose it
                pipe.send((task.number, _sendable(error), cause))
            else:
                pipe.send((task.number, done, None))


def _filled(
    fill: RowWriter[Row], batch: int, place: int, row: Row, out: Mapping[str, np.ndarray], clock: Deadline
) -> Done[Row]:
    try:
        return Done(batch, place, row, fill(row, out, clock))
    except BadRowError as error:
        return Done(batch, place, row, None, str(error))


def _sendable(error: BaseException) -> Exception:
    """Exception to send to the trainer: our own and OSError unchanged, any other as text with its traceback."""
    if isinstance(error, KineticsSoundsError):
        return error
    if isinstance(error, OSError) and error.errno:
        return OSError(error.errno, error.strerror, error.filename)
    lines = "".join(traceback.format_exception(error)).rstrip()
    return FaultError(f"a loading process raised {type(error).__name__}: {error}; {BUG_BELOW}\n{lines}")
