"""Cache of whole remote files in a folder of bounded size, shared by any number of processes.

FOLDER/{sha256}.{bytes}        a verified copy: named by its content, so never stale
FOLDER/{sha256}.{bytes}.part   a download in progress, by the process that holds its lock; resumed if that was killed
FOLDER/.lock                   held while space is freed

Sizes are taken from the names, so a download in progress counts with its full size.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import files, remote
from .errors import RemoteError, SettingsError

_NAME = re.compile(rf"[0-9a-f]{{64}}\.\d+(?:{re.escape(files.PART)})?")


def default_cache() -> Path:
    """Default cache folder of all commands."""
    return files.user_path("~/.cache/kinetics-sounds")


@dataclass(frozen=True, slots=True)
class Cache:
    """An LRU cache folder of at most `most_bytes`."""

    folder: Path
    most_bytes: int

    @classmethod
    def for_set(cls, shards: remote.Url, folder: Path, *, gigabytes: float) -> "Cache | None":
        """Cache of a command that reads a shard set; None for a local set.

        Raises SettingsError if the folder is in a home directory that does not exist.
        """
        if not remote.is_url(shards):
            return None
        if folder.parts[:1] == ("~",):
            raise SettingsError(
                "--cache: there is no home folder for the cache (no HOME, and no entry of this user); give a folder"
            )
        return cls(folder, most_bytes=int(gigabytes * 1e9))

    def open(self, url: remote.Url, *, size: int, sha256: str) -> int:
        """Open the cached copy of a file, fetching it if needed.

        Returns a file descriptor for reading, which stays valid after eviction. Raises RemoteError if the file cannot be fetched
        or is larger than the cache.
        """
        while True:
            with self._errors():
                descriptor = self._opened(size, sha256)
            if descriptor is not None:
                return descriptor
            self._bring(url, size, sha256)

    def fetch(self, url: remote.Url, *, size: int, sha256: str) -> None:
        """Make sure that a copy is cached; raises as `open`."""
        os.close(self.open(url, size=size, sha256=sha256))

    def drop(self, descriptor: int, *, size: int, sha256: str) -> None:
        """Remove the damaged copy that is open as `descriptor`; a newer copy is kept."""
        path = self._path(size, sha256)
        with self._errors(), _locked(self.folder / ".lock"), contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                path.unlink()

    def _path(self, size: int, sha256: str) -> Path:
        path = self.folder / f"{sha256}.{size}"
        if not _NAME.fullmatch(path.name):
            raise RemoteError(
                f"{self.folder}: {sha256[:80]!r} is not a valid SHA-256 in an index; make the set again with ks-shard"
            )
        return path

    def _opened(self, size: int, sha256: str) -> int | None:
        try:
            descriptor = os.open(self._path(size, sha256), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with _closed_by_an_error(descriptor):
            if os.fstat(descriptor).st_size != size:
                os.close(descriptor)
                return None
            now = time.time_ns()
            os.utime(descriptor, ns=(now, now))
        return descriptor

    def _bring(self, url: remote.Url, size: int, sha256: str) -> None:
        """Fetch a copy, or wait for the process that blocks it."""
        if size > self.most_bytes:
            raise RemoteError(
                f"{self.folder}: a cache of {self.most_bytes / 1e9:.10g} GB cannot hold a shard of {size / 1e9:.10g} GB; "
                "increase --cache_gb, ideally to twice the shards that are shuffled together"
            )
        path = self._path(size, sha256)
        with self._errors():
            files.make_folder(self.folder)
            with _locked(self.folder / ".lock"):
                claim, busy = self._claimed(path, size)
            if claim is None:
                _wait(busy)
                return
        try:
            remote.download(url, path, size=size, sha256=sha256)
        finally:
            os.close(claim)

    def _claimed(self, path: Path, size: int) -> tuple[int | None, Path]:
        """Lock a partial copy and reserve its space; else None, and the partial copy that another process is fetching."""
        part = _part(path)
        claim = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with _closed_by_an_error(claim):  # or the lock would be held as long as this process lives
            if _lock(claim):
                if not path.exists() or path.stat().st_size != size:
                    path.unlink(missing_ok=True)
                    if (busy := self._make_room(size, besides=path)) is None:
                        return claim, part
                    part = busy
                else:  # it was finished since we looked: what we hold is an empty file, or the finished one by its old name
                    part.unlink(missing_ok=True)
        os.close(claim)
        return None, part

    def _make_room(self, size: int, *, besides: Path) -> Path | None:
        """Evict copies until `size` more bytes fit; returns a download in progress that is in the way, if any."""
        others = self._copies() - {besides}
        taken, busy = sum(map(_bytes, others)), None
        for path in sorted(others, key=_used):
            if taken + size <= self.most_bytes:
                break
            if _evicted(path):
                taken -= _bytes(path)
            else:
                busy = _part(path)
        return busy if taken + size > self.most_bytes else None

    def _copies(self) -> set[Path]:
        """All copies, complete or partial."""
        seen: set[Path] | None = None
        while True:  # a look may miss a file that is renamed meanwhile; two that agree have not
            names = {file.name.removesuffix(files.PART) for file in self.folder.iterdir() if _NAME.fullmatch(file.name)}
            if seen == (seen := {self.folder / name for name in names}):
                return seen

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in files.FULL:
                raise
            raise RemoteError(
                f"{self.folder}: cannot be used as a cache: {error.strerror}; give another folder (--cache)"
            ) from error


@contextlib.contextmanager
def _closed_by_an_error(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


def _bytes(path: Path) -> int:
    """Size of a copy once complete, in bytes."""
    return int(path.name.split(".")[1])


def _part(path: Path) -> Path:
    return path.with_name(path.name + files.PART)


def _used(path: Path) -> int:
    """Time of a copy's last open or write, in nanoseconds."""
    for file in (path, _part(path)):
        with contextlib.suppress(FileNotFoundError):
            return file.stat().st_mtime_ns
    return 0


def _evicted(path: Path) -> bool:
    """Remove a copy unless it is being fetched; returns whether it was removed."""
    with contextlib.suppress(FileNotFoundError):
        claim = os.open(_part(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not _lock(claim):
                return False
            _part(path).unlink()
        finally:
            os.close(claim)
    path.unlink(missing_ok=True)
    return True


def _lock(descriptor: int) -> bool:
    """Lock an open file; False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(part: Path) -> None:
    """Wait until no process is fetching this partial copy."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
