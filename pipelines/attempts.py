"""A clip's task as its worker tries it, and what the driver makes of what comes back: of ks-shard and ks-export alike."""

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
"""A clip's whole task is killed after this; ffmpeg has the shorter `--timeout`."""
AGAIN = "run the same command to go on"


def mending(build: Path, *, then: str) -> str:
    """What to do where the clips of a build are not those that its manifest names; `then` is the command to run again."""
    command = f"ks-build ... --out {shlex.quote(str(build))} --check_bytes"
    return f"make it anew with the options of the build ({command}), then run {then} again"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a clip's task cannot be done."""

    reason: str
    error: type[KineticsSoundsError] = ManifestError
    """What that is: for a person to mend, or StoppedError where running again may help, or FaultError where a disk fails."""


def attempt(act: Callable[[T], R], task: T) -> R | Refused:
    """What `act` gives, with what is up to the user, the disk or the machine as a result: what a worker raises is a bug."""
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
            return Refused(f"{error}; see to that disk or machine and {AGAIN}", FaultError)
        return Refused(f"{error}; {AGAIN}", StoppedError)


def in_two_tries(act: Callable[[], R], path: Path, *, decoded: Callable[[R], int] = lambda _: 0, frames: int = 0) -> R:
    """What `act` makes of a clip's file, in a second try where the first fails: tools are killed, disks stall.

    So too where other than `frames` frames were `decoded` (0: their number is not known): some demuxers pass over what they
    cannot read without a word. Two tries that show the same are believed, for then it is the number that was measured
    otherwise. Raises MediaError where the second try fails, UnreadableError where it shows others again, and not those of
    the first, and OSError where the file cannot be read to its end.
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
    raise UnreadableError(f"{path}: one try {first}, the next decoded {again}, where there are {frames}")


def check(key: str, result: object) -> None:
    """See that a clip's task made something, which is then no `Refused` nor `Failed`.

    Raises ManifestError for what a person must do first, StoppedError for what is not known to be the clip's own fault, and
    FaultError for a bug or a disk that fails: nothing is settled.
    """
    if isinstance(result, Refused):
        raise result.error(f"{key}: {result.reason}")
    if isinstance(result, executors.Failed):
        if result.cause is executors.Cause.RAISED:
            raise FaultError(f"{key}: {result.detail}; {BUG_BELOW}\n{result.trace}")
        raise StoppedError(f"{key}: {result.detail}; {AGAIN}")


class RetryOnce(Generic[T, R]):
    """A pool that hands a task in once more whose process died or ran past its time: machines can be busy."""

    def __init__(self, start: Callable[[], executors.Pool[T, R]], *, workers: int) -> None:
        """Nothing is started before the first task."""
        self.workers = workers
        self._start = start
        self._pool: executors.Pool[T, R] | None = None
        self._again: set[T] = set()

    @property
    def busy(self) -> int:
        """Tasks handed in whose results were not taken yet."""
        return self._pool.busy if self._pool else 0

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Hand in a task, which is killed once it has run this long."""
        self._pool = self._pool or self._start()
        self._pool.submit(task, timeout_seconds=timeout_seconds)

    def finished(self, seconds: float) -> list[tuple[T, R | executors.Failed]]:
        """As the pool's own, without the ends that are no ends yet."""
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
        """End the processes and what they run."""
        if self._pool:
            self._pool.close()
