"""Checks of the data folder: free space, and the file system features that the commands need."""

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kinetics_sounds import files

from . import GIGABYTE, Asked, Finding, Verdict

LITTLE, TOO_LITTLE = 50 * GIGABYTE, 1 * GIGABYTE
"""Free bytes below which a build of a paper's dataset does not fit, and below which nothing does."""


def disk(asked: Asked) -> Iterator[Finding]:
    """Free space in the data folder."""
    place = nearest(Path(asked.out))
    usage = shutil.disk_usage(place)
    found = f"{usage.free / GIGABYTE:.1f} GB free of {usage.total / GIGABYTE:.1f} GB at {place}"
    remedy = "free space, or choose another folder with --out; K100 takes about 120 GB of clips and 55 GB of shards"
    if usage.free < TOO_LITTLE:
        yield Finding("disk", Verdict.MISSING, found, remedy)
    elif usage.free < LITTLE:
        yield Finding("disk", Verdict.WARNING, found, remedy)
    else:
        yield Finding("disk", Verdict.OK, found)


def file_system(asked: Asked) -> Iterator[Finding]:
    """Test each file system feature that the commands need, with temporary files."""
    place = nearest(Path(asked.out))
    remedy = "choose a folder on another disk with --out; a network folder must be mounted with locks"
    if Path(asked.out).exists() and not Path(asked.out).is_dir():
        yield Finding("file system", Verdict.MISSING, f"{asked.out} is not a folder", "choose a folder with --out")
        return
    try:
        scratch = tempfile.mkdtemp(prefix=".ks-doctor-", dir=place)
    except OSError as error:
        yield Finding("file system", Verdict.MISSING, f"{place}: is not writable: {error.strerror}", remedy)
        return
    try:
        faults = list(_faults(Path(scratch)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if faults:
        yield Finding("file system", Verdict.MISSING, f"{place}: {'; '.join(faults)}", remedy)
    else:
        yield Finding("file system", Verdict.OK, f"{', '.join(TRIES)} work at {place}")


def nearest(place: Path) -> Path:
    """The folder, or its nearest existing parent."""
    place = place.absolute()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def _faults(scratch: Path) -> Iterator[str]:
    for name, attempt in TRIES.items():
        folder = scratch / name
        try:
            folder.mkdir()
            attempt(folder)
        except OSError as error:
            yield f"{name}: {error.strerror or error}"


def _rename(folder: Path) -> None:
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    with old.open("rb") as reader:  # whoever reads the old file goes on reading it
        files.replace_atomically(new, old)
        if reader.read() != b"old" or old.read_bytes() != b"new" or new.exists():
            raise OSError("a file that takes another's place is not it")


def _flock(folder: Path) -> None:
    with (folder / "lock").open("wb") as one, (folder / "lock").open("wb") as other:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        raise OSError("two hold one lock")


def _record_lock(folder: Path) -> None:
    with (folder / "lock").open("wb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _symlink(folder: Path) -> None:
    (folder / "file").write_bytes(b"file")
    (folder / "link").symlink_to(folder / "file")
    if (folder / "link").read_bytes() != b"file":
        raise OSError("a link leads elsewhere")


TRIES: Mapping[str, Callable[[Path], None]] = {
    "rename": _rename,
    "flock": _flock,
    "record lock": _record_lock,
    "symbolic link": _symlink,
}
"""Features to test: atomic rename, folder locks, SQLite's locks, linked clips. Each function raises OSError."""
