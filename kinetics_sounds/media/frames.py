"""Frames of a stored clip, at any start position, as the model sees them.

PyAV's way is the reference and the fastest: a stored clip is one H.264 stream without B-frames (`encode`), so its mp4's
table of samples says where the packets lie, and only the wanted frames and those of their group before them are decoded.
No demuxer sees foreign bytes, and only the wanted frames are turned into RGB.
"""

import functools
import io
import itertools
import struct
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import MediaError

Decoder = Literal["auto", "torchcodec", "decord", "pyav"]
"""Which library decodes. All give the same frames, bit for bit (a test holds them to it), so the choice changes the speed
alone; auto measures it once a process, on the first clip."""

MAX_PIXELS = 2**23
"""Of a stored frame, just over 4K: small bytes that claim more would take gigabytes of memory."""
MOST_BYTES = 2**31
"""Of the frames that are decoded at a time: of a clip that is asked for ten times 16 frames of 1080p it is half."""
TRIALS = 3
"""Times that `auto` lets each decoder decode the first clip; its best counts."""


def decode(mp4: bytes, numbers: Sequence[int], *, decoder: Decoder = "auto", length: int | None = None) -> np.ndarray:
    """The frames of these numbers, in this order: uint8, shape (len(numbers), H, W, 3), RGB.

    Raises MediaError where the bytes do not decode, the clip has not the `length` in frames that it should have, a number
    lies outside it, or the decoder is not installed.
    """
    if mp4[4:8] != b"ftyp":
        raise MediaError("the stored frames are no mp4")  # decord would follow a playlist to files and addresses
    try:
        if length is not None and (there := len(_track(mp4).offsets)) != length:
            raise MediaError(f"the stored clip has {there} frames, not {length}")
        return _DECODERS[decoder](mp4, list(numbers))
    except MediaError:
        raise
    except ImportError as error:
        raise MediaError(
            f"decoder {decoder} is not installed ({_first_line(error)}); install {decoder}, or choose auto or pyav"
        ) from error
    except Exception as error:
        raise MediaError(f"{decoder} cannot decode the stored frames: {_first_line(error)}") from error


def decode_jpegs(jpegs: Sequence[bytes]) -> np.ndarray:
    """Stored JPEGs, in this order: uint8, shape (len(jpegs), H, W, 3), RGB.

    Raises MediaError where there is none, one does not decode, or one is larger than `MAX_PIXELS` or of another size.
    """
    import simplejpeg

    frames_THWC: np.ndarray | None = None
    for number, jpeg in enumerate(jpegs):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
            if height * width > MAX_PIXELS:
                raise MediaError(f"JPEG {number} is {width} x {height}, more than {MAX_PIXELS} pixels")
            if frames_THWC is None:
                _check_room(len(jpegs), height, width)
                frames_THWC = np.empty((len(jpegs), height, width, 3), dtype=np.uint8)
            if (height, width) != frames_THWC.shape[1:3]:
                _, first_height, first_width, _ = frames_THWC.shape
                raise MediaError(f"JPEG {number} is {width} x {height}, the first {first_width} x {first_height}")
            simplejpeg.decode_jpeg(jpeg, colorspace="RGB", buffer=frames_THWC[number])
        except ValueError as error:
            raise MediaError(f"JPEG {number} does not decode: {_first_line(error)}") from error
    if frames_THWC is None:
        raise MediaError("no JPEG is asked for")
    return frames_THWC


def encode_jpeg(picture_HWC: np.ndarray, *, quality: int = 95) -> bytes:
    """A picture, uint8 (H, W, 3), RGB, as a JPEG with full colour resolution."""
    import simplejpeg

    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(picture_HWC), quality=quality, colorsubsampling="444")
    return jpeg


def fastest(mp4: bytes, numbers: list[int]) -> Decoder:
    """The decoder that gives these frames of a clip in the least time, of those whose frames are PyAV's.

    Takes a tenth of a second. torchcodec takes part where it is imported already: to import it takes two seconds. Raises
    what PyAV raises.
    """
    wanted = _pyav(mp4, numbers)
    seconds: dict[Decoder, float] = {"pyav": _seconds(_pyav, mp4, numbers)}
    rivals: tuple[Decoder, ...] = ("decord", "torchcodec") if "torchcodec" in sys.modules else ("decord",)
    for rival in rivals:
        try:
            if np.array_equal(_DECODERS[rival](mp4, numbers), wanted):
                seconds[rival] = _seconds(_DECODERS[rival], mp4, numbers)
        except Exception:  # noqa: BLE001, S112 - what cannot do it, or is not installed, does not take part
            continue
    return min(seconds, key=lambda name: seconds[name])


def _seconds(decoder: Callable[[bytes, list[int]], np.ndarray], mp4: bytes, numbers: list[int]) -> float:
    """The least time of `TRIALS`."""

    def once() -> float:
        began = time.perf_counter()
        decoder(mp4, numbers)
        return time.perf_counter() - began

    return min(once() for _ in range(TRIALS))


@functools.cache
def _choice() -> list[Decoder]:
    """What `auto` has measured in this process: nothing yet, or one decoder."""
    return []


def _auto(mp4: bytes, numbers: list[int]) -> np.ndarray:
    choice = _choice()
    if not choice:
        choice.append(fastest(mp4, numbers))
    try:
        return _DECODERS[choice[0]](mp4, numbers)
    except Exception:
        if choice[0] == "pyav":
            raise
        return _pyav(mp4, numbers)  # the others refuse some sound clips (decord: 48 x 36, 72 x 64): PyAV decides


def _torchcodec(mp4: bytes, numbers: list[int]) -> np.ndarray:
    try:
        from torchcodec.decoders import VideoDecoder
    except (OSError, RuntimeError) as error:  # it looks for the system's FFmpeg when it is imported
        raise ImportError(f"it does not load: {_first_line(error)}") from error

    # Approximate: the place of a frame is its time by the mean rate, which is exact for clips of a constant rate.
    reader = VideoDecoder(mp4, dimension_order="NHWC", num_ffmpeg_threads=1, device="cpu", seek_mode="approximate")
    _check(numbers, len(reader))
    frames: np.ndarray = reader.get_frames_at(numbers).data.numpy()
    return frames


def _decord(mp4: bytes, numbers: list[int]) -> np.ndarray:
    import decord

    reader = decord.VideoReader(io.BytesIO(mp4), num_threads=1)
    _check(numbers, len(reader))
    frames: np.ndarray = reader.get_batch(numbers).asnumpy()
    return frames


def _pyav(mp4: bytes, numbers: list[int]) -> np.ndarray:
    from av.video.reformatter import VideoReformatter

    track = _track(mp4)
    _check(numbers, len(track.offsets))
    wanted = sorted(set(numbers))
    place = {number: row for row, number in enumerate(wanted)}
    to_rgb = VideoReformatter()
    found_NHWC: np.ndarray | None = None
    missing = set(wanted)
    for frame in _decoded(mp4, track, wanted):
        if frame.pts not in missing:
            continue
        missing.remove(frame.pts)
        # By default it starts threads for every frame, which takes longer than the conversion.
        rgb_HWC = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
        if found_NHWC is None:
            _check_room(len(wanted), *rgb_HWC.shape[:2])
            found_NHWC = np.empty((len(wanted), *rgb_HWC.shape), dtype=np.uint8)
        found_NHWC[place[frame.pts]] = rgb_HWC
    if missing or found_NHWC is None:
        raise MediaError(f"frame {min(missing)} of the stored clip is missing")
    return found_NHWC if numbers == wanted else found_NHWC[[place[number] for number in numbers]]


def _check_room(count: int, height: int, width: int) -> None:
    """Raise MediaError for more frames than are decoded at a time."""
    if count * height * width * 3 > MOST_BYTES:
        raise MediaError(
            f"{count} frames of {width} x {height} take more than {MOST_BYTES >> 30} GiB; ask for fewer at a time"
        )


def _check(numbers: list[int], length: int) -> None:
    if not numbers or not 0 <= min(numbers) <= max(numbers) < length:
        raise MediaError(f"frames {numbers[:1]} to {numbers[-1:]} are asked of a stored clip of {length}")


def _first_line(error: Exception) -> str:
    """What torchcodec and decord add to it are screens of C++."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


_DECODERS: dict[Decoder, Callable[[bytes, list[int]], np.ndarray]] = {
    "auto": _auto,
    "torchcodec": _torchcodec,
    "decord": _decord,
    "pyav": _pyav,
}


@dataclass(frozen=True, slots=True)
class _Track:
    """Where the packets of a stored clip lie in its mp4, one a frame, in order."""

    offsets: list[int]
    sizes: list[int]
    keyframes: list[int]
    """Numbers of the frames that begin a group."""
    extradata: bytes
    """H.264's parameter sets, as the decoder takes them."""


def _decoded(mp4: bytes, track: _Track, wanted: list[int]) -> Iterator[Any]:
    """The wanted frames, and those of their groups before them, each with its number as `pts`."""
    import av

    codec = av.CodecContext.create("h264", "r")
    codec.extradata, codec.thread_count = track.extradata, 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    for first, group in itertools.groupby(
        wanted, key=lambda number: track.keyframes[bisect_right(track.keyframes, number) - 1]
    ):
        for number in range(first, max(group) + 1):
            start = track.offsets[number]
            packet = av.Packet(mp4[start : start + track.sizes[number]])
            packet.pts = packet.dts = number
            yield from codec.decode(packet)
    yield from codec.decode(None)


def _track(mp4: bytes) -> _Track:
    """Read the tables of an mp4's first track (ISO/IEC 14496-12, 8.5 to 8.7).

    Raises MediaError where a table is missing, contradicts another, or says more than the bytes can hold.
    """
    tables = _boxes(mp4, *_inside(mp4, 0, len(mp4), b"moov", b"trak", b"mdia", b"minf", b"stbl"))
    if lacking := {b"stsz", b"stco", b"stsc", b"stsd"} - tables.keys():
        raise MediaError(f"the stored frames lack the tables {sorted(lacking)}")
    if b"ctts" in tables:
        raise MediaError("the stored frames are reordered, which ks-shard never does: pack them again")
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
        raise MediaError("the stored frames are cut short")
    keyframes = _column(mp4, tables[b"stss"][0]) - 1 if b"stss" in tables else np.arange(len(sizes))
    if len(keyframes) == 0 or keyframes[0] != 0 or (np.diff(keyframes) <= 0).any():
        raise MediaError("the stored frames do not begin with a keyframe")
    entry, entry_end = _inside(mp4, tables[b"stsd"][0] + 8, tables[b"stsd"][1], b"avc1")
    config, config_end = _inside(mp4, entry + 78, entry_end, b"avcC")  # behind the fixed fields of a picture's entry
    return _Track(offsets.tolist(), sizes.tolist(), keyframes.tolist(), mp4[config:config_end])


def _inside(mp4: bytes, begin: int, end: int, *names: bytes) -> tuple[int, int]:
    """Begin and end of the first box of the last name, in the first of the name before it, and so on."""
    for name in names:
        boxes = _boxes(mp4, begin, end)
        if name not in boxes:
            raise MediaError(f"the stored frames are cut short or no H.264: there is no box {name!r}")
        begin, end = boxes[name]
    return begin, end


def _boxes(mp4: bytes, begin: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Begin and end of the first box of each name in a span."""
    found: dict[bytes, tuple[int, int]] = {}
    while begin + 8 <= end:
        size, name = struct.unpack_from(">I4s", mp4, begin)
        if size < 8 or begin + size > end:
            raise MediaError(f"the stored frames are cut short: box {name!r} claims {size} bytes")
        found.setdefault(name, (begin + 8, begin + size))
        begin += size
    return found


def _column(mp4: bytes, begin: int, *, columns: int = 1) -> np.ndarray:
    """A table of 32-bit numbers behind its count: int64, shape (count * columns,)."""
    (count,) = struct.unpack_from(">I", mp4, begin + 4)
    return np.frombuffer(mp4, ">u4", count * columns, begin + 8).astype(np.int64)


def _sizes(mp4: bytes, begin: int) -> np.ndarray:
    """Bytes of each packet, from a table that may say one size for all: int64, shape (packets,)."""
    same, count = struct.unpack_from(">II", mp4, begin + 4)
    if same == 0:
        return _column(mp4, begin + 4)
    if same * count > len(mp4):
        raise MediaError("the stored frames are cut short")
    return np.full(count, same, dtype=np.int64)
