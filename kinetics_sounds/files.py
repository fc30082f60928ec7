"""Files that exist are complete: temporary name, sync, rename."""

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

T = TypeVar("T")
R = TypeVar("R")

PART = ".part"
"""Suffix of a file that is being written."""


def user_path(text: str) -> Path:
    """A path as a user writes it: `~` is their home, and the `~name` of nobody stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises where nobody has that name


PIPE = "it is a named pipe; write what comes through it to a file, and name that"
"""Why a pipe is no file, and the remedy."""


def read_text(path: Path) -> str:
    """A user's text, in UTF-8 with or without a mark.

    Raises OSError where it cannot be read, and ValueError for anything else, whose text says what it is and the remedy.
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
            f"byte 0x{byte:02x} in line {line} is no UTF-8, but perhaps Latin-1 or Windows-1252; save it as UTF-8, "
            "or: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
        ) from error


def read_json(path: Path, *, most_bytes: int) -> object:
    """What a file of JSON says; raises OSError where it cannot be read, and ValueError where it is none or is larger."""
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes} bytes")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def other_separator(text: str) -> str:
    """What stands between the columns of a CSV in place of commas, judged by its first line; empty where commas do."""
    head = text[: next((place for place, letter in enumerate(text) if letter in "\r\n"), len(text))]
    return "" if "," in head else next((mark for mark in ";\t|" if mark in head), "")


FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""What a cell begins with that a spreadsheet runs."""


def for_people(text: str) -> str:
    """A cell of a CSV that a spreadsheet does not run as a formula, with line ends that the format knows how to quote."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _is_formula(text) else text


def from_people(cell: str) -> str:
    """The text again, but for its line ends."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(text: str) -> bool:
    """A formula, or one that is escaped already."""
    return text.lstrip("'").startswith(FORMULA)


def as_text(path: str | bytes | Path) -> str:
    """A path for tables and messages: bytes of it that are no UTF-8 are written as backslash, x and two digits."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of an OSError where there is no room, on the disk or in the user's share of it."""
FAILING = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE)
"""Numbers of an OSError where the disk, the share or the machine fails: nothing that a user wrote is at fault."""


@contextmanager
def named(path: Path, *, needed: int = 0) -> Iterator[None]:
    """Let an OSError that knows no path (of a write or a sync) name this one, and what it needs where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        if error.errno in FULL and needed:
            size = f"{needed / 1e6:.1f} MB" if needed >= 1e5 else f"{needed / 1e3:.1f} kB"
            error.add_note(f"about {size} are needed")
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with named(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless it is there; their names survive a power cut.

    Not so where the folder above all of them may not be read or synced, as one where anyone may put things, and none list them.
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
    """Where this process writes a file until it is whole."""
    return path.with_name(f"{path.name}.{os.getpid()}{PART}")


def replace_atomically(part: Path, path: Path) -> None:
    """Give a finished temporary file its name: sync the bytes, rename, sync the folder."""
    with part.open("rb+") as written, named(part):
        os.fsync(written.fileno())
    part.replace(path)
    sync_folder(path.parent)


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` only once the block has ended without an error."""
    make_folder(path.parent)
    part = part_of(path)
    try:
        with named(path), part.open("wb") as out:
            yield out
        replace_atomically(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file at once, so that it is complete or not there."""
    with named(path, needed=len(data)), atomic_writer(path) as out:
        out.write(data)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def difference(path: Path, *, size: int, digest: str = "") -> str:
    """What keeps a file from being the one that was recorded; empty where nothing does: the one definition of "is there".

    It is a file, or a link to one, of `size` bytes and, where `digest` is given, of that hexadecimal SHA-256. Raises OSError
    where the disk fails, so that it cannot be told.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return "is no file"
        if found.st_size != size:
            return f"has {found.st_size} bytes instead of {size}"
        return "its SHA-256 is another" if digest and sha256(path) != digest else ""
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"


THREADS = 8
"""Files that are read at once: a shared disk answers slowly, and SHA-256 is computed without Python's lock."""


def in_threads(act: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Each item with what `act` gives for it, in their order; a few are worked on at once, and no more are taken ahead."""
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
    """Hold a folder for this process alone; FolderInUseError where another holds it. A kill lets go of it.

    On a file system without locks a file with the host and the process's number says who holds it. After a kill that file
    stays, and whoever knows that the process has ended deletes it: from elsewhere (another host, another container) nobody
    can tell.
    """
    make_folder(folder)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        locks = _lock(descriptor, folder, command=command)
        with nullcontext() if locks else _lock_file(folder, command=command):
            yield
    finally:
        os.close(descriptor)


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Numbers of an OSError where a file system has no locks."""


def _lock(descriptor: int, folder: Path, *, command: str) -> bool:
    """Lock a folder's file; False on a file system without locks. Raises FolderInUseError where another holds the folder."""
    try:
        with named(folder / ".lock"):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderInUseError(f"{folder}: another {command} works in this folder; wait for it or stop it") from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


@contextmanager
def _lock_file(folder: Path, *, command: str) -> Iterator[None]:
    """Hold a folder by a file that says who does."""
    lock = folder / ".lock.held"
    us = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}"
    try:
        held = lock.open("x")
    except FileExistsError as error:
        raise FolderInUseError(
            f"{folder}: {command} works in this folder{_holder(lock)}; wait for it or stop it; if it has ended, delete {lock}"
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
    """Who holds a folder, as far as its file says: a kill may have come before it said anything."""
    with suppress(FileNotFoundError):
        host, number, *_ = [*lock.read_text(errors="replace")[:200].split(), "", ""]
        return f" (process {number} on {host})" if number else ""
    return ""


def is_alive(number: int) -> bool:
    """Whether there is a process of this number on this host."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it; an OSError names the folder (`shutil.rmtree` has names that lead nowhere)."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


SCRATCH = ".ks-scratch"
"""Folder of a command's passing files, within its own output; emptied when the command begins."""


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder for passing files, removed at the end; what a killed run left in it goes first."""
    path = folder / SCRATCH
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def clear(folder: Path, *names: str) -> None:
    """Delete what killed runs left in a folder that is held: passing files, and unfinished ones of these names."""
    remove_parts(folder, *names)
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)


def remove_parts(folder: Path, *names: str) -> None:
    """Delete what killed writers of files of these names (patterns) left in a folder, which need not be there yet.

    That is `NAME.PID.part` where no other process has that number, and nothing else: browsers too call a file that is not
    whole `.part`.
    """
    for part in (part for name in names for part in folder.glob(f"{name}.*{PART}")):
        number = part.name.removesuffix(PART).rpartition(".")[2]
        if number.isdecimal() and (int(number) == os.getpid() or not is_alive(int(number))) and not part.is_dir():
            part.unlink()
