"""Measure what a clip's file really contains, by decoding all of it."""

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
"""Maximum delay of the first frame in seconds."""
APART_SECONDS = 0.1
"""Maximum offset between the starts of picture and audio: below what viewers notice (ITU-R BT.1359: 0.125 s)."""
LONGER_SECONDS = 1.0
"""Maximum length of picture and audio beyond the span, in seconds."""
STILL_DB = -60
"""Frames with a lower mean difference count as the same picture: a quarter of a grey level."""
STILL_AFTER_SECONDS = 0.5
"""Time without change after which a picture counts as still, in seconds."""
SILENT_DB = -60.0
"""Level in dBFS below which audio counts as silent: below any room or microphone noise."""
STILL_SHARE = 0.75
"""Fraction of the time without change from which a picture counts as still; the rest are the encoder's changes at keyframes."""
CANCELLED_DB = 20.0
"""If the mono mix is more than this many decibels below the loudest channel, channels cancel out and that channel is used
instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measurements of a decoded clip."""

    video: Span
    audio: Span | None
    width: int
    height: int
    """Height of the upright picture in pixels."""
    fps: float
    audio_rms_db: float
    """RMS level in dBFS of the mono 24 kHz audio stored in a shard."""
    audio_channel: str = "mix"
    """Source channel of that audio: `mix`, or a single one (`encode.channel_name`)."""
    audio_offset_seconds: float
    """Start of the audio minus start of the picture, before gaps were filled; 0 without audio."""
    still_seconds: float
    """Total time without a change of the picture, in seconds."""
    rotation: int
    """Degrees clockwise, 0 to 359, by which the picture was rotated upright."""
    decode_errors: int
    """Concealed frames, and packets of picture or audio that could not be decoded, including those before the span."""
    damaged_share: float
    """Fraction of damaged frames or packets, of picture or audio, whichever is larger."""
    steady: bool = True
    """Whether no stream changes its size, format, rate or channels, and the audio has no gaps or overlaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioMeasurement:
    """Measurements of a decoded audio stream."""

    blocks: tuple[Block, ...]
    level_db: float
    """RMS level in dBFS of the mono 24 kHz audio stored in a shard."""
    channel: str
    """Source channel of that audio."""
    messages: str

    @property
    def times(self) -> list[tuple[float, float]]:
        """Start and end of each block in seconds."""
        return [block.seconds for block in self.blocks]


def measure_audio(
    path: Path, audio: Audio, *, timeout_seconds: float, most_seconds: float | None = None
) -> AudioMeasurement:
    """Decode an audio stream, or its first seconds, as packing does, and also each channel alone."""
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
    return AudioMeasurement(blocks=tuple(messages.blocks(told)), level_db=level, channel=channel, messages=told)


def measure(
    path: Path, *, found: Probe, scratch: Path, timeout_seconds: float, most_seconds: float | None = None
) -> Measured:
    """Decode a file without output and measure it; times count from the start of the earlier stream.

    `most_seconds` limits it to the first seconds. `scratch` is an existing folder for the list of frames. Raises MediaError if
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
    heard = (
        measure_audio(path, found.audio, timeout_seconds=timeout_seconds, most_seconds=most_seconds)
        if found.audio
        else None
    )
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
    """`decode_errors` and `damaged_share` of `Measured`, from the messages of decoding picture and audio."""
    picture, sound = messages.decode_errors(seen, "v"), messages.decode_errors(heard)
    return {
        "decode_errors": picture + sound,
        "damaged_share": max(picture / max(frames, 1), sound / max(blocks, 1)),
    }


def steady(blocks: tuple[Block, ...]) -> bool:
    """Whether blocks have one sample rate and channel count, without gaps or overlaps."""
    if len({(block.rate, block.channels) for block in blocks}) > 1:
        return False
    return not blocks or len(timeline.arrange([b._replace(start=b.start - blocks[0].start) for b in blocks])) == 1


def misplaced(measured: Measured, *, seconds: float) -> str:
    """What is wrong with the positions of picture and audio in a file of this many seconds; empty if nothing is.

    Trimming would correct it.
    """
    video, audio = measured.video, measured.audio
    if video.first_seconds > FIRST_SECONDS:
        return f"the first frame is at {video.first_seconds:.2f} s, not at 0"
    if audio is not None and abs(audio.first_seconds - video.first_seconds) > APART_SECONDS:
        return f"the sound begins {audio.first_seconds - video.first_seconds:+.2f} s from the picture"
    last = max(span.last_seconds for span in (video, audio) if span is not None)
    if last > seconds + LONGER_SECONDS:
        return f"it ends at {last:.2f} s, after the {seconds:g} s requested"
    return ""


def silent(measured: Measured) -> bool:
    """Whether the clip is silent."""
    return measured.audio_rms_db < SILENT_DB


def still(measured: Measured) -> bool:
    """Whether the picture does not change."""
    return measured.still_seconds >= STILL_SHARE * (measured.video.last_seconds - measured.video.first_seconds)


def stills(stream: Any) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """The same stream, with intervals without change reported (`messages.still_seconds`)."""
    return stream.filter("freezedetect", noise=f"{STILL_DB}dB", duration=STILL_AFTER_SECONDS)


def _framecrc(lines: Iterable[str]) -> tuple[dict[str, str], list[tuple[float, float]]]:
    """The header, and start and end in seconds of each frame of the only stream."""
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
