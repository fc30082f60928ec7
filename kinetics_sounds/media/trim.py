"""Cut a span out of a video, exactly: always by decoding and encoding, never by stream copy.

A stream copy begins at a keyframe and hides the excess behind an edit list that some decoders ignore: they then show the
picture seconds ahead of the sound. See `docs/decisions/0003-exact-cuts.md`.
"""

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import MediaError
from . import ffmpeg
from .probe import Audio, Probe, Span, Video, covered, spans

SILENCE_DB = -200.0
"""What stands for the level of digital silence, whose logarithm has no value."""
MAX_FPS = 60
"""Frame rates above this are a container's mistake or a slow-motion camera; frames are dropped down to it."""


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
    """Decibels under full scale over all channels."""


def frame_rate(video: Video, path: Path) -> Fraction:
    """The stream's mean rate, counted over its packets where the container claims an impossible one."""
    if 0 < video.fps <= MAX_FPS + 1:
        return min(video.fps, Fraction(MAX_FPS))
    counted = spans(path)[0]
    if counted is None or counted.last_seconds <= counted.first_seconds:
        raise MediaError("its picture stream has no frames")
    mean = Fraction(counted.count / (counted.last_seconds - counted.first_seconds)).limit_denominator(1001)
    return min(max(mean, Fraction(1)), Fraction(MAX_FPS))


def cut(
    path: Path, out: Path, *, found: Probe, start_seconds: float, seconds: float, timeout_seconds: float
) -> Measured:
    """Write `[start_seconds, start_seconds + seconds)` of a video as H.264 and AAC, both beginning at 0.

    Constant frame rate (the source's own mean, up to 60), even sizes, upright, stereo at most, x264 crf 18. The same pass
    measures the level of the sound. Raises MediaError where either stream is missing or ffmpeg fails.
    """
    if found.video is None or found.audio is None:
        raise MediaError("picture and sound are needed to cut a clip")
    rate = frame_rate(found.video, path)
    # Filters take the span, and the tool's own exact seeking stays off: it would drop the frame that is still shown when
    # the span begins, and count the span from the next one.
    seeking = {"ss": start_seconds, "noaccurate_seek": None} if found.seekable and start_seconds > 0 else {}
    begin = 0 if seeking else start_seconds
    opened = ffmpeg.source(path, audio_codec=found.audio.codec, **seeking)
    picture = (
        opened[str(found.video.index)]
        .filter("showinfo", checksum=0)
        .filter("fps", fps=f"{rate.numerator}/{rate.denominator}", start_time=begin)
        .filter("trim", end=begin + seconds)
        .filter("setpts", "PTS-STARTPTS")
        .filter("crop", "trunc(iw/2)*2", "trunc(ih/2)*2", 0, 0)
        .filter("format", "yuv420p")
    )
    heard = opened[str(found.audio.index)].filter("ashowinfo").filter("atrim", start=begin, end=begin + seconds)
    sound = _from_zero(heard.filter("asetpts", f"PTS-{begin}/TB"), found.audio)
    output = ffmpeg.sink(
        picture,
        _levels(sound),
        path=out,
        vcodec="libx264",
        preset="veryfast",
        crf=18,
        acodec="aac",
        audio_bitrate="192k",
        ac=min(found.audio.channels or 2, 2),
        movflags="+faststart",
        format="mp4",
    )
    messages = ffmpeg.run(output, timeout_seconds=timeout_seconds)
    video, audio = spans(out)
    if video is None:
        raise MediaError(f"no frame lies between {start_seconds:g} s and {start_seconds + seconds:g} s")
    shown, played = _shown(messages, "showinfo"), _shown(messages, "ashowinfo")  # before anything was filled in
    if not played:
        audio = None
    width, height = _size(messages)
    return Measured(
        video=dataclasses.replace(video, covered_seconds=covered(shown, begin=begin, end=begin + seconds)),
        audio=audio and dataclasses.replace(audio, covered_seconds=covered(played, begin=begin, end=begin + seconds)),
        width=width,
        height=height,
        fps=float(rate),
        audio_rms_db=_rms_db(messages),
    )


def measure(path: Path, *, found: Probe, scratch: Path, timeout_seconds: float) -> Measured:
    """Decode a whole file to nothing and say what it really holds, times counted from the earlier stream's start.

    `scratch` is an existing folder for the list of frames. Raises MediaError where there is no picture or decoding fails.
    """
    if found.video is None:
        raise MediaError("it has no picture stream")
    opened = ffmpeg.source(path, audio_codec=found.audio.codec if found.audio else "")
    report = scratch / "frames.txt"
    streams = [opened[str(found.video.index)]]
    if found.audio is not None:
        streams.append(_levels(opened[str(found.audio.index)]))
    output = ffmpeg.sink(*streams, path=report, format="framecrc", fps_mode="passthrough")
    messages = ffmpeg.run(output, timeout_seconds=timeout_seconds)
    header, packets = _framecrc(report.read_text("utf-8").splitlines())
    report.unlink()
    video, audio = _crc_span(packets, 0), _crc_span(packets, 1)
    if video is None:
        raise MediaError("no frame of its picture stream can be decoded")
    width, height = (int(side) for side in header["dimensions 0"].split("x"))
    seconds = video.last_seconds - video.first_seconds
    return Measured(
        video=video,
        audio=audio,
        width=width,
        height=height,
        fps=video.count / seconds if seconds > 0 else 0.0,
        audio_rms_db=_rms_db(messages) if audio is not None else SILENCE_DB,
    )


def _from_zero(stream: Any, audio: Audio) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """Sound from time 0 at its own rate: a late start and gaps become silence, so that it stays with the picture."""
    return stream.filter("aresample", str(audio.rate), **{"async": 1, "first_pts": 0})


def _levels(stream: Any) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    return stream.filter("astats", measure_perchannel="none", measure_overall="RMS_level")


def _rms_db(messages: str) -> float:
    found = re.findall(r"^\[Parsed_astats_\d+ @ [^\]]+\] RMS level dB: (\S+)$", messages, flags=re.MULTILINE)
    level = float(found[-1]) if found else -math.inf
    return max(level, SILENCE_DB) if not math.isnan(level) else SILENCE_DB


def _shown(messages: str, name: str) -> list[tuple[float, float]]:
    """Start and end in seconds of each frame, or block of samples, that a `showinfo` filter told of."""
    number = r"(-?[\d.]+(?:e[+-]?\d+)?)"
    heads = re.findall(
        rf"^\[Parsed_{name}_\d+ @ [^\]]+\] n: *\d+ pts: *\S+ pts_time:{number}(.*)$", messages, flags=re.MULTILINE
    )
    times: list[tuple[float, float]] = []
    for start, rest in heads:
        if lasts := re.search(rf"duration_time:{number}", rest):
            length = float(lasts[1])
        else:
            rate, samples = re.search(r"rate:(\d+)", rest), re.search(r"nb_samples:(\d+)", rest)
            length = int(samples[1]) / int(rate[1]) if rate and samples else 0.0
        times.append((float(start), float(start) + length))
    return times


def _size(messages: str) -> tuple[int, int]:
    found = re.findall(r"^  Stream #0:0.*: Video: .*?, (\d+)x(\d+)[ ,\[]", messages, flags=re.MULTILINE)
    if not found:
        raise MediaError(f"ffmpeg {ffmpeg.version()} named no output size: {ffmpeg.last_words(messages)}")
    return int(found[-1][0]), int(found[-1][1])


_Packet = tuple[int, float, float]
"""Stream, start and end in seconds."""


def _framecrc(lines: Iterable[str]) -> tuple[dict[str, str], list[_Packet]]:
    header: dict[str, str] = {}
    packets: list[_Packet] = []
    for line in lines:
        if line.startswith("#"):
            name, _, value = line[1:].partition(": ")
            header[name] = value
            continue
        fields = [field.strip() for field in line.split(",")]
        stream, pts, duration = int(fields[0]), int(fields[2]), int(fields[3])
        base = Fraction(header[f"tb {stream}"])
        packets.append((stream, float(pts * base), float((pts + duration) * base)))
    return header, packets


def _crc_span(packets: Iterable[_Packet], stream: int) -> Span | None:
    times = [(start, end) for index, start, end in packets if index == stream]
    if not times:
        return None
    return Span(
        count=len(times),
        first_seconds=min(start for start, _ in times),
        last_seconds=max(end for _, end in times),
        covered_seconds=covered(times),
    )
