"""Errors of SQLite in the words of this package: a full disk, a failing one, a damaged file."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ManifestError

PAGE_BYTES = 4096
"""Page size of SQLite, in bytes."""
_FAILED = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""SQLite error codes that also mean a full disk."""
_NOT_OPENED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
"""SQLite error codes for a file that could not be opened, or only for reading."""
_BROKEN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)


def _is_full(folder: Path) -> bool:
    """Whether there is no space for even one more page."""
    try:
        return shutil.disk_usage(folder).free < PAGE_BYTES
    except OSError:  # not even that can be told
        return False


def _may_be_written(path: Path) -> bool:
    """Whether the file can be opened as far as its user can influence that."""
    known = path.is_file() and os.access(path, os.R_OK | os.W_OK)
    return os.access(path.parent, os.W_OK | os.X_OK) and (known or not os.path.lexists(path))


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and of malformed rows into ManifestError or OSError."""
    try:
        yield
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # without its extension
        if code == sqlite3.SQLITE_FULL or (code in _FAILED and _is_full(path.parent)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if code == sqlite3.SQLITE_IOERR or (code in _NOT_OPENED and _may_be_written(path)):
            raise OSError(errno.EIO, f"{os.strerror(errno.EIO)} ({error})", str(path)) from error
        if code not in _BROKEN:
            raise ManifestError(
                f"{path}: cannot be used now ({error}); check the disk, and other processes that use it"
            ) from error
        raise ManifestError(f"{path}: is not a ledger, or damaged ({error}); move it away to start afresh") from error
