"""Inspect a media file without decoding it."""

import errno
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from ..errors import MediaError
from .ffmpeg import MACHINE, MAX_PIXELS, OPEN_OPTIONS, TooLargeError, read_through
from .hdr import TRANSFERS

MAX_BYTES = 8 * 2**30
"""Maximum size of a file in bytes: hours of 1080p, of which a clip is ten seconds."""
MAX_PACKETS = 2**21
"""Maximum number of packets counted per stream: ten hours at 60 fps."""
MAX_ASPECT = 16
"""Maximum aspect ratio of the displayed picture, either way."""
NO_INDEX = ("mpegts", "mpeg")
"""Containers in which a seek is inexact and often lands after the required keyframe."""
NO_SOUND_INDEX = ("avi",)
"""Containers that derive audio times from byte positions: after a seek they are off by some milliseconds."""

MAX_FPS = 60
"""Maximum frame rate: higher ones are a container's mistake or a slow-motion camera; frames are dropped to reach it."""
LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
"""Titles that are not UTF-8 must not raise; PyAV 19 never raises for them and has no such option."""
STILL_SECONDS = 1.0
"""Maximum duration of a frame before the picture counts as missing (a slide show has one frame per second)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """The default picture stream."""

    index: int
    codec: str
    width: int
    height: int
    fps: Fraction
    """Mean frame rate in hertz."""
    transfer: str = ""
    """HDR transfer function, one of `hdr.TRANSFERS`; empty for standard dynamic range."""
    sample_aspect: Fraction = Fraction(1)
    """Width over height of a displayed pixel."""

    @property
    def aspect(self) -> float:
        """Width over height of the displayed picture."""
        return float(self.width * self.sample_aspect / self.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """The default audio stream."""

    index: int
    codec: str
    rate: int
    """Sample rate in hertz."""
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Content of a file according to its container."""

    video: Video | None
    audio: Audio | None
    seconds: float | None
    """Duration according to the container; None if unknown."""
    seekable: bool
    """Whether seeking lands on a keyframe at or before the requested time, so that no frame is lost."""
    sound_seekable: bool
    """Whether audio times are still exact after seeking."""
    other_streams: str
    """Other streams, like `1 video, 2 audio, 3 subtitle`; cover art counts as video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Time covered by a stream, from its packets."""

    count: int
    """Number of packets; of a picture stream without field pairs, its frames."""
    first_seconds: float
    last_seconds: float
    """End of the last packet in seconds."""
    covered_seconds: float
    """Time covered by frames or audio; a frame covers at most `STILL_SECONDS`."""


def probe(path: Path) -> Probe:
    """The default streams of a file.

    Raises MediaError if it cannot be opened, TooLargeError if it exceeds a limit, and OSError for faults of the machine
    (`ffmpeg.MACHINE`).
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise TooLargeError(f"the file has {size >> 20} MiB, more than {MAX_BYTES >> 20}")
        with _open(path) as container:
            picture, sound = _best(container, "video"), _best(container, "audio")
            video = audio = None
            if isinstance(picture, av.VideoStream) and picture.codec_context and picture.width and picture.height:
                if picture.width * picture.height > MAX_PIXELS:
                    raise TooLargeError(
                        f"its picture is {picture.width} x {picture.height}, more than {MAX_PIXELS} pixels"
                    )
                rate = picture.average_rate or picture.guessed_rate or Fraction(0)
                video = Video(
                    index=picture.index,
                    codec=picture.codec_context.codec.canonical_name,
                    width=picture.width,
                    height=picture.height,
                    fps=Fraction(rate),
                    sample_aspect=Fraction(picture.sample_aspect_ratio or 1),
                    transfer=TRANSFERS.get(int(picture.codec_context.color_trc), ""),
                )
            if isinstance(sound, av.AudioStream) and sound.codec_context and sound.rate:
                audio = Audio(
                    index=sound.index,
                    codec=sound.codec_context.codec.canonical_name,
                    rate=sound.rate,
                    channels=sound.channels,
                )
            seconds = container.duration / 1_000_000 if container.duration else None
            seekable = container.format.name not in NO_INDEX
            sound_seekable = container.format.name not in (*NO_INDEX, *NO_SOUND_INDEX)
            chosen = [stream.index for stream in (video, audio) if stream]
            counts = Counter(stream.type for stream in container.streams if stream.index not in chosen)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _fault(path, "cannot be opened", error) from error
    others = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return Probe(
        video=video,
        audio=audio,
        seconds=seconds,
        seekable=seekable,
        sound_seekable=sound_seekable,
        other_streams=others,
    )


class BadAspectError(MediaError):
    """The picture is too wide, too high or too small to be stored as small frames."""


def check_aspect(video: Video) -> None:
    """Raise BadAspectError unless both sides have at least two pixels and their ratio is at most `MAX_ASPECT`."""
    if not 1 / MAX_ASPECT <= video.aspect <= MAX_ASPECT or min(video.width, video.height) < 2:
        shown = f", displayed with aspect {video.aspect:.4g}"
        raise BadAspectError(
            f"its picture is {video.width} x {video.height}{shown}; the limits are an aspect of {MAX_ASPECT} to 1 and 2 pixels"
        )


def spans(path: Path, *, before: float = math.inf) -> tuple[Span | None, Span | None]:
    """Time covered by the default picture and audio streams, from their packets; raises as `probe`.

    Only packets that begin `before` a time in seconds count.
    """
    found = {kind: [(start, end) for start, end in times if start < before] for kind, times in _times(path).items()}
    return _span(found["video"]), _span(found["audio"])


def frame_rate(video: Video, path: Path) -> Fraction:
    """Mean frame rate up to `MAX_FPS`, computed from the packets if the container's value is impossible.

    Raises MediaError if there are no packets.
    """
    if 0 < video.fps <= MAX_FPS + 1:
        return min(video.fps, Fraction(MAX_FPS))
    counted = spans(path)[0]
    if counted is None or counted.last_seconds <= counted.first_seconds:
        raise MediaError("its picture stream has no frames")
    mean = Fraction(counted.count / (counted.last_seconds - counted.first_seconds)).limit_denominator(1001)
    return min(max(mean, Fraction(1)), Fraction(MAX_FPS))


def constant_rate(path: Path) -> bool:
    """Whether the frames of the default picture stream have a constant rate, by their packets.

    No frame may come half a frame too early or too late after the one before, or be a whole frame off its position among all.
    """
    starts = sorted(start for start, _ in _times(path)["video"])
    if len(starts) < 3:
        return True
    first, frame = starts[0], (starts[-1] - starts[0]) / (len(starts) - 1)
    steps = itertools.pairwise(starts)
    return all(abs(later - sooner - frame) <= frame / 2 for sooner, later in steps) and all(
        abs(start - first - number * frame) <= frame for number, start in enumerate(starts)
    )


def _times(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Start and end of each packet of the default picture and audio streams."""
    found: dict[str, list[tuple[float, float]]] = {"video": [], "audio": []}
    try:
        with _open(path) as container:
            wanted = [stream for stream in (_best(container, "video"), _best(container, "audio")) if stream]
            for packet in container.demux(wanted) if wanted else ():
                if packet.pts is not None and packet.time_base is not None:
                    times, end = found[packet.stream.type], packet.pts + (packet.duration or 0)
                    times.append((float(packet.pts * packet.time_base), float(end * packet.time_base)))
                    if len(times) > MAX_PACKETS:
                        raise TooLargeError(f"its {packet.stream.type} stream has more than {MAX_PACKETS} packets")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _fault(path, "cannot be read back", error) from error
    return found


def _fault(path: Path, what: str, error: Exception) -> MediaError | OSError:
    """Translate an error of PyAV.

    It reports too many streams as lack of memory. The folder is left out of the message: it varies.
    """
    number = getattr(error, "errno", None)
    if number == errno.EIO:
        read_through(path)
    elif number in MACHINE:
        return OSError(number, os.strerror(number))
    kind = TooLargeError if number == errno.ENOMEM else MediaError
    place = str(getattr(error, "filename", None) or "")
    told = re.sub(r"^\[Errno [0-9]+\] ", "", str(error))  # FFmpeg's numbers are no errno
    return kind(f"{what}: {told.replace(place, Path(place).name) if place else told}")


def _open(path: Path) -> InputContainer:
    opened: InputContainer = av.open(f"file:{path}", options=dict(OPEN_OPTIONS), **LENIENT)
    return opened


def _best(container: InputContainer, kind: Literal["video", "audio"]) -> Stream | None:
    """The default stream of a kind; cover art is not a picture stream."""
    stream = container.streams.best(kind)
    return None if stream and stream.disposition & Disposition.attached_pic else stream


def _span(packets: list[tuple[float, float]]) -> Span | None:
    if not packets:
        return None
    first, last = min(start for start, _ in packets), max(end for _, end in packets)
    return Span(count=len(packets), first_seconds=first, last_seconds=last, covered_seconds=covered(packets))


def covered(times: Iterable[tuple[float, float]], *, begin: float = -math.inf, end: float = math.inf) -> float:
    """Seconds between `begin` and `end` covered by spans of (start, end), each lasting until the next one's start.

    A span that ends long before the next starts covers at most `STILL_SECONDS`: a gap is not covered.
    """
    ordered = sorted(times)
    total = 0.0
    for place, (start, stop) in enumerate(ordered):
        following = ordered[place + 1][0] if place + 1 < len(ordered) else stop
        until = min(following, max(stop, start + STILL_SECONDS))
        total += max(0.0, min(until, end) - max(start, begin))
    return total
