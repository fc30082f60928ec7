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
from typing import Any, Literal

from ..errors import MediaError
from . import ffmpeg
from .probe import Audio, Probe, Span, Video, covered, spans

SILENCE_DB = -200.0
"""What stands for the level of digital silence, whose logarithm has no value."""
MAX_FPS = 60
"""Frame rates above this are a container's mistake or a slow-motion camera; frames are dropped down to it."""
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


class EmptySpanError(MediaError):
    """A video has no picture in the span asked for."""


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
    measures the level of the sound and looks for a still picture. Raises EmptySpanError where the video ends before the
    span, MediaError where either stream is missing or ffmpeg fails.
    """
    if found.video is None or found.audio is None:
        raise MediaError("picture and sound are needed to cut a clip")
    rate = frame_rate(found.video, path)
    # Filters take the span, and the tool's own exact seeking stays off: it would drop the frame that is still shown when
    # the span begins, and count the span from the next one.
    seeking = {"ss": start_seconds, "noaccurate_seek": None} if found.seekable and start_seconds > 0 else {}
    begin = 0 if seeking else start_seconds
    opened = ffmpeg.source(path, audio_codec=found.audio.codec, **seeking)
    shown = (
        opened[str(found.video.index)]
        .filter("showinfo", checksum=0)
        .filter("fps", fps=f"{rate.numerator}/{rate.denominator}", start_time=begin)
        .filter("trim", end=begin + seconds)
        .filter("setpts", "PTS-STARTPTS")
    )
    even = _stills(shown).filter("crop", "trunc(iw/2)*2", "trunc(ih/2)*2", 0, 0)
    picture = even.filter("format", "yuv420p")
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
        raise EmptySpanError(f"no frame lies between {start_seconds:g} s and {start_seconds + seconds:g} s")
    frames, blocks = _told(messages, "showinfo"), _told(messages, "ashowinfo")  # before anything was filled in
    sound_starts = [max(start, begin) for start, end in blocks if end > begin]
    if not sound_starts:
        audio = None
    width, height = _size(messages)
    return Measured(
        video=dataclasses.replace(video, covered_seconds=covered(frames, begin=begin, end=begin + seconds)),
        audio=audio and dataclasses.replace(audio, covered_seconds=covered(blocks, begin=begin, end=begin + seconds)),
        width=width,
        height=height,
        fps=float(rate),
        audio_rms_db=_rms_db(messages),
        audio_offset_seconds=min(sound_starts) - max(min(frames)[0], begin) if audio else 0.0,
        still_seconds=_still_seconds(messages, end=video.last_seconds),
        rotation=_rotation(messages, found.video),
        decode_errors=_decode_errors(messages, "va"),
        damaged_share=_damaged_share(messages, frames=len(frames), blocks=len(blocks)),
    )


def measure(
    path: Path, *, found: Probe, scratch: Path, timeout_seconds: float, most_seconds: float | None = None
) -> Measured:
    """Decode a file to nothing and say what it really holds, times counted from the earlier stream's start.

    All of it, or its first `most_seconds`. `scratch` is an existing folder for the list of frames. Raises MediaError where
    there is no picture or decoding fails.
    """
    if found.video is None:
        raise MediaError("it has no picture stream")
    bounds = {} if most_seconds is None else {"t": most_seconds}
    opened = ffmpeg.source(path, audio_codec=found.audio.codec if found.audio else "", **bounds)
    report = scratch / "frames.txt"
    streams = [_stills(opened[str(found.video.index)])]
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
        audio_offset_seconds=audio.first_seconds - video.first_seconds if audio else 0.0,
        still_seconds=_still_seconds(messages, end=video.last_seconds),
        rotation=_rotation(messages, found.video),
        decode_errors=_decode_errors(messages, "va"),
        damaged_share=_damaged_share(messages, frames=video.count, blocks=audio.count if audio else 0),
    )


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


def _from_zero(stream: Any, audio: Audio) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """Sound from time 0 at its own rate: a late start and gaps become silence, so that it stays with the picture."""
    return stream.filter("aresample", str(audio.rate), **{"async": 1, "first_pts": 0})


def _levels(stream: Any) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    return stream.filter("astats", measure_perchannel="none", measure_overall="RMS_level")


def _rms_db(messages: str) -> float:
    found = re.findall(r"^\[Parsed_astats_\d+ @ [^\]]+\] RMS level dB: (\S+)$", messages, flags=re.MULTILINE)
    level = float(found[-1]) if found else -math.inf
    return max(level, SILENCE_DB) if not math.isnan(level) else SILENCE_DB


def _stills(stream: Any) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    return stream.filter("freezedetect", noise=f"{STILL_DB}dB", duration=STILL_AFTER_SECONDS)


def _still_seconds(messages: str, *, end: float) -> float:
    """Time in which the picture stayed the same; one that does so to the end has no end of its own."""
    pattern = r"^\[Parsed_freezedetect_\d+ @ [^\]]+\] lavfi\.freezedetect\.freeze_{}: (\S+)$"
    starts, ends = (
        [float(time) for time in re.findall(pattern.format(which), messages, flags=re.MULTILINE)]
        for which in ("start", "end")
    )
    return sum((*ends, end)[: len(starts)]) - sum(starts)


def _rotation(messages: str, video: Video) -> int:
    """What the picture stream's display matrix asks for, from how ffmpeg describes its input."""
    described = messages.partition("\nOutput #")[0]
    stream = re.search(rf"^  Stream #0:{video.index}\b.*\n((?:    .*\n)*)", described, flags=re.MULTILINE)
    turned = re.search(
        r"^      Display Matrix: rotation of (-?[\d.]+) degrees", stream[1] if stream else "", re.MULTILINE
    )
    return round(-float(turned[1])) % 360 if turned else 0


def _decode_errors(messages: str, streams: Literal["v", "a", "va"]) -> int:
    """What decoders of picture (v) or sound (a) complained of, once a frame or packet.

    A complaint that comes while another thread is within a line has no prefix: it is taken for the picture's.
    """
    complaint = r"(?:corrupt decoded frame|(?:Error submitting packet to decoder|Decoding error): .*)$"
    whose = re.findall(rf"^(?:\[([va])ist#.*\] |.*?){complaint}", messages, flags=re.MULTILINE)
    return sum((each or "v") in streams for each in whose)


def _damaged_share(messages: str, *, frames: int, blocks: int) -> float:
    picture, sound = _decode_errors(messages, "v"), _decode_errors(messages, "a")
    return max(picture / max(frames, 1), sound / max(blocks, 1))


def _told(messages: str, name: str) -> list[tuple[float, float]]:
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
