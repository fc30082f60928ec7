"""Processes that fill rows of arrays in shared memory, watched: one that hangs or dies is named, replaced and survived.

Nothing decoded goes through a pipe, and each worker has a pipe of its own, so what happens to one is nobody else's matter.
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
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from kinetics_sounds.errors import BUG_BELOW, FaultError, KineticsSoundsError, RunError
from kinetics_sounds.plugins import ignore_working_folder

from .shared_memory import Context, Shared

STRIKES = 2
"""Times that a row may hang or crash its worker before it is held for the cause."""
LIVES = 3
"""Workers that may die one after another, of nothing that they were doing, before the run fails."""
MOST_ROWS = 1024
"""Handed to a worker at once: a pipe must never be full on both sides."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_MORE = 5.0
"""That a worker lives on, beyond the time of a row, where nobody is there to kill it."""

Row = TypeVar("Row")
RowIn = TypeVar("RowIn", contravariant=True)


class BadRowError(Exception):
    """A row that can never be filled; its text says why."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a row took."""

    read: float
    decode: float
    """All but reading: decoding, cutting, resizing."""


class Deadline:
    """Counts the time that a row takes, in a worker towards its limit, and elsewhere towards nothing."""

    def __init__(self, since: np.ndarray | None = None, *, seconds: float = 0.0) -> None:
        """`since` is where the trainer looks: ns of the monotonic clock, 0 while it stands; shape ()."""
        self._since, self._seconds = since, seconds

    def start(self) -> None:
        """Count from now on."""
        if self._since is not None:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
            self._since[...] = time.monotonic_ns()

    def stop(self) -> None:
        """Count no more."""
        if self._since is not None:
            self._since[...] = 0
            signal.setitimer(signal.ITIMER_REAL, 0)

    def stopped(self) -> Self:
        """Count nothing within the block, and anew after it: a disk or a line may be slow, and that is no row's fault."""
        return self

    def __enter__(self) -> None:
        self.stop()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.start()


class RowWriter(Protocol[RowIn]):
    """What a worker does; it is pickled on its way there."""

    def __call__(self, row: RowIn, out: Mapping[str, np.ndarray], clock: Deadline, /) -> Times:
        """Write one row's arrays into `out`, starting the clock when its limit is to count.

        Raises BadRowError for a row that can never be filled; whatever else it raises ends the work.
        """
        ...


@dataclass(frozen=True, slots=True)
class Done(Generic[Row]):
    """A row that ended."""

    batch: int
    place: int
    """Within the batch."""
    row: Row
    times: Times | None
    """None where it could not be filled."""
    reason: str = ""


def start_method(*preload: str) -> Context:
    """How processes are started: never by forking this one, for FFmpeg and CUDA do not survive that.

    Where there is a fork server it imports the modules `preload` once for all of them.
    """
    ignore_working_folder()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


@dataclass(frozen=True, slots=True)
class _Task(Generic[Row]):
    """Rows of one batch that one worker fills."""

    number: int
    batch: int
    slot: int
    rows: tuple[tuple[int, Row], ...]
    """Each with its place in the batch."""


@dataclass(slots=True)
class _Worker(Generic[Row]):
    process: Any
    pipe: Connection
    waiting: deque[_Task[Row]] = field(default_factory=deque)
    """Tasks that are its own and not sent yet."""
    sent: dict[int, _Task[Row]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that it has yet to fill."""
        return sum(len(task.rows) for task in (*self.waiting, *self.sent.values()))


class Workers(Generic[Row]):
    """Worker processes and the ring of slots that they fill: row r of slot s of an array lies at `[s, r]`."""

    def __init__(
        self, fill: RowWriter[Row], ring: Mapping[str, Shared], *, count: int, context: Context, seconds: float
    ) -> None:
        """Start `count` workers; one that spends more than `seconds` on a row is killed."""
        self._fill, self._ring, self._context, self._seconds = fill, dict(ring), context, seconds
        self._progress = Shared(context, (count, 3), np.dtype(np.int64))
        """For each worker: its task, the row within it, and since when (ns of the monotonic clock; 0: uncounted)."""
        self._tasks = self._deaths = 0
        self._strikes: dict[Row, int] = {}
        self._ended: list[Done[Row]] = []
        self._workers = [self._start(number) for number in range(count)]

    def submit(self, batch: int, slot: int, rows: Sequence[tuple[int, Row]]) -> None:
        """Hand out rows of a batch, each with its place in it; they are filled in the slot."""
        share = max(1, -(-len(rows) // len(self._workers)))
        for first in range(0, len(rows), share):
            self._tasks += 1
            self._give(_Task(self._tasks, batch, slot, tuple(rows[first : first + share])))

    def finished(self, seconds: float) -> list[Done[Row]]:
        """The rows that ended since the last call; waits at most `seconds` for the first.

        Raises what a `fill` raised, and RunError where workers die of nothing that they were doing.
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
        """End the workers, whatever they are at: they have nothing to save."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _start(self, number: int) -> _Worker[Row]:
        self._progress.array[number] = 0
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve,
            args=(
                theirs,
                self._fill,
                self._ring,
                self._progress,
                number,
                self._seconds + SECONDS_MORE,
                dict(os.environ),
            ),
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _give(self, task: _Task[Row]) -> None:
        worker = min(self._workers, key=lambda each: each.rows)
        worker.waiting.append(task)
        self._send(worker)

    def _send(self, worker: _Worker[Row]) -> None:
        """What the worker may have; of one that has just died it is heard later, and its tasks are given away then."""
        while worker.waiting and sum(len(task.rows) for task in worker.sent.values()) < MOST_ROWS:
            task = worker.waiting.popleft()
            worker.sent[task.number] = task
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                worker.pipe.send(task)

    def _hear(self, number: int) -> None:
        """What a worker has to say: rows that ended, an error that ends the work, or nothing any more."""
        worker = self._workers[number]
        try:
            task, said, cause = worker.pipe.recv()
        except (EOFError, OSError):  # its end, between two messages or within one
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
        """Start another worker in place of a dead one; its rows are handed out again, but one that it died of twice."""
        worker = self._workers[number]
        worker.pipe.close()
        at, place, since = self._progress.array[number].tolist()
        self._workers[number] = self._start(number)
        guilty = worker.sent[at].rows[place][1] if since and at in worker.sent and why != _KILLED else None
        if guilty is None:
            self._deaths += 1
            if self._deaths >= LIVES:
                raise RunError(
                    f"{LIVES} loading processes in turn {why}; the machine may lack memory: give fewer --workers, or 0"
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
"""That is not a row's doing: the system lacks memory, or somebody wanted it."""


def _death(code: int | None) -> str:
    """How a process ended, in words."""
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
    """In a worker: fill what is asked for until nobody asks any more.

    The trainer kills a worker that hangs; where the trainer is gone the kernel does it after `seconds`, for a decoder may
    hang without letting Python do anything.
    """
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # the trainer wants its batches until it has saved
        signal.signal(each, signal.SIG_IGN)
    os.environ.clear()  # a fork server's is as old as itself: keys and endpoints may have come since
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
    """An error of ours or the system's as it is; any other, a bug that may not survive pickling, in words with its traceback."""
    if isinstance(error, KineticsSoundsError):
        return error
    if isinstance(error, OSError) and error.errno:
        return OSError(error.errno, error.strerror, error.filename)
    lines = "".join(traceback.format_exception(error)).rstrip()
    return FaultError(f"a loading process raised {type(error).__name__}: {error}; {BUG_BELOW}\n{lines}")
