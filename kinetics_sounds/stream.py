"""Shards to samples in one deterministic order that does not know how many machines read them.

`order(...)` is a pure function of the index, the seed and the epoch; `rng(...)` of the seed, the epoch and the key. So
`{seed, epoch, step, batch, fingerprint}` is all the state there is. No torch here.
"""

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .errors import ShardError
from .shards import index, layout
from .shards.index import Dataset, Index


@dataclass(frozen=True)
class Split:
    """One split of a shard set on a local disk: where each sample's parts lie. Cheap to hand to a worker."""

    dataset: Dataset
    name: str
    tars: tuple[Path, ...]
    counts: np.ndarray
    """Samples in each shard: int64, shape (shards,)."""
    keys: tuple[str, ...]
    label_index_N: np.ndarray
    """int64, shape (samples,)."""
    offset_NP: np.ndarray
    """Byte at which each part begins in its tar: int64, shape (samples, parts)."""
    size_NP: np.ndarray
    """Bytes of each part: int64, shape (samples, parts)."""
    crc_NP: np.ndarray
    """CRC-32 of each part: int64, shape (samples, parts)."""

    def __len__(self) -> int:
        """Samples in the split."""
        return len(self.keys)

    @cached_property
    def tar_N(self) -> np.ndarray:
        """Which shard each sample lies in: int64, shape (samples,)."""
        return np.repeat(np.arange(len(self.tars)), self.counts)

    def read(self, number: int, parts: Iterable[str]) -> dict[str, bytes]:
        """The wanted parts of sample `number`, read at their offsets and nothing else.

        Raises ShardError where the set has no such part, or the tar is gone, cut short or not what was written: what
        reaches a decoder is known to be whole (decord crashes on a flipped bit).
        """
        tar = self.tars[self.tar_N[number]]
        parts = tuple(parts)
        if missing := set(parts).difference(self.dataset.parts):
            raise ShardError(f"{tar}: has no part {min(missing)!r}; it has: {', '.join(self.dataset.parts)}")
        try:
            with tar.open("rb", buffering=0) as opened:
                return {part: self._part(opened.fileno(), number, part) for part in parts}
        except OSError as error:
            raise ShardError(f"{tar}: cannot be read: {error.strerror}") from error

    def _part(self, descriptor: int, number: int, part: str) -> bytes:
        place = number, self.dataset.parts.index(part)
        size = int(self.size_NP[place])
        most = os.fstat(descriptor).st_size  # or a damaged index could ask for all memory
        data = os.pread(descriptor, min(size, most), int(self.offset_NP[place]))
        if len(data) != size or zlib.crc32(data) != self.crc_NP[place]:
            fault = "damaged" if len(data) == size else "cut short"
            tar = self.tars[self.tar_N[number]]
            raise ShardError(f"{tar}: is {fault} within {self.keys[number]}.{part}; copy or make it again")
        return data


def open_split(folder: Path, name: str) -> Split:
    """Open one split of a shard set; raises ShardError that lists the splits there are."""
    dataset = index.read_dataset(folder)
    facts = dataset.splits.get(name)
    if facts is None:
        raise ShardError(f"{folder}: has no split {name!r}; it has: {', '.join(dataset.splits) or 'none'}")
    tars: list[Path] = []
    indices: list[Index] = []
    for number in range(facts.shards):
        tar = layout.tar_path(folder, name, number)
        each = index.read_index(layout.index_path(tar))
        if each.recipe != dataset.recipe or (each.keys and each.parts != dataset.parts):
            raise ShardError(
                f"{layout.index_path(tar)}: belongs to another set than {layout.DATASET}; make it with ks-shard"
            )
        if max(each.label_indices, default=-1) >= len(dataset.labels):
            raise ShardError(
                f"{layout.index_path(tar)}: has labels that {layout.DATASET} does not name; make the set again with ks-shard"
            )
        tars.append(tar)
        indices.append(each)
    keys = tuple(key for each in indices for key in each.keys)
    if len(keys) != facts.samples:
        raise ShardError(f"{folder}: {name} has {len(keys)} samples where {layout.DATASET} says {facts.samples}")
    shape = (len(keys), len(dataset.parts))
    return Split(
        dataset=dataset,
        name=name,
        tars=tuple(tars),
        counts=np.array([len(each.keys) for each in indices], dtype=np.int64),
        keys=keys,
        label_index_N=np.array([label for each in indices for label in each.label_indices], dtype=np.int64),
        offset_NP=np.array([row for each in indices for row in each.offsets], dtype=np.int64).reshape(shape),
        size_NP=np.array([row for each in indices for row in each.sizes], dtype=np.int64).reshape(shape),
        crc_NP=np.array([row for each in indices for row in each.crcs], dtype=np.int64).reshape(shape),
    )


def order(counts: Sequence[int] | np.ndarray, *, seed: int, epoch: int, window: int | None = None) -> np.ndarray:
    """Every sample once, shuffled: int64, shape (samples,). A pure function of its arguments.

    Shards are shuffled, then samples within each run of `window` shards (None: the whole set). Sample numbers count
    through the shards in their stored order.
    """
    counts = np.asarray(counts, dtype=np.int64)
    if window is not None and window < 1:
        raise ValueError(f"window must be at least one shard, not {window}")
    generator = np.random.default_rng([seed, epoch])
    starts = np.cumsum(counts) - counts
    shards = generator.permutation(len(counts))
    step = window or max(len(counts), 1)
    runs: list[np.ndarray] = []
    for first in range(0, len(shards), step):
        run = [np.arange(starts[shard], starts[shard] + counts[shard]) for shard in shards[first : first + step]]
        runs.append(generator.permutation(np.concatenate(run)))
    return np.concatenate(runs) if runs else np.zeros(0, dtype=np.int64)


def rng(seed: int, epoch: int, key: str, view: str = "") -> np.random.Generator:
    """A sample's own randomness: the same crop for the same clip and epoch, on any number of workers."""
    return np.random.default_rng([seed, epoch, zlib.crc32(key.encode()), zlib.crc32(view.encode())])
