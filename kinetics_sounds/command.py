"""Code shared by all commands: exit codes, signals, broken pipes, and error messages."""

import contextlib
import errno
import importlib.util
import io
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from . import __version__, files
from .errors import FaultError, KineticsSoundsError, RemoteError, SettingsError, StoppedError
from .extras import DISTRIBUTION, pip_install
from .plugins import ignore_working_folder, nearest
from .redact import of_url, redact

DONE, SOME_FAILED, MISUSE, STOPPED, FAULT = 0, 1, 2, 3, 4
"""Exit codes: all done; done, but some clips or samples failed; usage error; stopped after saving (run again to resume); a
bug or an unforeseen fault, with no claim about the results."""
BUG = "this is a bug; please report it with the lines above"
"""Printed after the traceback of an unexpected exception."""
INSTALL_TORCH = pip_install("train")
"""The remedy where PyTorch is not installed."""
DISTRIBUTIONS = {"yaml": "pyyaml", "ffmpeg": "ffmpeg-python", "sklearn": "scikit-learn"}
"""Names for pip of modules that are called otherwise."""
SAME_SECONDS = 0.5
"""Signals within this many seconds count as one request."""

_REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)

_SECRETS: set[str] = set()
"""Secrets of the addresses among the command's arguments (which may contain blanks, where a URL would end)."""


def command(prog: str, run: Callable[[], int], *, tell: Callable[[str], None] | None = None) -> int:
    """Run a command's body: a user's error becomes one line on standard error and exit code 2, without a traceback.

    An error of the operating system (disk full, no permission, failing disk) is no bug either: exit code 4 with the path, also
    if it is the cause of one of our own errors. Any other exception is a bug: traceback and exit code 4. `tell` receives the
    text instead of standard error.
    """
    ignore_working_folder()
    _mend_streams()
    _SECRETS.clear()
    keep_secret(sys.argv)
    code = _run(prog, run, _print_error if tell is None else lambda line, code: (tell(redact(line, _SECRETS)), code)[1])
    try:
        sys.stdout.flush()
    except OSError as error:
        error.filename = error.filename or "standard output"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError) and code in (
            DONE,
            SOME_FAILED,
        ):  # after `| head` there is no error of ours
            return _os_error(prog, error, _print_error)
    return code


def tell_version(prog: str, words: Sequence[str]) -> bool:
    """Print the version if `--version` is the only argument, before dependencies are imported; returns whether it was."""
    if list(words) != ["--version"]:
        return False
    print(f"{prog} {__version__}")  # noqa: T201 - this is where commands speak
    return True


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Print all that a command was asked for (a list, `--help`); if the reader leaves early, as `head` does, exit with code 0."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        raise SystemExit(DONE) from None


def check_subcommand(prog: str, words: Sequence[str], valid: Collection[str]) -> None:
    """Raise SettingsError if the first word is neither an option nor a subcommand, of which `valid` has the names."""
    if words and not words[0].startswith("-") and words[0] not in valid:
        raise SettingsError(
            f"{words[0]!r} is neither an option nor a subcommand ({', '.join(valid)}){nearest(words[0], valid)}; "
            f"see {prog} --help"
        )


def has_torch() -> bool:
    """Whether PyTorch is installed, without importing it; only training and evaluation need it."""
    return importlib.util.find_spec("torch") is not None


def refuse_without_torch(prog: str) -> NoReturn:
    """Raise the SettingsError of a command that cannot do without PyTorch."""
    raise SettingsError(f"{prog} needs PyTorch: {INSTALL_TORCH}")


def missing_package(error: ModuleNotFoundError) -> tuple[str, str] | None:
    """What is not installed, and the remedy; None if the missing module is one of ours or of an installed package: a bug."""
    top = (error.name or "").partition(".")[0]
    if not top or top == __package__ or top in sys.stdlib_module_names or importlib.util.find_spec(top) is not None:
        return None
    name = _normal(DISTRIBUTIONS.get(top, top))
    wanted = [each for each in _requirements() if _normal(re.split(r"[^\w.-]", each, maxsplit=1)[0]) == name]
    extras = re.findall(r"extra == ['\"]([\w-]+)['\"]", " ".join(wanted))
    extra = extras[0] if extras and len(extras) == len(wanted) else ""
    return f"the package {name} is not installed", pip_install(extra)


def _normal(name: str) -> str:
    """Name of a package as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements() -> list[str]:
    """Requirements of this package; none if it is not installed but imported from a folder, as by PYTHONPATH."""
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []


def keep_secret(words: Sequence[str]) -> None:
    """Hide the secrets of the URLs among these words from all messages of this command."""
    _SECRETS.update(secret for word in words if "://" in word for secret in of_url(word))


def _mend_streams() -> None:
    """Reopen closed standard streams (`>&-`) on /dev/null, lest a file of ours gets their number; make all paths printable."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - it took the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115, PTH123 - for as long as the process lives
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out is sys.__stdout__:
        raw: Any = getattr(out.buffer, "raw", out.buffer)
        named: Any = _StandardOutput(raw.fileno(), "w", closefd=False)
        named = named if out.buffer is raw else io.BufferedWriter(named)  # as python -u has it, or not
        sys.stdout = io.TextIOWrapper(
            named, out.encoding, line_buffering=out.line_buffering, write_through=out.write_through
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _StandardOutput(io.FileIO):
    """Standard output, named in errors of the operating system."""

    def write(self, data: Any) -> int:  # noqa: ANN401 - anything that holds bytes
        with files.named(Path("standard output")):
            return super().write(data)


def _run(prog: str, run: Callable[[], int], report: Callable[[str, int], int]) -> int:
    """Same as `command`, with error text passed to `report`."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(_Lines("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[lines])
    logging.getLogger("torch").setLevel(logging.WARNING)  # at the end of an interrupted process it counts its caches
    try:
        return run()
    except StoppedError as error:
        return report(f"{prog}: stopped: {error}", STOPPED)
    except FaultError as error:
        return report(f"{prog}: error: {error}", FAULT)
    except KineticsSoundsError as error:
        code = _code(error)
        return report(f"{prog}: {'stopped' if code == STOPPED else 'error'}: {error}", code)
    except BrokenPipeError:
        return report(f"{prog}: stopped: the reader of its output has gone", STOPPED)
    except KeyboardInterrupt:
        return report(f"{prog}: stopped: interrupted; run it again to resume", STOPPED)
    except OSError as error:
        return _os_error(prog, error, report)
    except ModuleNotFoundError as error:
        if (missing := missing_package(error)) is None:
            return report(f"{traceback.format_exc()}{prog}: {BUG}", FAULT)
        return report(f"{prog}: error: {'; to install it and all else that is missing: '.join(missing)}", MISUSE)
    except Exception:  # noqa: BLE001 - told in full, and never with a code that says that something was done
        return report(f"{traceback.format_exc()}{prog}: {BUG}", FAULT)


def _os_error(prog: str, error: OSError, report: Callable[[str, int], int]) -> int:
    """Print an error of the operating system; called while it is being handled."""
    place = f": {files.as_text(error.filename)}" if isinstance(error.filename, str | bytes) else ""
    if error.errno in files.FULL:
        told = "; ".join([f"{error.strerror}{place}", *getattr(error, "__notes__", [])])
        return report(f"{prog}: stopped: {told}; free some space and run it again", STOPPED)
    if error.errno in (errno.EEXIST, errno.ENOTDIR) and place and (file := _file_above(files.as_text(error.filename))):
        return report(f"{prog}: error: {file}: is no folder; choose another place", MISUSE)
    if error.errno in _REFUSED and place:
        return report(f"{prog}: error: {error.strerror}{place}; choose another place or fix this one", MISUSE)
    if error.errno and place:
        return report(f"{prog}: error: {error.strerror}{place}; check that disk or network and run it again", FAULT)
    return report(f"{traceback.format_exc()}{prog}: {BUG}", FAULT)


def _file_above(name: str) -> Path | None:
    """The path itself, or the nearest parent, that exists but is not a folder; None if there is none."""
    paths = (Path(name), *Path(name).parents)
    return next((path for path in paths if (path.exists() or path.is_symlink()) and not path.is_dir()), None)


class _Lines(logging.Formatter):
    """Log formatter that removes secrets of addresses, also those logged by libraries."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), _SECRETS)


def _code(error: KineticsSoundsError) -> int:
    """Exit code 2, unless the error was caused by a disk that is full or fails.

    Errors of URLs do not count: some libraries report EIO for any refusal of a server.
    """
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) and cause not in causes:
        causes.append(cause)
    numbers = {each.errno for each in causes if isinstance(each, OSError)}
    if numbers.intersection(files.FULL):
        return STOPPED
    remote = any(isinstance(each, RemoteError) for each in causes)
    return FAULT if numbers.intersection(files.FAILING) and not remote else MISUSE


def _print_error(line: str, code: int) -> int:
    """Print a line without secrets to standard error, if it is still open; returns the exit code."""
    with contextlib.suppress(BrokenPipeError):
        print(redact(line, _SECRETS), file=sys.stderr)  # noqa: T201 - this is where commands speak
    return code


class Stop:
    """Whether a stop has been requested."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.by is not None

    def __str__(self) -> str:
        """Name of the signal, such as SIGINT."""
        return self.by.name if self.by else "no signal"


@contextlib.contextmanager
def stoppable(*signals: signal.Signals) -> Iterator[Stop]:
    """Turn the first of these signals into a request to stop after saving; a later one ends the process at once.

    Signals within `SAME_SECONDS` count as one: some tools signal both the process and its group.
    """
    stop = Stop()
    before: dict[signal.Signals, Any] = {}
    asked_at = 0.0

    def request(number: int, _frame: FrameType | None) -> None:
        nonlocal asked_at
        if not stop:
            stop.by, asked_at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - asked_at > SAME_SECONDS:
            for each, handler in before.items():
                signal.signal(each, handler)
            os.kill(os.getpid(), number)

    for each in signals:
        before[each] = signal.signal(each, request)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
