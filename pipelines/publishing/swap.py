"""Replace a folder atomically: a kill leaves the old or the new one, never a mixture."""

import ctypes
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kinetics_sounds import files
from kinetics_sounds.errors import PublishError

_EXCHANGE = 2
_AT_FDCWD = -100
_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
"""errno values of kernels and file systems that cannot exchange two names."""
_NEW, _OLD = "new", "old"


def staging_of(out: Path) -> Path:
    """Staging folder for `out`: beside it, on the same disk; raises PublishError for the root."""
    if not out.name:
        raise PublishError(f"{out}: is not a folder that can be replaced; choose another --out")
    return out.with_name(f".{out.name}.ks-publish")


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """An empty, locked staging folder for `out`; leftovers of a killed run are removed first.

    It is removed at the end, unless it was exchanged. Other files in the staging folder stay until `exchange` has ended, so that
    a stopped run can resume.
    """
    place = staging_of(out)
    with files.exclusive(place, command="ks-publish"):
        if (place / _OLD).exists():  # killed between two renames, or while the old folder was removed
            if not out.exists():
                (place / _OLD).rename(out)
            else:
                files.remove_folder(place / _OLD)
        if (place / _NEW).exists():
            files.remove_folder(place / _NEW)
        new = place / _NEW
        files.make_folder(new)
        try:
            yield new
        finally:
            shutil.rmtree(new, ignore_errors=True)
            if not {path.name for path in place.glob("*")} - {".lock", ".lock.held"}:
                discard(out)


def discard(out: Path) -> None:
    """Remove the staging folder of `out`."""
    shutil.rmtree(staging_of(out), ignore_errors=True)


def exchange(new: Path, out: Path, *, own: Iterable[str]) -> None:
    """Move the finished folder `new` to `out`; files there that are not in `own` are kept.

    On a file system that cannot exchange two folders there is a moment without either; after a kill at that moment, the next run
    repairs it.
    """
    for _ in files.in_threads(_sync, [path for path in new.rglob("*") if path.is_file()]):
        pass
    if out.exists():
        _keep_others(out, new, set(own))
    for path in [new, *(path for path in new.rglob("*") if path.is_dir())]:
        files.sync_folder(path)
    files.make_folder(out.parent)
    old = new.with_name(_OLD)
    if not out.exists():
        new.rename(out)
    elif _exchanged(new, out):
        new.rename(old)
    else:
        out.rename(old)
        try:
            new.rename(out)
        except OSError:
            old.rename(out)
            raise
    files.sync_folder(out.parent)
    discard(out)


def _sync(path: Path) -> None:
    """Sync a file."""
    with path.open("rb") as file, files.named(path):
        os.fsync(file.fileno())


def _keep_others(out: Path, new: Path, own: set[str]) -> None:
    """Hard-link files that ks-publish did not write into the new folder."""
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                (new / name).mkdir(parents=True, exist_ok=True)
            continue
        if name.as_posix() in own:
            continue
        (new / name.parent).mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, new / name, follow_symlinks=False)
        except OSError:
            shutil.copy2(path, new / name, follow_symlinks=False)
            if not path.is_symlink():
                _sync(new / name)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two names atomically; False if not supported here."""
    with suppress(AttributeError):  # a C library without it
        call = ctypes.CDLL(None, use_errno=True).renameat2
        if call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _EXCHANGE) == 0:
            return True
        number = ctypes.get_errno()
        if number not in _NOT_HERE:
            raise OSError(number, os.strerror(number), str(second))
    return False
