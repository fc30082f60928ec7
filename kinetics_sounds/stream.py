"""Samples of shards in a deterministic order that does not depend on the number of readers.

`order(...)` is a pure function of the index, the seed and the epoch; `rng(...)` of the seed, the epoch and the key. So `{seed,
epoch, step, batch, fingerprint}` is the complete state. Does not use torch.
"""

import contextlib
import io
import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from .address import Address
from .cache import Cache
from .errors import BadSampleError, ShardError
from .media import decode, sound
from .shards import layout, reader
from .shards.index import Dataset
from .shards.reader import Parts, Split

__all__ = ["Meta", "Sample", "Split", "open_split", "order", "replacements", "rng", "sample", "windows"]

MAX_FRAMES = 1_000_000
"""Maximum number of frames of a clip: a sample that claims more is damaged."""


@dataclass(frozen=True, slots=True)
class Meta:
    """Metadata of a sample."""

    num_frames: int
    fps: float
    """Frame rate of the stored frames."""
    audio_samples: int
    """Number of samples of the stored audio; 0 if not recorded."""
    frame_bytes: tuple[int, ...] = ()
    """Size of each stored JPEG in bytes; empty if frames are stored as video."""
    frame_crcs: tuple[int, ...] = ()
    """CRC-32 of each stored JPEG."""
    labels: tuple[str, ...] = ()
    """All labels, also those that are not in the class list; empty in a set of one label a sample."""


class Sample:
    """One clip of a split; parts are read, verified and decoded on request.

    Every method raises BadSampleError if the bytes are damaged, MediaError if they do not decode, either of these if they
    contradict the sample's metadata or `dataset.json`, and ShardError if the set has no such part or cannot be read.
    """

    def __init__(self, parts: Parts) -> None:
        """`parts`: those of an open sample."""
        self._parts = parts
        self.key = parts.key
        self.read_seconds = 0.0
        """Time spent in reads so far, in seconds."""

    def __str__(self) -> str:
        return str(self._parts)

    @property
    def dataset(self) -> Dataset:
        """The set that the sample belongs to."""
        return self._parts.split.dataset

    @property
    def label_index(self) -> int:
        """Index of the sample's label; of several, of the one that is its class."""
        return int(self._parts.split.label_index_N[self._parts.number])

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of the sample, its class first, also those that are not in the class list."""
        return self.meta.labels or (self.dataset.labels[self.label_index],)

    @cached_property
    def meta(self) -> Meta:
        """Metadata of the sample."""
        try:
            document = json.loads(self.part(layout.META))
            meta = Meta(
                num_frames=_whole(document["num_frames"], MAX_FRAMES),
                fps=float(document.get("fps", 0.0)),
                audio_samples=_whole(document.get("audio_samples", 0)),
                frame_bytes=tuple(map(_whole, document.get("frame_bytes", ()))),
                frame_crcs=tuple(map(_whole, document.get("frame_crcs", ()))),
                labels=tuple(map(_text, document.get("labels", ()))),
            )
            if len(meta.frame_bytes) != len(meta.frame_crcs) or len(meta.frame_bytes) not in (0, meta.num_frames):
                raise ValueError("its number of frames is not the stated one")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadSampleError(f"{self._parts}: its metadata cannot be read: {error}") from error
        return meta

    def part(self, name: str) -> bytes:
        """Bytes of a part, by its name in `layout`."""
        began = time.perf_counter()
        data = self._parts.read(name)
        self.read_seconds += time.perf_counter() - began
        return data

    def frames(self, numbers: Sequence[int], *, decoder: str = "auto") -> np.ndarray:
        """Decode the stored frames with these indices, in this order: uint8, shape (len(numbers), H, W, 3), RGB.

        Of stored JPEGs only the requested ones are read; `decoder` is for video.
        """
        if layout.JPEGS in self.dataset.parts:
            found_THWC = self._jpegs(numbers)
        else:
            mp4, length = self.part(layout.FRAMES), self.meta.num_frames
            found_THWC = decode.decode(mp4, numbers, decoder=decoder, length=length)
        height, width = found_THWC.shape[1:3]
        if min(height, width) != self._recorded(self.dataset.frames, "short_side"):
            raise BadSampleError(f"{self}: its frames are {width} x {height}")
        return found_THWC

    def _jpegs(self, numbers: Sequence[int]) -> np.ndarray:
        distinct = sorted(set(numbers))
        if not distinct or not 0 <= distinct[0] <= distinct[-1] < self.meta.num_frames:
            raise BadSampleError(
                f"{self._parts}: frames {list(numbers)[:2]}... were requested of {self.meta.num_frames}"
            )
        began = time.perf_counter()
        sizes = self.meta.frame_bytes
        starts = (0, *accumulate(sizes))
        if starts[-1] != (size := self._parts.size(layout.JPEGS)):
            raise BadSampleError(f"{self}: its frames have {size} bytes, not {starts[-1]}")
        pieces = [(starts[number], sizes[number], self.meta.frame_crcs[number]) for number in distinct]
        jpegs = dict(zip(distinct, self._parts.read_pieces(layout.JPEGS, pieces), strict=True))
        self.read_seconds += time.perf_counter() - began
        return decode.decode_jpegs([jpegs[number] for number in numbers])

    def mel(self) -> np.ndarray:
        """The stored mel-spectrogram: float16, shape (F, T), low bands first, values from 0 to 1."""
        data = io.BytesIO(self.part(layout.MEL))
        try:
            if (version := np.lib.format.read_magic(data)) != (1, 0):
                raise ValueError(f"it has NumPy's format {version}")
            shape, by_columns, kind = np.lib.format.read_array_header_1_0(data)
            if kind != np.float16 or by_columns or len(shape) != 2:
                raise ValueError(f"it is {kind} {shape}")
            mel_FT = np.frombuffer(data.getbuffer()[data.tell() :], dtype=kind).reshape(shape)
        except (ValueError, SyntaxError, TokenError, RecursionError, MemoryError) as error:
            raise BadSampleError(f"{self._parts}: its mel-spectrogram cannot be read: {error}") from error
        bands, columns = (self._recorded(self.dataset.mel, name) for name in ("bands", "columns"))
        if mel_FT.shape != (bands, columns):
            found = " x ".join(map(str, mel_FT.shape))
            raise BadSampleError(f"{self}: its mel-spectrogram is {found}, not {bands} x {columns}")
        if not (good_FT := in_unit_range(mel_FT)).all():
            bad = np.count_nonzero(~good_FT)
            raise BadSampleError(
                f"{self}: its mel-spectrogram holds {bad} values outside of 0 to 1, such as {mel_FT[~good_FT][0]}"
            )
        return mel_FT

    def waveform(self, *, first: int = 0, count: int | None = None) -> np.ndarray:
        """Decode the stored audio, or `count` samples of it from sample `first` on: float32, shape (samples,), mono."""
        return sound.read(self.part(layout.AUDIO), first=first, count=count, length=self.meta.audio_samples)

    def _recorded(self, facts: Mapping[str, Any], name: str) -> object:
        """Value in `dataset.json` for a part; raises ShardError if missing."""
        if name not in facts:
            raise ShardError(f"{self}: {layout.DATASET} lacks {name}; make the set again with ks-shard")
        return facts[name]


def in_unit_range(values: np.ndarray) -> np.ndarray:
    """Which float16 values are in [0, 1]: bool, of the same shape.

    Compares the bit patterns as integers (0.0 to 1.0, infinity and NaN are in ascending order): a hundred times faster than
    comparing half-precision floats.
    """
    bits = values.view(np.uint16)
    good: np.ndarray = (bits <= np.float16(1).view(np.uint16)) | (bits == np.float16(-0.0).view(np.uint16))
    return good


def _whole(value: object, most: int = 2**62) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{str(value)[:40]!r} is not a whole number from 0 to {most}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is not a text")
    return value


@contextlib.contextmanager
def sample(split: Split, number: int, *, fetching: reader.Fetching = contextlib.nullcontext) -> Iterator[Sample]:
    """Open sample `number` of a split within the block; its parts are read within the context `fetching`."""
    with split.open(number, fetching=fetching) as parts:
        yield Sample(parts)


def open_split(place: str | Path | Address, name: str, *, cache: Cache | None = None) -> Split:
    """Open one split of a shard set in a folder, or at a URL, whose shards are then read through the cache.

    Raises ShardError if it is incomplete, or does not exist, listing the existing splits.
    """
    return reader.open_split(place, name, cache=cache)


def windows(
    counts: Sequence[int] | np.ndarray, *, seed: int, epoch: int, window: int | None = None
) -> list[np.ndarray]:
    """Shuffled shards of an epoch in groups of `window` (None: one group): indices, int64, shape (<= window,).

    Raises ValueError for a window below 1.
    """
    return _windows(len(counts), window, np.random.default_rng([seed, epoch]))


def _windows(shards: int, window: int | None, generator: np.random.Generator) -> list[np.ndarray]:
    if window is not None and window < 1:
        raise ValueError(f"window must be at least one shard, not {window}")
    shuffled, step = generator.permutation(shards), window or max(shards, 1)
    return [shuffled[first : first + step] for first in range(0, shards, step)]


def order(counts: Sequence[int] | np.ndarray, *, seed: int, epoch: int, window: int | None = None) -> np.ndarray:
    """Shuffled order of all samples: int64, shape (samples,). A pure function of its arguments.

    Shards are shuffled first, then samples within each group of `window` shards (None: the whole set). Sample indices count
    through the shards in stored order.
    """
    counts = np.asarray(counts, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    generator = np.random.default_rng([seed, epoch])
    runs: list[np.ndarray] = []
    for shards in _windows(len(counts), window, generator):
        run = np.concatenate([np.arange(starts[shard], starts[shard] + counts[shard]) for shard in shards])
        runs.append(generator.permutation(run))
    return np.concatenate(runs) if runs else np.zeros(0, dtype=np.int64)


def rng(seed: int, epoch: int, key: str, view: str = "") -> np.random.Generator:
    """Random generator of a sample: the same augmentation for the same clip and epoch, on any number of workers."""
    return np.random.default_rng([seed, epoch, zlib.crc32(key.encode()), zlib.crc32(view.encode())])


def replacements(order_N: np.ndarray, *, place: int, batch: int, seed: int, epoch: int, key: str) -> Iterator[int]:
    """Samples that may replace a damaged one, best first: all samples at its batch position in other steps.

    `place` is the position of the damaged sample, called `key`, in the epoch's order. The choice uses the sample's own random
    generator, is never in its batch, and never that of another damaged sample of the batch (those use other positions): so each
    rank can replace samples without knowing the rest of the batch.
    """
    column_M = np.arange(place % batch, len(order_N), batch)
    others_M = rng(seed, epoch, key, "stand-in").permutation(order_N[column_M[column_M != place]])
    del order_N, column_M  # a whole epoch's order must not live as long as this is waiting
    yield from map(int, others_M)
