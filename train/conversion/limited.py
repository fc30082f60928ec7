"""Read an untrusted file in a process of its own, with limits on memory, CPU time, wall-clock time and written bytes.

The answer is JSON and no pickle, so the process cannot make its parent run anything. It runs as the same user: the limits bound
what a file can use up; that nothing of the file is run is up to the function that reads it.
"""

import json
import multiprocessing
import os
import resource
import signal
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

from kinetics_sounds import files
from kinetics_sounds.errors import RunError

from ..data.workers import start_method

MOST_ANSWER_BYTES = 1 << 22
"""Maximum size of an answer in bytes."""
MOST_LETTERS = 300
"""Maximum length of what is told of a file that cannot be read."""
SECONDS_TO_LEAVE = 5.0
"""Time for the process to end after its answer, before it is killed."""
REMEDY = "give the file as its authors published it"
Reader = Callable[[BinaryIO, Path], object]
"""Reads a file, may write another one, and returns values of JSON; importable by name."""


class UnfitError(ValueError):
    """Raised by a reader for a file that is not what it reads: the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the process."""

    file_bytes: int
    """Maximum size of the file to read."""
    memory_bytes: int = 1 << 30
    """Maximum memory, besides as much as the file is large."""
    written_bytes: int = 1 << 30
    """Maximum size of a file that it writes."""
    cpu_seconds: int = 120
    """CPU time."""
    seconds: float = 300.0
    """Wall-clock time."""


def read(reader: Reader, path: Path, out: Path, *, limits: Limits) -> object:
    """Run `reader(file, out)` on the file `path` with limits; return its answer.

    Raises RunError with one sentence if the path is not a regular file (or a link to one), the file is too large or not what the
    reader reads, or the process reaches a limit or dies; OSError if the disk of `out` is full.
    """
    try:
        _check(path.stat(), limits)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
    except UnfitError as error:
        raise RunError(f"{path}: {error}; {REMEDY}") from error
    ours, theirs = multiprocessing.Pipe(duplex=False)
    arguments = theirs, reader, str(path.absolute()), str(out), limits
    process = start_method(reader.__module__).Process(target=_answer, args=arguments, daemon=True)
    process.start()
    theirs.close()
    late = threading.Event()

    def expire() -> None:
        late.set()
        process.kill()

    clock = threading.Timer(limits.seconds, expire)
    clock.start()
    try:
        data = ours.recv_bytes(MOST_ANSWER_BYTES)
    except (EOFError, OSError):  # it died, or sent more than an answer
        data = b""
    finally:
        ours.close()
        process.join(SECONDS_TO_LEAVE)
        clock.cancel()
        process.kill()
        process.join()
    if not data:
        ended = f"took more than {limits.seconds:g} s" if late.is_set() else _ending(process.exitcode)
        raise RunError(f"{path}: reading it {ended}; {REMEDY}")
    answer = json.loads(data)
    if "full" in answer:
        raise OSError(answer["full"], os.strerror(answer["full"]), str(out))
    if "unfit" in answer:
        raise RunError(f"{path}: {str(answer['unfit'])[:MOST_LETTERS]}; {REMEDY}")
    return answer["found"]


def _check(found: os.stat_result, limits: Limits) -> None:
    """Raise UnfitError for anything but a regular file of at most `file_bytes`."""
    if not stat.S_ISREG(found.st_mode):
        raise UnfitError("is not a file")
    if found.st_size > limits.file_bytes:
        raise UnfitError(f"has {found.st_size} bytes, and no more than {limits.file_bytes} are read")


def _ending(code: int | None) -> str:
    """How a process ended without an answer."""
    if code == -signal.SIGXCPU:
        return "took too much CPU time"
    return f"ended a process (exit code {code}), which may need more memory than is allowed"


def _answer(report: Connection, reader: Reader, path: str, out: str, limits: Limits) -> None:
    """In the process: read the file, and answer what was found or why it is unfit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries say as they abort
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe is not waited for
            found = os.fstat(file.fileno())
            _check(found, limits)
            _limit(limits, found.st_size)
            answer = {"found": reader(file, Path(out))}
    except UnfitError as error:
        answer = {"unfit": str(error)}
    except MemoryError:
        answer = {"unfit": f"needs more than {limits.memory_bytes >> 20} MiB of memory besides its own size"}
    except Exception as error:  # noqa: BLE001 - whatever a file makes a library raise is what it is
        if isinstance(error, OSError) and error.errno in files.FULL:
            answer = {"full": error.errno}
        else:
            answer = {"unfit": f"cannot be read ({type(error).__name__}: {plain(str(error))})"}
    report.send_bytes(json.dumps(answer).encode())


def plain(text: str) -> str:
    """The first line of a text, with printable ASCII letters only."""
    return ascii(text.strip().partition("\n")[0][:MOST_LETTERS])[1:-1]


def _limit(limits: Limits, size: int) -> None:
    """Set this process's limits for a file of `size` bytes; memory counts from what is mapped already."""
    most = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.written_bytes,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most[resource.RLIMIT_AS] = mapped + size + limits.memory_bytes
    for kind, each in most.items():
        allowed = resource.getrlimit(kind)[1]  # the site's, which a user may not raise
        most_here = each + 1 if allowed == resource.RLIM_INFINITY else min(each + 1, allowed)
        resource.setrlimit(
            kind, (min(each, most_here), most_here)
        )  # at the soft limit of CPU time the signal tells the cause
