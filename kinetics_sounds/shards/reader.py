"""Open one split of a shard set and read what a sample's parts hold, checked, and nothing else of the tars."""

import contextlib
import errno
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from .. import remote, retry
from ..address import Address
from ..cache import Cache
from ..errors import BadSampleError, RemoteError, ShardError
from . import index, layout
from .index import Dataset, Index
from .writer import BLOCK

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
REQUESTS = 16
"""How many a remote set is asked at once when it is opened."""

_KEYS = re.compile(r"(?:[\w-]{1,100}\n)*", re.ASCII)
"""Keys, a line each: no dot, no slash, nothing that a file name could make mischief with, no longer than a tar's header has."""

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
            with _set_errors():
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
        with _set_errors():
            return self.cache.open(place, size=tar.bytes, sha256=tar.sha256)

    def open_anew(self, tar: ShardInfo, descriptor: int) -> int:
        """A descriptor of a tar of a remote set, fetched again since its copy, which is open as `descriptor`, is damaged.

        Raises ShardError where it is not to be had.
        """
        if self.cache is not None:
            with _set_errors():
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
def _set_errors() -> Iterator[None]:
    """What is wrong with a URL is wrong with the set that lies there."""
    try:
        yield
    except RemoteError as error:
        raise ShardError(str(error)) from error


def open_split(place: str | Path | Address, name: str, *, cache: Cache | None = None) -> Split:
    """Open one split of a shard set in a folder, or at a URL, whose tars then come through the cache.

    Raises ShardError where it is not whole: a tar or an index that is missing, of another set, or not of the size that the
    other says; an index that no writer of ours could have made. A split that is not there is told with those that are.
    ValueError is raised for a URL without a cache.
    """
    with _set_errors():
        root = _root(place)
        return _split(root, name, _cache_for(root, cache))


def read_dataset(place: str | Path | Address) -> Dataset:
    """What the set in a folder or at a URL says of itself; raises ShardError where there is none."""
    root = _root(place)
    if isinstance(root, Path):
        return index.read_dataset(root)
    with _set_errors():
        url = remote.join(root, layout.DATASET)
        return index.parse_dataset(remote.read(url, most=index.MOST_BYTES), str(url))


def open_shard(place: str | Path | Address, name: str, number: int, *, cache: Cache | None = None) -> Split:
    """One shard of a split alone, as `open_split` opens all of them; whether the others are there does not matter."""
    with _set_errors():
        root = _root(place)
        dataset = read_dataset(root)
        one = _columns(root, layout.tar_path(Path(), name, number), dataset)
        return _joined_split([one], dataset, name, _cache_for(root, cache))


def _cache_for(root: Path | Address, cache: Cache | None) -> Cache | None:
    if isinstance(root, Path):
        return None
    if cache is None:
        raise ValueError(WITHOUT_CACHE)
    return cache


def _root(place: str | Path | Address) -> Path | Address:
    """A path, or else the address of a URL, in full."""
    if isinstance(place, Path):
        return place
    text = Address(place).real
    return Address(text) if remote.is_url(text) else Path(text)


def _split(root: Path | Address, name: str, cache: Cache | None) -> Split:
    dataset = read_dataset(root)
    facts = dataset.splits.get(name)
    if facts is None:
        raise ShardError(f"{root}: has no split {name!r}; it has: {', '.join(dataset.splits) or 'none'}")
    columns = list(
        _each(lambda number: _columns(root, layout.tar_path(Path(), name, number), dataset), facts.shards, root)
    )
    split = _joined_split(columns, dataset, name, cache)
    if len(split) != facts.samples:
        raise ShardError(f"{root}: {name} has {len(split)} samples where {layout.DATASET} says {facts.samples}")
    if len(np.unique(split.key_N)) != len(split):
        raise ShardError(f"{root}: {name} has samples twice; make the set again with ks-shard")
    return split


def _joined_split(columns: list["_Columns"], dataset: Dataset, name: str, cache: Cache | None) -> Split:
    parts = (len(dataset.parts),)
    return Split(
        dataset=dataset,
        name=name,
        tars=tuple(each.tar for each in columns),
        cache=cache,
        count_S=np.array([len(each.key_N) for each in columns], dtype=np.int64),
        key_N=_joined([each.key_N for each in columns], (), np.bytes_),
        label_index_N=_joined([each.label_index_N for each in columns], (), np.int64),
        offset_NP=_joined([each.offset_NP for each in columns], parts, np.int64),
        size_NP=_joined([each.size_NP for each in columns], parts, np.uint32),
        crc_NP=_joined([each.crc_NP for each in columns], parts, np.uint32),
    )


def _joined(arrays: list[np.ndarray], shape: tuple[int, ...], kind: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.zeros((0, *shape), dtype=kind), *arrays])


def _each(read: Callable[[int], T], count: int, root: Path | Address) -> Iterator[T]:
    """What `read` gives for each number below `count`, a few at once where it waits for a server; the first error ends it."""
    if isinstance(root, Path):
        yield from map(read, range(count))
        return
    with ThreadPoolExecutor(REQUESTS) as pool:
        for first in range(0, count, REQUESTS):  # in turns, for the count may be a lie of 18 digits
            yield from pool.map(read, range(first, min(first + REQUESTS, count)))


@dataclass(frozen=True, slots=True)
class _Columns:
    """One index as arrays: a tenth of the memory that its lists take."""

    tar: ShardInfo
    key_N: np.ndarray
    label_index_N: np.ndarray
    offset_NP: np.ndarray
    size_NP: np.ndarray
    crc_NP: np.ndarray


def _columns(root: Path | Address, name: Path, dataset: Dataset) -> _Columns:
    """What the index of the tar called `name` says; raises ShardError where that cannot be so."""
    tar, place = _below(root, name), str(_below(root, layout.index_path(name)))
    read = _index(_below(root, layout.index_path(name)))
    offset_NP, size_NP, crc_NP = tables(read, dataset, place)
    _check_size(tar, read.bytes)
    return _Columns(
        ShardInfo(place=tar, bytes=read.bytes, sha256=read.sha256),
        np.array(read.keys, dtype=np.bytes_),
        np.array(read.label_indices, dtype=np.int64),
        offset_NP,
        size_NP.astype(np.uint32),
        crc_NP.astype(np.uint32),
    )


def tables(read: Index, dataset: Dataset, place: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offset, size and CRC-32 of each part that the index at `place` tells of: int64, shape (N, parts) each.

    Raises ShardError where it is none of the set, or says what no writer of ours could have.
    """
    if read.recipe != dataset.recipe or (read.keys and read.parts != dataset.parts):
        raise ShardError(f"{place}: belongs to another set than {layout.DATASET}; make it with ks-shard")
    if max(read.label_indices, default=-1) >= len(dataset.labels):
        raise ShardError(f"{place}: has labels that {layout.DATASET} does not name; make the set again with ks-shard")
    lines = "".join(f"{key}\n" for key in read.keys)
    if not _KEYS.fullmatch(lines) or lines.count("\n") != len(read.keys):
        raise ShardError(f"{place}: has keys that are no names; make the set again with ks-shard")
    offset_NP, size_NP, crc_NP = (_table(rows, len(dataset.parts)) for rows in (read.offsets, read.sizes, read.crcs))
    if not _fits(offset_NP.ravel(), size_NP.ravel(), read.bytes) or (crc_NP >= 2**32).any():
        raise ShardError(f"{place}: has parts that overlap or leave their tar; make the set again with ks-shard")
    return offset_NP, size_NP, crc_NP


def _table(rows: tuple[tuple[int, ...], ...], parts: int) -> np.ndarray:
    """Rows as an array: int64, shape (N, parts)."""
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows) * parts).reshape(len(rows), parts)


def _fits(offset_M: np.ndarray, size_M: np.ndarray, bytes_: int) -> bool:
    """Whether M parts stand one after another, each after its header, in a tar of `bytes_`; one of 4 GiB is none of ours."""
    if (size_M >= 2**32).any() or (offset_M > bytes_).any() or (size_M > bytes_ - offset_M).any():
        return False
    end_M = offset_M + size_M
    return bool((offset_M - np.concatenate([[0], end_M])[:-1] >= BLOCK).all())


def _check_size(tar: Path | Address, size: int) -> None:
    try:
        found = tar.stat().st_size if isinstance(tar, Path) else remote.size(tar)
    except OSError as error:
        raise ShardError(f"{tar}: cannot be read: {error.strerror}; copy it, or make it with ks-shard") from error
    if found is None:
        raise ShardError(f"{tar}: is not there, but its index is; upload it, or make it with ks-shard")
    if found != size:
        fault = "cut short" if found < size else "not what its index describes"
        raise ShardError(f"{tar}: is {fault} ({found} bytes, not {size}); copy both again, or make them with ks-shard")


def _index(place: Path | Address) -> Index:
    if isinstance(place, Path):
        return index.read_index(place)
    return index.parse_index(remote.read(place, most=index.MOST_BYTES), str(place))


def _below(root: Path | Address, name: Path) -> Path | Address:
    return root / name if isinstance(root, Path) else remote.join(root, *name.parts)
