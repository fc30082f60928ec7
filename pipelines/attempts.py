"""Run a clip's task in a worker, and check its result in the driver; shared by ks-shard and ks-export."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from kinetics_sounds import files
from kinetics_sounds.errors import (
    BUG_BELOW,
    FaultError,
    KineticsSoundsError,
    ManifestError,
    MediaError,
    SettingsError,
    ShardError,
    StoppedError,
)
from kinetics_sounds.media.ffmpeg import read_through
from kinetics_sounds.media.trim import UnreadableError

from . import executors
from .executors import R, T

TASK_SECONDS = 900.0
"""A clip's whole task is killed after this many seconds; ffmpeg has the shorter `--timeout`."""
AGAIN = "run the same command again to resume"


def remedy(build: Path, *, then: str) -> str:
    """Remedy if the clips of a build differ from its manifest; `then` is the command to run again."""
    command = f"ks-build ... --out {shlex.quote(str(build))} --check_bytes"
    return f"rebuild it with the options of the build ({command}), then run {then} again"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a clip's task cannot be done."""

    reason: str
    error: type[KineticsSoundsError] = ManifestError
    """Type of the error: by default one for the user to fix, StoppedError if running again may help, FaultError for a failing
    disk."""


def attempt(act: Callable[[T], R], task: T) -> R | Refused:
    """Call `act`, returning errors of the user's, the disk's or the machine's as a result: any other exception is a bug."""
    try:
        return act(task)
    except (ManifestError, SettingsError, ShardError) as error:
        return Refused(str(error))
    except StoppedError as error:
        return Refused(str(error), StoppedError)
    except OSError as error:
        if error.errno in files.FULL:
            return Refused(f"{error}; free some space and {AGAIN}", StoppedError)
        if error.errno in files.FAILING:
            return Refused(f"{error}; check that disk or machine and {AGAIN}", FaultError)
        return Refused(f"{error}; {AGAIN}", StoppedError)


def in_two_tries(act: Callable[[], R], path: Path, *, decoded: Callable[[R], int] = lambda _: 0, frames: int = 0) -> R:
    """Call `act` on a clip's file, and once more if it fails: tools get killed, disks stall.

    It is also repeated if the number of `decoded` frames is not `frames` (0: unknown): some demuxers silently skip what they
    cannot read. If both attempts agree, the result is trusted, and the recorded number was wrong. Raises MediaError if the second
    attempt fails, UnreadableError if it gives yet another number, and OSError if the file cannot be read to its end.
    """
    shown = None
    try:
        made = act()
        shown = decoded(made)
        if frames in (0, shown):
            return made
    except MediaError:
        pass
    read_through(path)
    made = act()
    if frames in (0, again := decoded(made)) or again == shown:
        return made
    first = "failed" if shown is None else f"decoded {shown} frames"
    raise UnreadableError(f"{path}: the first attempt {first}, the second decoded {again}, but there are {frames}")


def check(key: str, result: object) -> None:
    """Raise an error unless a clip's task has a result, that is neither `Refused` nor `Failed`.

    Raises ManifestError for what the user must fix first, StoppedError if the clip may not be at fault, and FaultError for a bug
    or a failing disk; in each case the clip stays pending.
    """
    if isinstance(result, Refused):
        raise result.error(f"{key}: {result.reason}")
    if isinstance(result, executors.Failed):
        if result.cause is executors.Cause.RAISED:
            raise FaultError(f"{key}: {result.detail}; {BUG_BELOW}\n{result.trace}")
        raise StoppedError(f"{key}: {result.detail}; {AGAIN}")


class RetryOnce(Generic[T, R]):
    """A pool that submits a task again, once, if its process died or timed out: machines can be busy."""

    def __init__(self, start: Callable[[], executors.Pool[T, R]], *, workers: int) -> None:
        """Processes start with the first task."""
        self.workers = workers
        self._start = start
        self._pool: executors.Pool[T, R] | None = None
        self._again: set[T] = set()

    @property
    def busy(self) -> int:
        """Number of tasks submitted whose results were not collected yet."""
        return self._pool.busy if self._pool else 0

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Submit a task; it is killed once it has run this long."""
        self._pool = self._pool or self._start()
        self._pool.submit(task, timeout_seconds=timeout_seconds)

    def finished(self, seconds: float) -> list[tuple[T, R | executors.Failed]]:
        """Same as the pool's own, without the failures that are retried."""
        ended = []
        for task, result in self._pool.finished(seconds) if self._pool else ():
            lost = isinstance(result, executors.Failed) and result.cause is not executors.Cause.RAISED
            if lost and task not in self._again:
                self._again.add(task)
                self.submit(task, timeout_seconds=TASK_SECONDS)
            else:
                ended.append((task, result))
        return ended

    def close(self) -> None:
        """End the processes and their child processes."""
        if self._pool:
            self._pool.close()
