"""Look into a media file without decoding it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from ..errors import MediaError
from .ffmpeg import OPEN_OPTIONS

NO_INDEX = ("mpegts", "mpeg")
"""Containers in which a seek lands anywhere, often past the keyframe that it needs."""


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
    """Default streams of a file; raises MediaError where it cannot be opened."""
    try:
        with _open(path) as container:
            picture, sound = _best(container, "video"), _best(container, "audio")
            video = audio = None
            if isinstance(picture, av.VideoStream) and picture.codec_context and picture.width and picture.height:
                rate = picture.average_rate or picture.guessed_rate or Fraction(0)
                video = Video(
                    index=picture.index,
                    codec=picture.codec_context.codec.canonical_name,
                    width=picture.width,
                    height=picture.height,
                    fps=Fraction(rate),
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
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"cannot be opened: {error}") from error
    return Probe(video=video, audio=audio, seconds=seconds, seekable=seekable)


def spans(path: Path) -> tuple[Span | None, Span | None]:
    """Where the default picture and sound streams of a file lie in time, from their packets, without decoding."""
    found: dict[str, list[tuple[Fraction, Fraction]]] = {"video": [], "audio": []}
    try:
        with _open(path) as container:
            wanted = [stream for stream in (_best(container, "video"), _best(container, "audio")) if stream]
            for packet in container.demux(wanted) if wanted else ():
                if packet.pts is not None and packet.time_base is not None:
                    start = packet.pts * packet.time_base
                    found[packet.stream.type].append((start, start + (packet.duration or 0) * packet.time_base))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"cannot be read back: {error}") from error
    return _span(found["video"]), _span(found["audio"])


def _open(path: Path) -> InputContainer:
    return av.open(f"file:{path}", metadata_errors="replace", options=dict(OPEN_OPTIONS))


def _best(container: InputContainer, kind: Literal["video", "audio"]) -> Stream | None:
    """The default stream of a kind; the cover of a song is no picture stream."""
    stream = container.streams.best(kind)
    return None if stream and stream.disposition & Disposition.attached_pic else stream


def _span(packets: list[tuple[Fraction, Fraction]]) -> Span | None:
    if not packets:
        return None
    first, last = min(start for start, _ in packets), max(end for _, end in packets)
    filled = covered([(float(start), float(end)) for start, end in packets])
    return Span(count=len(packets), first_seconds=float(first), last_seconds=float(last), covered_seconds=filled)


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
