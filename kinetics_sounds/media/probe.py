"""Look into a media file without decoding it."""

import errno
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from ..errors import MediaError
from .ffmpeg import MACHINE, MAX_PIXELS, OPEN_OPTIONS, TooLargeError, read_through
from .hdr import TRANSFERS

MAX_BYTES = 8 * 2**30
"""Of a file: hours of 1080 lines, of which a clip is ten seconds."""
MAX_PACKETS = 2**21
"""That are counted in one stream: ten hours of 60 frames a second."""
MAX_ASPECT = 16
"""Of a picture as shown, either way: what is more extreme makes no frames that training could use."""
NO_INDEX = ("mpegts", "mpeg")
"""Containers in which a seek lands anywhere, often past the keyframe that it needs."""
NO_SOUND_INDEX = ("avi",)
"""Containers that reckon the time of sound from its bytes: after a seek it is some milliseconds off."""

MAX_FPS = 60
"""Frame rates above this are a container's mistake or a slow-motion camera; frames are dropped down to it."""
STILL_SECONDS = 1.0
"""A picture may stand still this long before it counts as missing (a slide show shows one frame a second)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """The default picture stream."""

    index: int
    codec: str
    width: int
    height: int
    fps: Fraction
    """Mean frame rate."""
    transfer: str = ""
    """Of a high dynamic range, one of `hdr.TRANSFERS`; empty where it is standard."""
    sample_aspect: Fraction = Fraction(1)
    """Width over height of a pixel as shown."""

    @property
    def aspect(self) -> float:
        """Width over height of the picture as shown."""
        return float(self.width * self.sample_aspect / self.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """The default sound stream."""

    index: int
    codec: str
    rate: int
    """Hertz."""
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a container says it holds."""

    video: Video | None
    audio: Audio | None
    seconds: float | None
    """As the container claims; None where it does not say."""
    seekable: bool
    """Seeking lands on a keyframe at or before the place asked for, so nothing that is shown there is lost."""
    sound_seekable: bool
    """After seeking, the times of the sound are still exact."""
    other_streams: str
    """What else it holds, like `1 video, 2 audio, 3 subtitle`; a cover counts as video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where a stream really lies in time, from its packets."""

    count: int
    """Packets; of a picture stream without field pairs, its frames."""
    first_seconds: float
    last_seconds: float
    """End of the last packet."""
    covered_seconds: float
    """Time that frames or sound really fill; a frame fills no more than `STILL_SECONDS` before the next must come."""


def probe(path: Path) -> Probe:
    """Default streams of a file.

    Raises MediaError where it cannot be opened, TooLargeError where it is past a limit, and OSError where that is the
    machine's fault (`ffmpeg.MACHINE`).
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
    """A picture is too wide, too high or too small to be stored as small frames."""


def check_aspect(video: Video) -> None:
    """Raise BadAspectError unless the picture has at least two pixels a side and neither side is `MAX_ASPECT` times the other."""
    if not 1 / MAX_ASPECT <= video.aspect <= MAX_ASPECT or min(video.width, video.height) < 2:
        shown = f", shown {video.aspect:.4g} times as wide as high"
        raise BadAspectError(
            f"its picture is {video.width} x {video.height}{shown}; at most {MAX_ASPECT} to 1 and 2 pixels at least are packed"
        )


def spans(path: Path, *, before: float = math.inf) -> tuple[Span | None, Span | None]:
    """Where the default picture and sound streams of a file lie in time, from their packets; raises as `probe`.

    Of the packets that begin `before` a time in seconds.
    """
    found = {kind: [(start, end) for start, end in times if start < before] for kind, times in _times(path).items()}
    return _span(found["video"]), _span(found["audio"])


def frame_rate(video: Video, path: Path) -> Fraction:
    """The stream's mean rate up to `MAX_FPS`, counted over its packets where the container claims an impossible one.

    Raises MediaError where there are none.
    """
    if 0 < video.fps <= MAX_FPS + 1:
        return min(video.fps, Fraction(MAX_FPS))
    counted = spans(path)[0]
    if counted is None or counted.last_seconds <= counted.first_seconds:
        raise MediaError("its picture stream has no frames")
    mean = Fraction(counted.count / (counted.last_seconds - counted.first_seconds)).limit_denominator(1001)
    return min(max(mean, Fraction(1)), Fraction(MAX_FPS))


def constant_rate(path: Path) -> bool:
    """Whether the frames of the default picture stream lie at one rate, from their packets.

    None may come half a frame too early or too late after the one before, nor lie a whole frame off its place among all.
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
    """Start and end of each packet of the default picture and sound streams."""
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
    """Too many streams are told as a lack of memory. The file's folder is left out: it differs from run to run."""
    number = getattr(error, "errno", None)
    if number == errno.EIO:
        read_through(path)
    elif number in MACHINE:
        return OSError(number, os.strerror(number))
    kind = TooLargeError if number == errno.ENOMEM else MediaError
    place = str(getattr(error, "filename", None) or "")
    return kind(f"{what}: {str(error).replace(place, Path(place).name) if place else error}")


def _open(path: Path) -> InputContainer:
    return av.open(f"file:{path}", metadata_errors="replace", options=dict(OPEN_OPTIONS))


def _best(container: InputContainer, kind: Literal["video", "audio"]) -> Stream | None:
    """The default stream of a kind; the cover of a song is no picture stream."""
    stream = container.streams.best(kind)
    return None if stream and stream.disposition & Disposition.attached_pic else stream


def _span(packets: list[tuple[float, float]]) -> Span | None:
    if not packets:
        return None
    first, last = min(start for start, _ in packets), max(end for _, end in packets)
    return Span(count=len(packets), first_seconds=first, last_seconds=last, covered_seconds=covered(packets))


def covered(times: Iterable[tuple[float, float]], *, begin: float = -math.inf, end: float = math.inf) -> float:
    """Seconds between `begin` and `end` that spans of (start, end) fill, each until the next one's start.

    One that ends long before the next starts fills `STILL_SECONDS` at most: a hole is not covered.
    """
    ordered = sorted(times)
    total = 0.0
    for place, (start, stop) in enumerate(ordered):
        following = ordered[place + 1][0] if place + 1 < len(ordered) else stop
        until = min(following, max(stop, start + STILL_SECONDS))
        total += max(0.0, min(until, end) - max(start, begin))
    return total
