"""One split of a shard set, and checked reads of its samples' parts."""

import contextlib
import errno
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Self, TypeVar

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
"""errno values after which the same read may succeed: shared disks have momentary failures."""
BACKOFF = retry.Backoff(attempts=4, first_seconds=0.1, factor=10, longest_seconds=5.0)
"""Retries of a read with a momentary failure."""
WITHOUT_CACHE = "a remote set needs a cache"

T = TypeVar("T")
Fetching = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """One shard: its location and expected properties."""

    place: Path | Address
    """A path, or the address of a URL."""
    bytes: int
    sha256: str

    def __str__(self) -> str:
        """Location without the secrets of a URL."""
        return str(self.place)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSets:
    """Labels of the samples of a split that have several: L label indices, one sample's after another's."""

    label_index_L: np.ndarray
    """Indices of all labels that are in the class list, each sample's class first: int64."""
    end_N: np.ndarray
    """Number of indices up to and including those of each sample: int64."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Self:
        """From the label indices of each sample."""
        end_N = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return cls(label_index_L=np.fromiter(chain.from_iterable(rows), dtype=np.int64), end_N=end_N)

    def __getitem__(self, number: int) -> np.ndarray:
        """Label indices of a sample, by its index: int64."""
        found: np.ndarray = self.label_index_L[self.end_N[number - 1] if number else 0 : self.end_N[number]]
        return found

    @property
    def several(self) -> int:
        """Number of samples with several labels in the class list."""
        return int(np.count_nonzero(np.diff(self.end_N, prepend=0) > 1))


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split of a shard set: the location of each sample's parts.

    Shapes: N samples in stored order, P parts in the order of `dataset.parts`, S shards. The arrays may be memory maps shared
    between processes.
    """

    dataset: Dataset
    name: str
    tars: tuple[ShardInfo, ...]
    cache: Cache | None
    """Cache of the tars; None for a local set."""
    count_S: np.ndarray
    """Samples per shard: int64."""
    key_N: np.ndarray
    """Key of each sample, as bytes."""
    label_index_N: np.ndarray
    """Label index of each sample: int64."""
    offset_NP: np.ndarray
    """Byte offset of each part in its tar: int64."""
    size_NP: np.ndarray
    """Size of each part in bytes: uint32."""
    crc_NP: np.ndarray
    """CRC-32 of each part: uint32."""
    label_sets: LabelSets | None = None
    """All labels of each sample; None in a set of one label a sample. Worker processes that load data do not have it."""

    def __len__(self) -> int:
        """Number of samples in the split."""
        return len(self.key_N)

    @cached_property
    def end_S(self) -> np.ndarray:
        """Index of the first sample after each shard."""
        return np.cumsum(self.count_S)

    def key(self, number: int) -> str:
        """Key of a sample, by its index."""
        return bytes(self.key_N[number]).decode()

    def label_indices(self, number: int) -> np.ndarray:
        """Indices of all labels of a sample that are in the class list, its class first: int64, shape (labels,).

        Raises ValueError in a worker process, which does not have them.
        """
        if self.label_sets is not None:
            return self.label_sets[number]
        if self.dataset.several_labels:
            raise ValueError(f"{self.name}: a worker process does not have all labels; see Sample.labels")
        return self.label_index_N[number : number + 1]

    def shard(self, number: int) -> int:
        """Index of the shard that holds a sample."""
        return int(np.searchsorted(self.end_S, number, side="right"))

    def fetch(self, shard: int) -> None:
        """Make sure that a shard of a remote set is cached; raises ShardError if it is unavailable."""
        tar = self.tars[shard]
        if self.cache is not None and isinstance(tar.place, Address):
            with set_errors():
                self.cache.fetch(tar.place, size=tar.bytes, sha256=tar.sha256)

    @contextlib.contextmanager
    def open(self, number: int, *, fetching: Fetching = contextlib.nullcontext) -> Iterator["Parts"]:
        """Open the parts of a sample for reading within the block.

        They are read within the context `fetching`, because disk or network may be slow. Raises ShardError if the tar is
        unavailable.
        """
        tar = self.tars[self.shard(number)]
        parts = Parts(self, number, tar, self.opened(tar), fetching)
        try:
            yield parts
        finally:
            os.close(parts.descriptor)

    def opened(self, tar: ShardInfo) -> int:
        """Open a tar; returns a descriptor for the caller to close; raises ShardError if it is unavailable."""
        place = tar.place
        if isinstance(place, Path):
            return _with_retry(tar, lambda: os.open(place, os.O_RDONLY | os.O_CLOEXEC))
        if self.cache is None:
            raise ValueError(WITHOUT_CACHE)
        with set_errors():
            return self.cache.open(place, size=tar.bytes, sha256=tar.sha256)

    def fetch_again(self, tar: ShardInfo, descriptor: int) -> int:
        """Fetch a tar of a remote set again, after its copy (open as `descriptor`) proved damaged; returns a new descriptor.

        Raises ShardError if it is unavailable.
        """
        if self.cache is not None:
            with set_errors():
                self.cache.drop(descriptor, size=tar.bytes, sha256=tar.sha256)
        return self.opened(tar)


@dataclass(slots=True)
class Parts:
    """Parts of a sample in an open tar."""

    split: Split
    number: int
    tar: ShardInfo
    descriptor: int
    fetching: Fetching

    @property
    def key(self) -> str:
        """Key of the sample."""
        return self.split.key(self.number)

    def read(self, part: str) -> bytes:
        """Read a whole part and verify its CRC-32 (a flipped bit may crash a decoder).

        Raises ShardError if the set has no such part or the tar cannot be read, BadSampleError if the bytes are damaged.
        """
        offset, size, crc = self._place(part)
        with self.fetching():
            return self._checked(part, offset, size, crc)

    def size(self, part: str) -> int:
        """Size of a part in bytes; raises ShardError if the set has no such part."""
        return self._place(part)[1]

    def read_pieces(self, part: str, pieces: Iterable[tuple[int, int, int]]) -> list[bytes]:
        """Read pieces of a part, each given as first byte, size and expected CRC-32; raises as `read`."""
        offset, whole, _ = self._place(part)
        found = []
        with self.fetching():
            for first, size, crc in pieces:
                if not 0 <= first <= first + size <= whole:
                    raise BadSampleError(
                        f"{self}: bytes {first} to {first + size} were requested from a {part} of {whole}"
                    )
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
            damaged, self.descriptor = self.descriptor, self.split.fetch_again(self.tar, self.descriptor)
            os.close(damaged)
            data = self._read(offset, size)
        if not _is(data, size, crc):
            fault = "damaged" if len(data) == size else "cut short"
            raise BadSampleError(f"{self}: its {part} is {fault}; copy the tar again, or run ks-shard --verify")
        return data

    def _read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes, as many as there are: a single read may return fewer."""
        data = self._pread(offset, size)
        while len(data) < size and (more := self._pread(offset + len(data), size - len(data))):
            data += more
        return data

    def _pread(self, offset: int, size: int) -> bytes:
        return _with_retry(self.tar, lambda: os.pread(self.descriptor, size, offset))


def _with_retry(tar: ShardInfo, read: Callable[[], T]) -> T:
    """Call `read` with retries on momentary failures."""
    try:
        return retry.call(read, may_pass=lambda error: getattr(error, "errno", None) in MOMENTARY, backoff=BACKOFF)
    except OSError as error:
        raise ShardError(f"{tar}: cannot be read: {error.strerror}; check that the disk is available") from error


def _is(data: bytes, size: int, crc: int) -> bool:
    return len(data) == size and zlib.crc32(data) == crc


@contextlib.contextmanager
def set_errors() -> Iterator[None]:
    """Translate errors of a URL into ShardError, for the set stored there."""
    try:
        yield
    except RemoteError as error:
        raise ShardError(str(error)) from error
