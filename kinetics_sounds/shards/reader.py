"""Open one split of a shard set; the indexes are validated before anything is read from the tars."""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from .. import remote
from ..address import Address
from ..cache import Cache
from ..clip import ALL
from ..errors import ShardError
from . import index, layout
from .index import Dataset, Index, SplitFacts
from .split import WITHOUT_CACHE, Fetching, LabelSets, Parts, ShardInfo, Split, set_errors
from .writer import BLOCK

__all__ = [
    "Fetching",
    "LabelSets",
    "Parts",
    "ShardInfo",
    "Split",
    "indexes",
    "open_shard",
    "open_split",
    "read_dataset",
    "tables",
]

REQUESTS = 16
"""Concurrent requests to a remote set while it is opened."""

_KEYS = re.compile(r"(?:[\w-]{1,100}\n)*", re.ASCII)
"""Keys, one per line: without dots or slashes, so safe as file names, and no longer than a tar header allows."""

T = TypeVar("T")


def open_split(place: str | Path | Address, name: str, *, cache: Cache | None = None) -> Split:
    """Open one split of a shard set in a folder, or at a URL, whose tars are then read through the cache.

    `fold1_train` is a split of a set with folds: the samples of `ALL` which that fold has for training.

    Raises ShardError if it is incomplete (a missing tar or index, one of another set, inconsistent sizes), or if an index could
    not have been written by us. The message for a missing split lists the existing ones. Raises ValueError for a URL without a
    cache.
    """
    with set_errors():
        root = _root(place)
        return _split(root, name, _cache_for(root, cache))


def read_dataset(place: str | Path | Address) -> Dataset:
    """Read `dataset.json` of a set in a folder or at a URL; raises ShardError if there is none."""
    root = _root(place)
    if isinstance(root, Path):
        return index.read_dataset(root)
    with set_errors():
        url = remote.join(root, layout.DATASET)
        return index.parse_dataset(remote.read(url, most=index.MOST_BYTES), str(url))


def open_shard(place: str | Path | Address, name: str, number: int, *, cache: Cache | None = None) -> Split:
    """Open a single shard of a split, with the checks of `open_split`; the other shards may be missing."""
    with set_errors():
        root = _root(place)
        dataset = read_dataset(root)
        one = _columns(root, name, number, dataset)
        return _joined_split([one], dataset, name, _cache_for(root, cache))


def indexes(place: str | Path | Address, name: str) -> Iterator[Index]:
    """Validated indexes of a split's shards, in order; at a URL nothing but them and `dataset.json` is requested.

    Raises ShardError if one is missing, damaged, of another set, or could not have been written by us.
    """
    with set_errors():
        root = _root(place)
        dataset = read_dataset(root)

        def valid(number: int) -> Index:
            path = _below(root, layout.index_path(layout.tar_path(Path(), name, number)))
            read = _index(path)
            tables(read, dataset, str(path))
            return read

        yield from _each(valid, _facts(dataset.splits, name, root).shards, root)


def _cache_for(root: Path | Address, cache: Cache | None) -> Cache | None:
    if isinstance(root, Path):
        return None
    if cache is None:
        raise ValueError(WITHOUT_CACHE)
    return cache


def _root(place: str | Path | Address) -> Path | Address:
    """Root of a set: a path, or the full address of a URL."""
    if isinstance(place, Path):
        return place
    text = Address(place).real
    return Address(text) if remote.is_url(text) else Path(text)


def _split(root: Path | Address, name: str, cache: Cache | None) -> Split:
    dataset = read_dataset(root)
    facts = _facts(dataset.every_split, name, root)
    columns = list(_each(lambda number: _columns(root, name, number, dataset), facts.shards, root))
    split = _joined_split(columns, dataset, name, cache)
    if len(split) != facts.samples:
        raise ShardError(f"{root}: {name} has {len(split)} samples, but {facts.samples} according to {layout.DATASET}")
    if len(np.unique(split.key_N)) != len(split):
        raise ShardError(f"{root}: {name} has duplicate samples; make the set again with ks-shard")
    return split


def _facts(splits: Mapping[str, SplitFacts], name: str, root: Path | Address) -> SplitFacts:
    """Facts of a split in `dataset.json`; raises ShardError if there is no such split."""
    if name not in splits:
        raise ShardError(f"{root}: has no split {name!r}; it has: {', '.join(splits) or 'none'}")
    return splits[name]


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
        label_sets=LabelSets.of([row for each in columns for row in each.label_sets])
        if dataset.several_labels
        else None,
    )


def _joined(arrays: list[np.ndarray], shape: tuple[int, ...], kind: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.zeros((0, *shape), dtype=kind), *arrays])


def _each(read: Callable[[int], T], count: int, root: Path | Address) -> Iterator[T]:
    """Map `read` over the numbers below `count`, concurrently for a remote set; the first error ends it."""
    if isinstance(root, Path):
        yield from map(read, range(count))
        return
    with ThreadPoolExecutor(REQUESTS) as pool:
        for first in range(0, count, REQUESTS):  # in turns, for the count may be a lie of 18 digits
            yield from pool.map(read, range(first, min(first + REQUESTS, count)))


@dataclass(frozen=True, slots=True)
class _Columns:
    """An index as arrays, which take a tenth of the memory of its lists."""

    tar: ShardInfo
    key_N: np.ndarray
    label_index_N: np.ndarray
    offset_NP: np.ndarray
    size_NP: np.ndarray
    crc_NP: np.ndarray
    label_sets: tuple[tuple[int, ...], ...]


def _columns(root: Path | Address, split: str, number: int, dataset: Dataset) -> _Columns:
    """Load the index of a split's tar, of a fold's only the rows of its split; raises ShardError if it is invalid."""
    fold, _, part = split.partition("_") if split in dataset.folds else ("", "", "")
    name = layout.tar_path(Path(), ALL if fold else split, number)
    tar, place = _below(root, name), str(_below(root, layout.index_path(name)))
    read = _index(_below(root, layout.index_path(name)))
    offset_NP, size_NP, crc_NP = tables(read, dataset, place)
    _check_size(tar, read.bytes)
    own_N = [each == part for each in read.folds[fold]] if fold and read.keys else [True] * len(read.keys)
    rows = np.flatnonzero(own_N)
    return _Columns(
        ShardInfo(place=tar, bytes=read.bytes, sha256=read.sha256),
        np.array(read.keys, dtype=np.bytes_)[rows],
        np.array(read.label_indices, dtype=np.int64)[rows],
        offset_NP[rows],
        size_NP[rows].astype(np.uint32),
        crc_NP[rows].astype(np.uint32),
        tuple(read.label_sets[row] for row in rows) if read.label_sets else (),
    )


def tables(read: Index, dataset: Dataset, place: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offset, size and CRC-32 of each part in the index from `place`: int64, shape (N, parts) each.

    Raises ShardError if it does not belong to the set, or could not have been written by us.
    """
    other_folds = set(read.folds) != set(dataset.fold_names)
    if read.recipe != dataset.recipe or (read.keys and (read.parts != dataset.parts or other_folds)):
        raise ShardError(f"{place}: belongs to another set than {layout.DATASET}; make it with ks-shard")
    if read.keys and bool(read.label_sets) != dataset.several_labels:
        raise ShardError(f"{place}: has other labels than {layout.DATASET} says; make the set again with ks-shard")
    if max(chain(read.label_indices, chain.from_iterable(read.label_sets)), default=-1) >= len(dataset.labels):
        raise ShardError(f"{place}: has labels that are not in {layout.DATASET}; make the set again with ks-shard")
    lines = "".join(f"{key}\n" for key in read.keys)
    if not _KEYS.fullmatch(lines) or lines.count("\n") != len(read.keys):
        raise ShardError(f"{place}: has invalid keys; make the set again with ks-shard")
    offset_NP, size_NP, crc_NP = (_table(rows, len(dataset.parts)) for rows in (read.offsets, read.sizes, read.crcs))
    if not _fits(offset_NP.ravel(), size_NP.ravel(), read.bytes) or (crc_NP >= 2**32).any():
        raise ShardError(f"{place}: has parts that overlap or exceed their tar; make the set again with ks-shard")
    return offset_NP, size_NP, crc_NP


def _table(rows: tuple[tuple[int, ...], ...], parts: int) -> np.ndarray:
    """Rows as an array: int64, shape (N, parts)."""
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows) * parts).reshape(len(rows), parts)


def _fits(offset_M: np.ndarray, size_M: np.ndarray, bytes_: int) -> bool:
    """Whether M parts are stored contiguously, each after its header, in a tar of `bytes_`; ours have less than 4 GiB each."""
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
        raise ShardError(f"{tar}: is missing, but its index exists; upload it, or make it with ks-shard")
    if found != size:
        fault = "cut short" if found < size else "not what its index describes"
        raise ShardError(f"{tar}: is {fault} ({found} bytes, not {size}); copy both again, or make them with ks-shard")


def _index(place: Path | Address) -> Index:
    if isinstance(place, Path):
        return index.read_index(place)
    return index.parse_index(remote.read(place, most=index.MOST_BYTES), str(place))


def _below(root: Path | Address, name: Path) -> Path | Address:
    return root / name if isinstance(root, Path) else remote.join(root, *name.parts)
