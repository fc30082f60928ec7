"""What a clip's file really holds: decoded from end to end, and heard as training will hear it."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import MediaError
from . import encode, ffmpeg, messages, timeline
from .messages import SILENCE_DB, Block
from .probe import Audio, Probe, Span, check_aspect, covered

FIRST_SECONDS = 0.2
"""The picture may begin this late."""
APART_SECONDS = 0.1
"""Picture and sound may begin this much apart: less than viewers notice (ITU-R BT.1359: 0.125 s)."""
LONGER_SECONDS = 1.0
"""Picture and sound may reach this far past the span."""
STILL_DB = -60
"""A frame whose pixels differ by less from an earlier one, in the mean, is the same picture: a quarter of a grey level."""
STILL_AFTER_SECONDS = 0.5
"""How long a picture must stay the same to be still."""
CANCELLED_DB = 20.0
"""A mono mix that is more than this below the loudest channel has cancelled it out; that channel is taken instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What decoding a clip showed."""

    video: Span
    audio: Span | None
    width: int
    height: int
    """Upright, as decoded."""
    fps: float
    audio_rms_db: float
    """Decibels under full scale, of the mono 24 kHz sound that a shard keeps."""
    audio_channel: str = "mix"
    """What that sound is made of: the `mix` of all channels, or one of them (`encode.channel_name`)."""
    audio_offset_seconds: float
    """Start of the sound minus start of the picture, before anything was filled in; 0 where there is no sound."""
    still_seconds: float
    """How long the picture did not change."""
    rotation: int
    """Degrees clockwise, 0 to 359, by which the picture was turned upright."""
    decode_errors: int
    """Frames that were patched up, and packets of picture or sound that could not be decoded, before the span too."""
    damaged_share: float
    """These over all that was decoded, of the picture or of the sound, whichever is worse."""
    steady: bool = True
    """Neither stream changes its size, format, rate or channels, and the sound has neither holes nor overlaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What decoding a sound stream showed."""

    blocks: tuple[Block, ...]
    level_db: float
    """RMS of the mono 24 kHz sound that a shard keeps."""
    channel: str
    """What that is made of."""
    messages: str

    @property
    def times(self) -> list[tuple[float, float]]:
        """Start and end of each block in seconds."""
        return [block.seconds for block in self.blocks]


def hear(path: Path, audio: Audio, *, timeout_seconds: float, most_seconds: float | None = None) -> Heard:
    """Decode a sound stream, all of it or its first seconds, as packing does, and each of its channels alone."""
    bounds: dict[str, Any] = {} if most_seconds is None else {"t": most_seconds}
    opened = ffmpeg.source(path, audio_codec=audio.codec, **bounds)[str(audio.index)]
    both = opened.filter("ashowinfo").filter_multi_output("asplit")
    apart = both[0].filter("aresample", str(encode.SAMPLE_RATE), osf="s16")
    apart = apart.filter("astats", measure_perchannel="RMS_level", measure_overall="none")
    mixed = encode.mono(both[1]).filter("astats", measure_perchannel="none", measure_overall="RMS_level")
    nowhere = [ffmpeg.sink(stream, path=path.with_name("none"), format="null") for stream in (apart, mixed)]
    told = ffmpeg.run(*nowhere, timeout_seconds=timeout_seconds)
    levels, level, channel = messages.levels_db(told), messages.level_db(told), "mix"
    if levels and level < max(levels) - CANCELLED_DB:
        level = max(levels)
        channel = encode.channel_name(levels.index(level), len(levels))
    return Heard(blocks=tuple(messages.blocks(told)), level_db=level, channel=channel, messages=told)


def measure(
    path: Path, *, found: Probe, scratch: Path, timeout_seconds: float, most_seconds: float | None = None
) -> Measured:
    """Decode a file to nothing and say what it really holds, times counted from the earlier stream's start.

    All of it, or its first `most_seconds`. `scratch` is an existing folder for the list of frames. Raises MediaError where
    there is no picture or decoding fails, and BadAspectError.
    """
    if found.video is None:
        raise MediaError("it has no picture stream")
    check_aspect(found.video)
    bounds: dict[str, Any] = {} if most_seconds is None else {"t": most_seconds}
    report = scratch / "frames.txt"
    picture = stills(ffmpeg.source(path, **bounds)[str(found.video.index)])
    seen = ffmpeg.run(
        ffmpeg.sink(picture, path=report, format="framecrc", fps_mode="passthrough"), timeout_seconds=timeout_seconds
    )
    header, frames = _framecrc(report.read_text("utf-8").splitlines())
    report.unlink()
    video = _span(frames)
    if video is None:
        raise MediaError("no frame of its picture stream can be decoded")
    heard = hear(path, found.audio, timeout_seconds=timeout_seconds, most_seconds=most_seconds) if found.audio else None
    audio = _span(heard.times) if heard else None
    width, height = (int(side) for side in header["dimensions 0"].split("x"))
    seconds = video.last_seconds - video.first_seconds
    return Measured(
        video=video,
        audio=audio,
        width=width,
        height=height,
        fps=video.count / seconds if seconds > 0 else 0.0,
        audio_rms_db=heard.level_db if heard and audio else SILENCE_DB,
        audio_channel=heard.channel if heard else "mix",
        audio_offset_seconds=audio.first_seconds - video.first_seconds if audio else 0.0,
        still_seconds=messages.still_seconds(seen, end=video.last_seconds),
        rotation=messages.rotation(seen, found.video.index),
        steady=not messages.reconfigured(seen) and (heard is None or steady(heard.blocks)),
        **damage(seen, heard.messages if heard else "", frames=video.count, blocks=audio.count if audio else 0),
    )


def damage(seen: str, heard: str, *, frames: int, blocks: int) -> dict[str, Any]:
    """Of what decoding of the picture and of the sound told: `decode_errors` and `damaged_share` of `Measured`."""
    picture, sound = messages.decode_errors(seen, "v"), messages.decode_errors(heard)
    return {
        "decode_errors": picture + sound,
        "damaged_share": max(picture / max(frames, 1), sound / max(blocks, 1)),
    }


def steady(blocks: tuple[Block, ...]) -> bool:
    """Whether samples keep one rate and one number of channels, and follow one another without holes and overlaps."""
    if len({(block.rate, block.channels) for block in blocks}) > 1:
        return False
    return not blocks or len(timeline.arrange([b._replace(start=b.start - blocks[0].start) for b in blocks])) == 1


def misplaced(measured: Measured, *, seconds: float) -> str:
    """What is wrong with where picture and sound lie in a file of so many seconds; empty where nothing is.

    It would be right in a cut.
    """
    video, audio = measured.video, measured.audio
    if video.first_seconds > FIRST_SECONDS:
        return f"the first frame is at {video.first_seconds:.2f} s, not at 0"
    if audio is not None and abs(audio.first_seconds - video.first_seconds) > APART_SECONDS:
        return f"the sound begins {audio.first_seconds - video.first_seconds:+.2f} s from the picture"
    last = max(span.last_seconds for span in (video, audio) if span is not None)
    if last > seconds + LONGER_SECONDS:
        return f"it ends at {last:.2f} s, after the {seconds:g} s asked for"
    return ""


def stills(stream: Any) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """The same picture, watched for times in which it does not change (`messages.still_seconds`)."""
    return stream.filter("freezedetect", noise=f"{STILL_DB}dB", duration=STILL_AFTER_SECONDS)


def _framecrc(lines: Iterable[str]) -> tuple[dict[str, str], list[tuple[float, float]]]:
    """The header, and start and end in seconds of each frame of the one stream."""
    header: dict[str, str] = {}
    times: list[tuple[float, float]] = []
    for line in lines:
        if line.startswith("#"):
            name, _, value = line[1:].partition(": ")
            header[name] = value
            continue
        fields = [field.strip() for field in line.split(",")]
        pts, duration, base = int(fields[2]), int(fields[3]), Fraction(header["tb 0"])
        times.append((float(pts * base), float((pts + duration) * base)))
    return header, times


def _span(times: list[tuple[float, float]]) -> Span | None:
    if not times:
        return None
    return Span(
        count=len(times),
        first_seconds=min(start for start, _ in times),
        last_seconds=max(end for _, end in times),
        covered_seconds=covered(times),
    )
