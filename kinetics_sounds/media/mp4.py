"""Parse the tables of a stored clip's mp4 (ISO/IEC 14496-12), and limit what is decoded from it."""

import struct
from dataclasses import dataclass

import numpy as np

from ..errors import MediaError

MAX_PIXELS = 2**23
"""Maximum size of a stored frame in pixels, just over 4K: a small file that claims more would take gigabytes of memory."""
MOST_BYTES = 2**31
"""Maximum size of the frames decoded at a time, in bytes: twice ten views of 16 frames in 1080p."""


def check_room(count: int, height: int, width: int) -> None:
    """Raise MediaError if the frames exceed `MOST_BYTES`."""
    if count * height * width * 3 > MOST_BYTES:
        raise MediaError(
            f"{count} frames of {width} x {height} take more than {MOST_BYTES >> 30} GiB; ask for fewer at a time"
        )


def check_indices(numbers: list[int], length: int) -> None:
    """Raise MediaError for an empty list of indices, or an index outside of a clip of this length."""
    if not numbers or not 0 <= min(numbers) <= max(numbers) < length:
        raise MediaError(f"frames {numbers[:1]} to {numbers[-1:]} were requested from a stored clip of {length}")


@dataclass(frozen=True, slots=True)
class Track:
    """Packets of a stored clip in its mp4, one per frame, in order."""

    offsets: list[int]
    sizes: list[int]
    keyframes: list[int]
    """Indices of the frames that begin a GOP."""
    extradata: bytes
    """H.264 parameter sets, in the form that the decoder takes."""


def read_track(mp4: bytes) -> Track:
    """Read the tables of an mp4's first track (ISO/IEC 14496-12, 8.5 to 8.7).

    Raises MediaError if a table is missing, contradicts another, or claims more than the bytes can hold.
    """
    tables = _boxes(mp4, *_inside(mp4, 0, len(mp4), b"moov", b"trak", b"mdia", b"minf", b"stbl"))
    if lacking := {b"stsz", b"stco", b"stsc", b"stsd"} - tables.keys():
        raise MediaError(f"the stored frames lack the tables {sorted(lacking)}")
    if b"ctts" in tables:
        raise MediaError("the stored frames have B-frames, which ks-shard never writes; pack them again")
    sizes = _sizes(mp4, tables[b"stsz"][0])
    chunks = _column(mp4, tables[b"stco"][0])
    runs = _column(mp4, tables[b"stsc"][0], columns=3).reshape(
        -1, 3
    )  # from which chunk on, packets a chunk, description
    chunks_of_run = np.diff(runs[:, 0], append=len(chunks) + 1)
    if len(sizes) == 0 or len(runs) == 0 or runs[0, 0] != 1 or chunks_of_run.min() < 0:
        raise MediaError("the stored frames' tables are empty or out of order")
    if chunks_of_run @ runs[:, 1] != len(sizes):
        raise MediaError("the stored frames' tables contradict each other")
    counts = np.repeat(runs[:, 1], chunks_of_run)
    before = np.cumsum(sizes) - sizes
    chunk_begins = before[np.minimum(np.cumsum(counts) - counts, len(sizes) - 1)]
    offsets = before + np.repeat(chunks - chunk_begins, counts)
    if (offsets + sizes).max() > len(mp4):
        raise MediaError("the stored frames are truncated")
    keyframes = _column(mp4, tables[b"stss"][0]) - 1 if b"stss" in tables else np.arange(len(sizes))
    if len(keyframes) == 0 or keyframes[0] != 0 or (np.diff(keyframes) <= 0).any():
        raise MediaError("the stored frames do not begin with a keyframe")
    entry, entry_end = _inside(mp4, tables[b"stsd"][0] + 8, tables[b"stsd"][1], b"avc1")
    config, config_end = _inside(mp4, entry + 78, entry_end, b"avcC")  # behind the fixed fields of a picture's entry
    return Track(offsets.tolist(), sizes.tolist(), keyframes.tolist(), mp4[config:config_end])


def _inside(mp4: bytes, begin: int, end: int, *names: bytes) -> tuple[int, int]:
    """Begin and end of a nested box, given the names from the outermost to it; the first box of each name counts."""
    for name in names:
        boxes = _boxes(mp4, begin, end)
        if name not in boxes:
            raise MediaError(f"the stored frames are truncated or not H.264: there is no box {name!r}")
        begin, end = boxes[name]
    return begin, end


def _boxes(mp4: bytes, begin: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Begin and end of the first box of each name in a byte range."""
    found: dict[bytes, tuple[int, int]] = {}
    while begin + 8 <= end:
        size, name = struct.unpack_from(">I4s", mp4, begin)
        if size < 8 or begin + size > end:
            raise MediaError(f"the stored frames are truncated: box {name!r} claims {size} bytes")
        found.setdefault(name, (begin + 8, begin + size))
        begin += size
    return found


def _column(mp4: bytes, begin: int, *, columns: int = 1) -> np.ndarray:
    """A table of 32-bit numbers preceded by its count: int64, shape (count * columns,)."""
    (count,) = struct.unpack_from(">I", mp4, begin + 4)
    return np.frombuffer(mp4, ">u4", count * columns, begin + 8).astype(np.int64)


def _sizes(mp4: bytes, begin: int) -> np.ndarray:
    """Size of each packet in bytes, from a table that may give a single size for all: int64, shape (packets,)."""
    same, count = struct.unpack_from(">II", mp4, begin + 4)
    if same == 0:
        return _column(mp4, begin + 4)
    if same * count > len(mp4):
        raise MediaError("the stored frames are truncated")
    return np.full(count, same, dtype=np.int64)
