"""One split of a shard set, and what a sample's parts hold, checked, and nothing else of the tars."""

import contextlib
import errno
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from .. import retry
from ..address import Address
from ..cache import Cache
from ..errors import BadSampleError, RemoteError, ShardError
from .index import Dataset

MOMENTARY = (
    errno.EIO,
    errno.ESTALE,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ENETDOWN,
    errno.ENETUNREACH,
)
"""Numbers of an OSError after which the same read may succeed: shared disks have such moments."""
BACKOFF = retry.Backoff(attempts=4, first_seconds=0.1, factor=10, longest_seconds=5.0)
"""Of a read that fails for a moment."""
WITHOUT_CACHE = "a remote set is read through a cache"

T = TypeVar("T")
Fetching = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """One shard: where it lies and what it must be."""

    place: Path | Address
    """A path, or the address of a URL."""
    bytes: int
    sha256: str

    def __str__(self) -> str:
        """Where it lies, without what is secret of a URL."""
        return str(self.place)


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split of a shard set: where each sample's parts lie.

    Shapes: N samples in their stored order, P parts in the order of `dataset.parts`, S shards. The arrays may be maps of
    memory that processes share.
    """

    dataset: Dataset
    name: str
    tars: tuple[ShardInfo, ...]
    cache: Cache | None
    """Where copies of the tars are kept; None where they lie on a disk."""
    count_S: np.ndarray
    """Samples in each shard: int64."""
    key_N: np.ndarray
    """Each sample's key, as bytes."""
    label_index_N: np.ndarray
    """Number of each sample's label: int64."""
    offset_NP: np.ndarray
    """Byte at which each part begins in its tar: int64."""
    size_NP: np.ndarray
    """Bytes of each part: uint32."""
    crc_NP: np.ndarray
    """CRC-32 of each part: uint32."""

    def __len__(self) -> int:
        """Samples in the split."""
        return len(self.key_N)

    @cached_property
    def end_S(self) -> np.ndarray:
        """The number of the first sample after each shard."""
        return np.cumsum(self.count_S)

    def key(self, number: int) -> str:
        """The key of sample `number`."""
        return bytes(self.key_N[number]).decode()

    def shard(self, number: int) -> int:
        """Which shard sample `number` lies in."""
        return int(np.searchsorted(self.end_S, number, side="right"))

    def fetch(self, shard: int) -> None:
        """See that a shard of a remote set is in the cache; raises ShardError where it is not to be had."""
        tar = self.tars[shard]
        if self.cache is not None and isinstance(tar.place, Address):
            with set_errors():
                self.cache.fetch(tar.place, size=tar.bytes, sha256=tar.sha256)

    @contextlib.contextmanager
    def open(self, number: int, *, fetching: Fetching = contextlib.nullcontext) -> Iterator["Parts"]:
        """The parts of sample `number`, to be read within the block.

        They are read within `fetching`, for a disk or a line may be slow. Raises ShardError where its tar is not to be had.
        """
        tar = self.tars[self.shard(number)]
        parts = Parts(self, number, tar, self.opened(tar), fetching)
        try:
            yield parts
        finally:
            os.close(parts.descriptor)

    def opened(self, tar: ShardInfo) -> int:
        """A descriptor of a tar, for the caller to close; raises ShardError where it is not to be had."""
        place = tar.place
        if isinstance(place, Path):
            return _with_retry(tar, lambda: os.open(place, os.O_RDONLY | os.O_CLOEXEC))
        if self.cache is None:
            raise ValueError(WITHOUT_CACHE)
        with set_errors():
            return self.cache.open(place, size=tar.bytes, sha256=tar.sha256)

    def open_anew(self, tar: ShardInfo, descriptor: int) -> int:
        """A descriptor of a tar of a remote set, fetched again since its copy, which is open as `descriptor`, is damaged.

        Raises ShardError where it is not to be had.
        """
        if self.cache is not None:
            with set_errors():
                self.cache.drop(descriptor, size=tar.bytes, sha256=tar.sha256)
        return self.opened(tar)


@dataclass(slots=True)
class Parts:
    """One sample's parts in an open tar."""

    split: Split
    number: int
    tar: ShardInfo
    descriptor: int
    fetching: Fetching

    @property
    def key(self) -> str:
        """The sample's key."""
        return self.split.key(self.number)

    def read(self, part: str) -> bytes:
        """A whole part, which is what was written: its CRC-32 is checked (a decoder may crash on a flipped bit).

        Raises ShardError where the set has no such part or the tar cannot be read, BadSampleError where its bytes are wrong.
        """
        offset, size, crc = self._place(part)
        with self.fetching():
            return self._checked(part, offset, size, crc)

    def size(self, part: str) -> int:
        """Bytes of a part; raises ShardError where the set has no such part."""
        return self._place(part)[1]

    def read_pieces(self, part: str, pieces: Iterable[tuple[int, int, int]]) -> list[bytes]:
        """Pieces of a part: of each its first byte, how many it has and what their CRC-32 must be; raises as `read`."""
        offset, whole, _ = self._place(part)
        found = []
        with self.fetching():
            for first, size, crc in pieces:
                if not 0 <= first <= first + size <= whole:
                    raise BadSampleError(f"{self}: bytes {first} to {first + size} are asked of a {part} of {whole}")
                found.append(self._checked(part, offset + first, size, crc))
        return found

    def __str__(self) -> str:
        return f"{self.tar}: sample {self.key}"

    def _place(self, part: str) -> tuple[int, int, int]:
        parts = self.split.dataset.parts
        if part not in parts:
            raise ShardError(f"{self.tar}: has no part {part!r}; it has: {', '.join(parts)}")
        row = self.number, parts.index(part)
        return int(self.split.offset_NP[row]), int(self.split.size_NP[row]), int(self.split.crc_NP[row])

    def _checked(self, part: str, offset: int, size: int, crc: int) -> bytes:
        data = self._read(offset, size)
        if not _is(data, size, crc):  # it may have been the disk's moment
            data = self._read(offset, size)
        if not _is(data, size, crc) and self.split.cache is not None:
            damaged, self.descriptor = self.descriptor, self.split.open_anew(self.tar, self.descriptor)
            os.close(damaged)
            data = self._read(offset, size)
        if not _is(data, size, crc):
            fault = "damaged" if len(data) == size else "cut short"
            raise BadSampleError(f"{self}: its {part} is {fault}; copy the tar again, or see ks-shard --verify")
        return data

    def _read(self, offset: int, size: int) -> bytes:
        """As many bytes as there are, up to `size`: a read may give less than it was asked for."""
        data = self._pread(offset, size)
        while len(data) < size and (more := self._pread(offset + len(data), size - len(data))):
            data += more
        return data

    def _pread(self, offset: int, size: int) -> bytes:
        return _with_retry(self.tar, lambda: os.pread(self.descriptor, size, offset))


def _with_retry(tar: ShardInfo, read: Callable[[], T]) -> T:
    """What `read` returns, called again where it fails for a moment."""
    try:
        return retry.call(read, may_pass=lambda error: getattr(error, "errno", None) in MOMENTARY, backoff=BACKOFF)
    except OSError as error:
        raise ShardError(f"{tar}: cannot be read: {error.strerror}; see that the disk is there") from error


def _is(data: bytes, size: int, crc: int) -> bool:
    return len(data) == size and zlib.crc32(data) == crc


@contextlib.contextmanager
def set_errors() -> Iterator[None]:
    """What is wrong with a URL is wrong with the set that lies there."""
    try:
        yield
    except RemoteError as error:
        raise ShardError(str(error)) from error
