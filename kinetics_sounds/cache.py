"""Whole copies of remote files in a folder of bounded size, which any number of processes share.

FOLDER/{sha256}.{bytes}        a copy, checked: its name is its content, so it cannot be stale
FOLDER/{sha256}.{bytes}.part   one that is being fetched, by whoever holds its lock; what a killed one left is gone on with
FOLDER/.lock                   held for the moment in which room is made

Bytes are counted by the names, so what is still to come is counted too.
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
    """Folder of every command that is not told another."""
    return files.user_path("~/.cache/kinetics-sounds")


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder for at most `most_bytes` of copies: for a new one the least recently used give way."""

    folder: Path
    most_bytes: int

    @classmethod
    def for_set(cls, shards: remote.Url, folder: Path, *, gigabytes: float) -> "Cache | None":
        """That of a command that reads a shard set; None where the set lies on a disk.

        Raises SettingsError where the folder is in a home that is not there.
        """
        if not remote.is_url(shards):
            return None
        if folder.parts[:1] == ("~",):
            raise SettingsError(
                "--cache: there is no home folder to keep shards in (no HOME, and no entry of this user); name a folder"
            )
        return cls(folder, most_bytes=int(gigabytes * 1e9))

    def open(self, url: remote.Url, *, size: int, sha256: str) -> int:
        """A file descriptor, for reading, of the copy of a file, which is fetched if need be; it stays good when others evict it.

        Raises RemoteError where the file is not to be had or larger than the cache.
        """
        while True:
            with self._errors():
                descriptor = self._opened(size, sha256)
            if descriptor is not None:
                return descriptor
            self._bring(url, size, sha256)

    def fetch(self, url: remote.Url, *, size: int, sha256: str) -> None:
        """See that there is a copy, as `open` does."""
        os.close(self.open(url, size=size, sha256=sha256))

    def drop(self, descriptor: int, *, size: int, sha256: str) -> None:
        """Forget the copy that is open as `descriptor`, which turned out to be damaged; a newer one stays."""
        path = self._path(size, sha256)
        with self._errors(), _locked(self.folder / ".lock"), contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                path.unlink()

    def _path(self, size: int, sha256: str) -> Path:
        path = self.folder / f"{sha256}.{size}"
        if not _NAME.fullmatch(path.name):
            raise RemoteError(
                f"{self.folder}: {sha256[:80]!r} is no SHA-256 in an index; make the set again with ks-shard"
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
        """Fetch a copy, or wait until something has changed that this must wait for."""
        if size > self.most_bytes:
            raise RemoteError(
                f"{self.folder}: a cache of {self.most_bytes / 1e9:.10g} GB cannot hold a shard of {size / 1e9:.10g} GB; "
                "give it more room (--cache_gb), best for as many shards as are shuffled together, twice"
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
        """The lock of a copy's part, with room made for it; or None, and the part that another process is about to finish."""
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
        """Evict until `size` more bytes fit; the part of one that is being fetched, where such are in the way."""
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
        """Every copy, finished or not."""
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
    """What a copy has, or will have when it is finished."""
    return int(path.name.split(".")[1])


def _part(path: Path) -> Path:
    return path.with_name(path.name + files.PART)


def _used(path: Path) -> int:
    """When a copy was last opened or written to, in nanoseconds."""
    for file in (path, _part(path)):
        with contextlib.suppress(FileNotFoundError):
            return file.stat().st_mtime_ns
    return 0


def _evicted(path: Path) -> bool:
    """Remove a copy, unless it is being fetched; returns whether it went."""
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
    """Lock an open file, unless another has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(part: Path) -> None:
    """Wait until nobody fetches a part."""
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
