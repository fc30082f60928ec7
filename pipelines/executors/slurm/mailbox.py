"""Mailbox: pass tasks and results through a shared folder, between a driver and jobs.

    tasks/NUMBER                 waiting for a job
    claimed/NUMBER@JOB.START     claimed by this start of this job
    results/NUMBER               waiting for the driver
    hello/JOB                    JSON: the job's node, and the token as read there
    alive                        heartbeat of the driver; jobs exit if it stops

The state is in the file names, and changes only by renaming: if two jobs want a task, one gets it, on NFS too.

Tasks and results are pickled, as submitit itself does: the folder is accessible to its owner alone (mode 0700), which is checked
before anything is read from it, as is each file's owner.

On NFS a file that is replaced or renamed while it is read becomes stale for the reader, and a server may be unavailable for a
while: an OSError other than FileNotFoundError is retried for as long as `patience` allows.
"""

import contextlib
import json
import logging
import os
import pickle
import secrets
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from kinetics_sounds import files, retry
from kinetics_sounds.errors import SettingsError

from ...process_pool import SupervisedPool
from .. import SECONDS_BETWEEN_LOOKS

BEATS = 10
"""Heartbeats of the driver per `patience`."""

R = TypeVar("R")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A task claimed by a job."""

    number: int
    job: str
    start: str
    """Differs for each start of the job: a requeued job does not own its earlier claims."""

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{_name(self.number)}@{self.job}.{self.start}"


@dataclass(frozen=True, slots=True)
class Hello:
    """A job's report before it takes work."""

    node: str
    token: str


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The shared folder."""

    folder: Path

    def make(self) -> str:
        """Create the folder, accessible to its owner alone; returns the token that every job must read."""
        self.folder.mkdir(mode=0o700)
        for name in ("tasks", "claimed", "results", "hello"):
            (self.folder / name).mkdir()
        token = secrets.token_hex(16)
        self._write("token", token.encode())
        return token

    def beat(self, count: int) -> None:
        """Write a heartbeat of the driver."""
        self._write("alive", str(count).encode())

    def dismiss(self) -> None:
        """Tell the jobs to exit."""
        (self.folder / "alive").unlink(missing_ok=True)

    def pulse(self) -> bytes | None:
        """Last heartbeat; empty once the jobs shall exit, None while the folder cannot be read."""
        try:
            return (self.folder / "alive").read_bytes()
        except FileNotFoundError:
            return b""
        except OSError:
            return None

    def put(self, number: int, task: object, *, timeout_seconds: float) -> None:
        """Put a task in for any job."""
        self._write(f"tasks/{_name(number)}", pickle.dumps((task, timeout_seconds)))

    def claim(self, job: str, start: str) -> Claim | None:
        """Claim the first waiting task; None if there is none."""
        for name in self._names("tasks"):
            claim = Claim(int(name), job, start)
            place = self.folder / "claimed" / claim.name
            with contextlib.suppress(FileNotFoundError):  # another job was first
                (self.folder / "tasks" / name).rename(place)
            if (
                place.exists()
            ):  # NFS may carry out a rename whose answer was lost, and then say that there is no such file
                return claim
        return None

    def claims(self) -> list[Claim]:
        """All claimed tasks."""
        parts = (name.partition("@") for name in self._names("claimed"))
        return [Claim(int(number), *job.rsplit(".", 1)) for number, _, job in parts]

    def held(self, job: str, start: str) -> Claim | None:
        """First task claimed by this start of the job."""
        return next((claim for claim in self.claims() if (claim.job, claim.start) == (job, start)), None)

    def put_back(self, claim: Claim) -> bool:
        """Put a claimed task back; False if someone else did, or if it has a result."""
        if (self.folder / "results" / _name(claim.number)).exists():
            return False
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "claimed" / claim.name).rename(self.folder / "tasks" / _name(claim.number))
            return True
        return False

    def withdraw(self, number: int) -> bool:
        """Remove a waiting task; False if a job has claimed it."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "tasks" / _name(number)).unlink()
            return True
        return False

    def drop(self, claim: Claim) -> None:
        """Remove a claimed task."""
        (self.folder / "claimed" / claim.name).unlink(missing_ok=True)

    def read(self, claim: Claim) -> tuple[Any, float]:
        """The claimed task and its time limit in seconds."""
        task, timeout_seconds = self._load(f"claimed/{claim.name}")
        return task, timeout_seconds

    def answer(self, claim: Claim, result: object) -> None:
        """Put in the result of a claimed task."""
        self._write(f"results/{_name(claim.number)}", pickle.dumps(result))
        self.drop(claim)

    def take(self, numbers: Collection[int]) -> dict[int, Any]:
        """Take out the existing results of these tasks; results of other tasks were returned before."""
        found: dict[int, Any] = {}
        for name in self._names("results"):
            with contextlib.suppress(OSError):  # it stays there for the next look
                if int(name) in numbers:
                    found[int(name)] = self._load(f"results/{name}")
                    for claim in self.claims():
                        if claim.number == int(name):  # its job ended between the two steps of `answer`
                            self.drop(claim)
                (self.folder / "results" / name).unlink()
        return found

    def greet(self, job: str) -> None:
        """Report of a starting job; raises FileNotFoundError if the driver's folder does not exist."""
        hello = Hello(socket.gethostname(), (self.folder / "token").read_text())
        self._write(f"hello/{job}", json.dumps(asdict(hello)).encode())

    def greetings(self) -> dict[str, Hello]:
        """Reports of all jobs."""
        found: dict[str, Hello] = {}
        for name in self._names("hello"):
            with contextlib.suppress(OSError):  # that of a job that was requeued is replaced
                found[name] = Hello(**json.loads((self.folder / "hello" / name).read_bytes()))
        return found

    def _names(self, kind: str) -> list[str]:
        """Names of the complete files of a kind, sorted; empty once the folder is gone.

        All begin with a digit; files that NFS keeps for readers of a removed file begin with a dot.
        """
        folder = self.folder / kind
        try:
            os.utime(folder)  # an NFS client then asks for the folder anew, instead of showing it up to a minute old
            names = [path.name for path in folder.iterdir() if path.suffix != files.PART]
            return sorted(name for name in names if name[:1].isdigit())
        except FileNotFoundError:
            return []

    def _write(self, name: str, data: bytes) -> None:
        """Write a file atomically; raises FileNotFoundError once the folder is gone, instead of recreating it."""
        path = self.folder / name
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{files.PART}")
        with files.named(part):
            part.touch(mode=0o600)  # a task may hold an address with a secret
            part.write_bytes(data)
        files.replace_atomically(part, path)

    def _load(self, name: str) -> Any:  # noqa: ANN401 - whatever was laid out
        folder = self.folder.lstat()
        with os.fdopen(os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW), "rb") as data:
            owners = {folder.st_uid, os.fstat(data.fileno()).st_uid}
            if not stat.S_ISDIR(folder.st_mode) or stat.S_IMODE(folder.st_mode) & 0o077 or owners != {os.geteuid()}:
                raise SettingsError(
                    f"{self.folder}: is accessible to others, so nothing is read from it; check who changed its mode"
                )
            return pickle.load(data)  # noqa: S301 - only we can have written it


class Heart:
    """Heartbeat of the driver, from its own thread: the driver may be busy for long."""

    def __init__(self, mailbox: Mailbox, *, patience_seconds: float) -> None:
        self._mailbox = mailbox
        self._seconds = patience_seconds / BEATS
        self._stopped = threading.Event()
        mailbox.beat(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell the jobs to exit."""
        self._stopped.set()
        self._thread.join()
        self._mailbox.dismiss()

    def _run(self) -> None:
        count = 0
        while not self._stopped.wait(self._seconds):
            count += 1
            try:
                self._mailbox.beat(count)
            except OSError as error:  # a disk that is full or away for a moment; should it last, the jobs leave
                _log.warning("%s: the heartbeat could not be written: %s", self._mailbox.folder, error)


class Leave:
    """Whether a job shall exit: it was told to, or the driver is gone."""

    def __init__(self, mailbox: Mailbox, patience_seconds: float) -> None:
        self._mailbox = mailbox
        self._patience = patience_seconds
        self._pulse: bytes | None = None
        self._felt = time.monotonic()
        self._told = False
        for number in (signal.SIGTERM, signal.SIGUSR2):  # Slurm's: cancelled or preempted; soon out of time
            signal.signal(number, self._tell)

    def __bool__(self) -> bool:
        pulse = self._mailbox.pulse()
        if pulse not in (None, self._pulse):
            self._pulse, self._felt = pulse, time.monotonic()  # a job does not trust another machine's clock
        return self._told or pulse == b"" or time.monotonic() > self._felt + self._patience

    def _tell(self, _number: int, _frame: FrameType | None) -> None:
        self._told = True


def serve(mailbox: Mailbox, function: Callable[[Any], Any], *, job: str, patience_seconds: float) -> None:
    """Entry point of a job: take tasks and return results, until told to exit or the heartbeat stops for `patience_seconds`.

    Tasks claimed by an earlier start of the job are put back first; those claimed by this one, at the end.
    """
    leave, start = Leave(mailbox, patience_seconds), secrets.token_hex(4)
    try:
        _with_retry(lambda: _put_back_all(mailbox, job), leave)
        _with_retry(lambda: mailbox.greet(job), leave)
        with contextlib.closing(SupervisedPool(function, workers=1)) as process:
            for claim in _claims(mailbox, job, start, leave):
                if (read := _with_retry(partial(mailbox.read, claim), leave)) is None:
                    break
                task, timeout_seconds = read
                process.submit(task, timeout_seconds=timeout_seconds)
                ended = process.finished(SECONDS_BETWEEN_LOOKS)
                while not ended and not leave:
                    ended = process.finished(SECONDS_BETWEEN_LOOKS)
                if ended and not leave:  # told to leave, a task may have ended of the same signal
                    _with_retry(partial(mailbox.answer, claim, ended[0][1]), leave)
        _with_retry(lambda: _put_back_all(mailbox, job), leave)
    except FileNotFoundError:
        if mailbox.folder.exists():
            raise
        _log.warning("%s: is gone, and so is the driver", mailbox.folder)


def _put_back_all(mailbox: Mailbox, job: str) -> None:
    for claim in mailbox.claims():
        if claim.job == job:
            mailbox.put_back(claim)


def _with_retry(act: Callable[[], R], leave: Leave) -> R | None:
    """Call `act`, again while the folder cannot be used; None once the job shall exit."""

    def may_pass(error: Exception) -> bool:
        if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
            return False
        _log.warning("the folder of tasks cannot be used now: %s", error)
        return not leave

    every_look = retry.Backoff(
        attempts=None, first_seconds=SECONDS_BETWEEN_LOOKS, longest_seconds=SECONDS_BETWEEN_LOOKS
    )
    try:
        return retry.call(act, may_pass=may_pass, backoff=every_look)
    except FileNotFoundError:
        raise
    except OSError:  # it was told
        return None


def _claims(mailbox: Mailbox, job: str, start: str, leave: Leave) -> Iterator[Claim]:
    """Claim task after task, waiting for each, until the job shall exit."""
    in_doubt = False
    while not leave:
        try:
            claim = (mailbox.held(job, start) if in_doubt else None) or mailbox.claim(job, start)
            in_doubt = False
        except OSError as error:  # a task may be ours for all that
            _log.warning("%s: %s", mailbox.folder, error)
            claim, in_doubt = None, True
        if claim is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        else:
            yield claim


def _name(number: int) -> str:
    return f"{number:012d}"
