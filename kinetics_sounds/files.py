"""File utilities. Every file is written to a temporary name, synced and renamed, so that an existing file is complete."""

import codecs
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, TypeVar

from .errors import FolderInUseError
from .quantities import byte_size

T = TypeVar("T")
R = TypeVar("R")

PART = ".part"
"""Suffix of unfinished files."""


def user_path(text: str) -> Path:
    """A path as a user writes it: `~` is expanded; an unknown `~name` is kept."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises where nobody has that name


PIPE = "it is a named pipe; write its output to a file, and give that"
"""Error message for a named pipe."""


def read_text(path: Path) -> str:
    """Read a user's text file: UTF-8, with or without a byte order mark.

    Raises OSError if it cannot be read, and ValueError with the problem and the remedy for anything but text.
    """
    if path.is_fifo() and path.resolve().exists():  # what `<(command)` gives has no name that leads anywhere, and ends
        raise ValueError(PIPE)
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 in data[:2]:  # the mark may be missing
        raise ValueError("it is UTF-16; save it as UTF-8, or: iconv -f UTF-16 -t UTF-8 OLD > NEW")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte, line = error.object[error.start], error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"byte 0x{byte:02x} in line {line} is not UTF-8, but perhaps Latin-1 or Windows-1252; save it as UTF-8, "
            "or: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
        ) from error


def read_json(path: Path, *, most_bytes: int) -> object:
    """Parse a JSON file; raises OSError if it cannot be read, and ValueError if it is not JSON or too large."""
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes} bytes")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def other_separator(text: str) -> str:
    """The separator of a CSV that does not use commas, guessed from its header; empty if it does use commas."""
    head = text[: next((place for place, letter in enumerate(text) if letter in "\r\n"), len(text))]
    return "" if "," in head else next((mark for mark in ";\t|" if mark in head), "")


FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""First characters of cells that a spreadsheet would run as formulas."""


def for_people(text: str) -> str:
    """Escape a CSV cell so that no spreadsheet runs it as a formula, and with line ends that CSV can quote."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _is_formula(text) else text


def from_people(cell: str) -> str:
    """Inverse of `for_people`, except for line ends."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(text: str) -> bool:
    """Whether a cell is a formula, or an escaped one."""
    return text.lstrip("'").startswith(FORMULA)


def as_text(path: str | bytes | Path) -> str:
    """A path as text for tables and messages: bytes that are not UTF-8 become backslash, x and two digits."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


FULL = (errno.ENOSPC, errno.EDQUOT)
"""errno values for a full disk or an exhausted quota."""
FAILING = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE)
"""errno values for a failing disk, share or machine: not the user's fault."""


@contextmanager
def named(path: Path, *, needed: int = 0) -> Iterator[None]:
    """Name this path in an OSError without one, or with the one of `part_of`; and the space needed if the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename in (None, f"{path}.{os.getpid()}{PART}"):
            error.filename = str(path)
        if error.errno in FULL and needed:
            error.add_note(f"about {byte_size(needed)} are needed")
        raise


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that its entries survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with named(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, and sync them, so that they survive a power cut.

    The first existing parent is not synced if it may not be read or synced, such as a folder that anyone may write to and nobody
    may list.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in reversed(new):
        try:
            sync_folder(each.parent)
        except OSError as error:
            if each != new[-1] or error.errno not in (errno.EACCES, errno.EINVAL):
                raise


def part_of(path: Path) -> Path:
    """Temporary path of an unfinished file of this process."""
    return path.with_name(f"{path.name}.{os.getpid()}{PART}")


def replace_atomically(part: Path, path: Path) -> None:
    """Move a finished temporary file to its final name: sync the bytes, rename, sync the folder."""
    with named(path), part.open("rb+") as written:
        os.fsync(written.fileno())
        part.replace(path)
    sync_folder(path.parent)


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `path` only if the block ends without an error."""
    make_folder(path.parent)
    part = part_of(path)
    try:
        with named(path), part.open("wb") as out:
            yield out
        replace_atomically(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with named(path, needed=len(data)), atomic_writer(path) as out:
        out.write(data)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def difference(path: Path, *, size: int, digest: str = "") -> str:
    """How a file differs from its record; empty if it does not. This is the definition of an existing file everywhere.

    Compares type (a file, or a link to one), `size` in bytes and, if `digest` is given, the hexadecimal SHA-256. Raises OSError
    if the disk fails.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return "is not a file"
        if found.st_size != size:
            return f"has {found.st_size} bytes instead of {size}"
        return "its SHA-256 differs" if digest and sha256(path) != digest else ""
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"


THREADS = 8
"""Files read concurrently: a shared disk has high latency, and SHA-256 releases the GIL."""


def in_threads(act: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Map `act` over the items in a few threads: yields (item, result) in order, without reading far ahead."""
    pool = ThreadPoolExecutor(THREADS)
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(act, item)))
            if len(waiting) == 2 * THREADS:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def exclusive(folder: Path, *, command: str) -> Iterator[None]:
    """Lock a folder for this process; raises FolderInUseError if another holds it. The lock ends with the process.

    On a file system without locks, a file with the host name and the process ID is the lock. It remains after a kill, and the
    next command removes it if that process has ended; from another host or container this cannot be known, and the user has to.
    """
    make_folder(folder)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with nullcontext() if _lock(descriptor, folder, command=command) else _lock_file(folder, command=command):
            yield
    finally:
        os.close(descriptor)


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""errno values of a file system without locks."""


def _lock(descriptor: int, folder: Path, *, command: str) -> bool:
    """Lock a folder's file; False on a file system without locks. Raises FolderInUseError if another process holds it."""
    try:
        with named(folder / ".lock"):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderInUseError(
            f"{folder}: another {command} is running in this folder; wait for it or stop it"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def is_locked(folder: Path) -> bool:
    """Whether another process holds a folder by `exclusive`, as far as this host can tell."""
    with suppress(FileNotFoundError, PermissionError), (folder / ".lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in NO_LOCKS or (folder / ".lock.held").exists()
    return False


@contextmanager
def _lock_file(folder: Path, *, command: str) -> Iterator[None]:
    """Hold a folder by means of a file that names the owner."""
    lock = folder / ".lock.held"
    us = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}"
    try:
        held = lock.open("x")
    except FileExistsError as error:
        raise FolderInUseError(
            f"{folder}: {command} is running in this folder{_holder(lock)}; wait for it or stop it; if it ended, delete {lock}"
        ) from error
    try:
        with held, named(lock):
            held.write(us)
    except OSError:
        lock.unlink()
        raise
    try:
        yield
    finally:
        with suppress(FileNotFoundError):  # it was deleted, and another may have taken the folder since
            if lock.read_text() == us:
                lock.unlink()


def _holder(lock: Path) -> str:
    """Owner of a folder, according to its lock file, which a kill may have left empty."""
    with suppress(FileNotFoundError):
        host, number, *_ = [*lock.read_text(errors="replace")[:200].split(), "", ""]
        return f" (process {number} on {host})" if number else ""
    return ""


def is_alive(number: int) -> bool:
    """Whether a process with this ID runs on this host."""
    try:
        with suppress(PermissionError):  # somebody else's
            os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    return True


def remove_folder(folder: Path) -> None:
    """Remove a folder tree; an OSError then names the folder (`shutil.rmtree` gives misleading names)."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


SCRATCH = ".ks-scratch"
"""Folder for temporary files within a command's output; cleared at the start."""


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Create an empty folder for temporary files, removed at the end; leftovers of a killed run are deleted first."""
    path = folder / SCRATCH
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def clear(folder: Path, *names: str) -> None:
    """Delete leftovers of killed runs in a locked folder: temporary files, and unfinished files of these names."""
    remove_parts(folder, *names)
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)


def remove_parts(folder: Path, *names: str) -> None:
    """Delete unfinished files that killed writers left in a folder, for these names (patterns); the folder need not exist.

    Only `NAME.PID.part` files of processes that have ended are deleted: browsers use the suffix `.part` too.
    """
    for part in (part for name in names for part in folder.glob(f"{name}.*{PART}")):
        number = part.name.removesuffix(PART).rpartition(".")[2]
        if number.isdecimal() and (int(number) == os.getpid() or not is_alive(int(number))) and not part.is_dir():
            part.unlink()
