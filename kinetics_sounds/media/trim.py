"""Trim a span out of a video exactly: always by decoding and encoding, never by stream copy.

A stream copy starts at a keyframe and hides the excess behind an edit list that some decoders ignore: they then show the picture
seconds ahead of the audio. See `docs/decisions/0003-exact-cuts.md`.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg as builder

from ..errors import MediaError
from . import ffmpeg, hdr, messages, timeline
from .encode import ENDS_SECONDS, MIX, STEP_SECONDS, OutOfSyncError
from .measure import CANCELLED_DB, AudioMeasurement, Measured, damage, measure_audio, stills
from .probe import Audio, Probe, Span, Video, check_aspect, covered, frame_rate, probe, spans

PREROLL_SECONDS = 1.0
"""Seconds of audio decoded before the span: codecs need a warm-up to be exact (Opus 80 ms)."""
LONGEST_SECONDS = 10.0
"""Longest time that a frame may be shown before the span begins, if the picture has to be copied first."""
FAR_SECONDS = 3600.0
"""Offset of a decoded copy's times, so that none is negative."""


class EmptySpanError(MediaError):
    """The video has no picture, or no audio, in the requested span."""


class NoSoundError(MediaError):
    """The audio stream contains no samples at all."""


class UnreadableError(MediaError):
    """The file gives different frames or samples when read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A file and the requested span."""

    path: Path
    video: Video
    audio: Audio
    seek: dict[str, Any]
    """Input options of ffmpeg, which shift the times."""
    begin: float
    """Start of the span in shifted times, in seconds."""
    seconds: float
    timeout_seconds: float

    @property
    def end(self) -> float:
        """End of the span in shifted times, in seconds."""
        return self.begin + self.seconds

    def sooner(self, seconds: float) -> "_Source":
        """The same span, read from that much earlier on if the file is sought."""
        start = float(self.seek.get("ss", 0))
        back = min(seconds, start)
        return dataclasses.replace(self, seek=self.seek | {"ss": start - back}, begin=back) if back else self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sound:
    """Decoded audio of a span, without gaps."""

    wav: Path
    seconds: float
    """Length in seconds; it starts with the span."""
    times: list[tuple[float, float]]
    """Start and end of each block in seconds from the span's start, before gaps were filled."""
    channel: str
    """`mix`, or the source channel that was used."""
    decoded: int
    """Number of decoded blocks, including those before the span."""
    messages: str


def cut(
    path: Path, out: Path, *, found: Probe, start_seconds: float, seconds: float, timeout_seconds: float
) -> Measured:
    """Write `[start_seconds, start_seconds + seconds)` of a video as H.264 and AAC, both starting at 0.

    Constant frame rate (the source's mean, up to 60), even sizes, upright, standard dynamic range, at most stereo, x264 crf 18.
    The audio is decoded first and placed on its stream's time line (`timeline`), then the picture is encoded; the finished file
    is measured again. Raises EmptySpanError if the video has no picture or no audio in the span, NoSoundError, OutOfSyncError,
    BadAspectError, and MediaError if a stream is missing or does not decode.
    """
    if found.video is None or found.audio is None:
        raise MediaError("picture and sound are needed to cut a clip")
    check_aspect(found.video)
    rate = frame_rate(found.video, path)
    # Filters take the span, and the tool's own exact seeking stays off: it would drop the frame that is still shown when
    # the span begins, and count the span from the next one.
    seeking = found.seekable and start_seconds > 0
    source = _Source(
        path=path,
        video=found.video,
        audio=found.audio,
        seek={"ss": start_seconds, "noaccurate_seek": None} if seeking else {},
        begin=0 if seeking else start_seconds,
        seconds=seconds,
        timeout_seconds=timeout_seconds,
    )
    with tempfile.TemporaryDirectory(dir=out.parent, prefix="cut-", ignore_cleanup_errors=True) as name:
        try:
            whole = dataclasses.replace(source, seek={}, begin=start_seconds)
            heard = source.sooner(PREROLL_SECONDS) if found.sound_seekable else whole
            sound = _sound(heard, Path(name))
            told = _picture(source, sound.wav, out, rate=rate)
            if not _whole(source, sound, told, rate=rate):
                first = _shown_and_heard(source, sound, told)
                sound = _sound(heard, Path(name))
                told = _picture(source, sound.wav, out, rate=rate)
                if _shown_and_heard(source, sound, told) != first:
                    raise UnreadableError("two readings of it differ: the disk or network share is unreliable")
            again = told
            if messages.reconfigured(told):
                again = _picture(_steady(source, Path(name), told), sound.wav, out, rate=rate)
            return _finished(source, sound, out, rate=rate, told=told, again=again)
        except EmptySpanError:
            if not _shown(source):
                raise EmptySpanError(
                    f"there is no frame between {start_seconds:g} s and {start_seconds + seconds:g} s"
                ) from None
            raise


def _sound(source: _Source, scratch: Path, *, channel: int | None = None) -> _Sound:
    """Decode the span's audio at the container's sample rate, as stereo at most, or a single channel of it.

    More than two channels are mixed down to stereo, unless that cancels out the loudest of them.
    """
    rate, channels = source.audio.rate, 1 if channel is not None else min(source.audio.channels or 2, 2)
    raw, wav = scratch / "sound.f32", scratch / "sound.wav"
    opened = ffmpeg.source(source.path, audio_codec=source.audio.codec, **source.seek)
    later = source.end + timeline.AGREE_SECONDS
    heard = opened[str(source.audio.index)].filter("ashowinfo").filter("atrim", start=source.begin, end=later)
    heard = heard.filter("asetpts", f"PTS-{source.begin}/TB")
    if channel is not None:
        heard = heard.filter("channelmap", map=str(channel), channel_layout="mono")
    elif source.audio.channels > 2:
        heard = heard.filter("astats", measure_perchannel="RMS_level", measure_overall="none")
    heard = heard.filter("aresample", str(rate)).filter("ashowinfo")
    samples = ffmpeg.sink(heard, path=raw, acodec="pcm_f32le", ar=rate, ac=channels, format="f32le")
    told = ffmpeg.run(samples, timeout_seconds=source.timeout_seconds)
    decoded, blocks = messages.blocks(told), messages.blocks(told, second=True)
    pieces = timeline.arrange(blocks, end=round(source.seconds * rate))
    if not pieces:
        raise _nothing_heard(source, told)
    if raw.stat().st_size != sum(block.length for block in blocks) * channels * 4:
        raise OutOfSyncError("ffmpeg wrote another number of sound samples than it reported")
    track = timeline.write_wav(raw, wav, pieces, rate=rate, channels=channels)
    raw.unlink()
    levels = messages.levels_db(told) if len({block.channels for block in decoded}) == 1 else []
    if levels and max(track.levels_db) < max(levels) - CANCELLED_DB:
        return _sound(source, scratch, channel=levels.index(max(levels)))
    return _Sound(
        wav=wav,
        seconds=track.samples / rate,
        times=[block.seconds for block in blocks],
        channel=MIX if channel is None else str(channel),
        decoded=len(decoded),
        messages=told,
    )


def _nothing_heard(source: _Source, told: str) -> MediaError:
    """The reason for a span without audio."""
    if errors := messages.decode_errors(told):
        return MediaError(f"none of its sound in the span can be decoded ({errors} errors)")
    if spans(source.path)[1] is None:
        return NoSoundError("its sound stream holds no samples")
    return EmptySpanError(f"the sound covers 0.00 s of the {source.seconds:g} s requested")


def _picture(source: _Source, wav: Path, out: Path, *, rate: Fraction) -> str:
    """Encode the span's picture together with the decoded audio; returns ffmpeg's messages.

    Raises EmptySpanError if no frame is shown in the span.
    """
    opened = ffmpeg.source(source.path, **source.seek)
    shown = (
        opened[str(source.video.index)]
        .filter("showinfo", checksum=0)
        .filter("fps", fps=f"{rate.numerator}/{rate.denominator}", start_time=source.begin)
        .filter("trim", end=source.end)
        .filter("setpts", "PTS-STARTPTS")
    )
    even = stills(shown).filter("crop", "trunc(iw/2)*2", "trunc(ih/2)*2", 0, 0)
    if source.video.transfer:
        even = hdr.to_sdr(even, source.video.transfer)
    output = ffmpeg.sink(
        even.filter("format", "yuv420p"),
        builder.input(ffmpeg.word_of(wav), format="wav")["0"],
        path=out,
        vcodec="libx264",
        preset="veryfast",
        crf=18,
        acodec="aac",
        audio_bitrate="192k",
        movflags="+faststart",
        format="mp4",
    )
    try:
        return ffmpeg.run(output, timeout_seconds=source.timeout_seconds)
    except ffmpeg.FailedError as error:
        if messages.decode_errors(error.messages, "v") or _in_span(source, messages.frames(error.messages)):
            raise
        raise EmptySpanError("there is no frame in the span") from error


def _in_span(source: _Source, frames: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The frames shown in the span, each until the next one."""
    ordered = sorted(frames)
    ends = [start for start, _ in ordered[1:]] + [end for _, end in ordered[-1:]]
    return [
        (start, end) for (start, _), end in zip(ordered, ends, strict=True) if start < source.end and end > source.begin
    ]


def _shown_and_heard(source: _Source, sound: _Sound, told: str) -> tuple[list[tuple[float, float]], ...]:
    """The frames and audio blocks decoded in the span."""
    blocks = [(start, end) for start, end in sound.times if start < source.seconds]
    return _in_span(source, messages.frames(told)), blocks


def _whole(source: _Source, sound: _Sound, told: str, *, rate: Fraction) -> bool:
    """Whether picture and audio fill the span without gaps.

    Some demuxers (Matroska) silently skip what they cannot read, be it damage or a momentary failure of the disk.
    """
    frames, blocks = _shown_and_heard(source, sound, told)
    longest = max(2.5 / float(rate), 0.1)
    for times, begin, end in ((frames, source.begin, source.end), (blocks, 0.0, source.seconds)):
        starts = [start for start, _ in times]
        steps = [later - sooner for sooner, later in itertools.pairwise([begin, *starts[1:], end])]
        if not times or times[0][0] > begin + longest or max(steps) > longest:
            return False
    return True


def _shown(source: _Source) -> bool:
    """Whether any frame is shown in the span."""
    picture = ffmpeg.source(source.path, **source.seek)[str(source.video.index)].filter("trim", end=source.end)
    output = ffmpeg.sink(picture.filter("showinfo", checksum=0), path=source.path.with_name("none"), format="null")
    frames = messages.frames(ffmpeg.run(output, timeout_seconds=source.timeout_seconds))
    return bool(_in_span(source, frames))


def _steady(source: _Source, scratch: Path, told: str) -> _Source:
    """A lossless copy of a picture whose size or format changes, scaled to its first size.

    ffmpeg rebuilds its filters at each change, and those that count from the span's start would restart.
    """
    size = messages.size(told)
    if size is None:
        raise MediaError(f"ffmpeg {ffmpeg.version()} reported no output size: {ffmpeg.last_words(told)}")
    width, height = size
    copy = scratch / "steady.mkv"
    picture = (
        ffmpeg.source(source.path, **source.seek)[str(source.video.index)]
        .filter("trim", start=source.begin - LONGEST_SECONDS, end=source.end)
        .filter("setpts", f"PTS+{FAR_SECONDS}/TB")
        .filter("scale", width, height, force_original_aspect_ratio="decrease", flags=ffmpeg.BIT_EXACT_SCALE)
        .filter("pad", width, height, -1, -1)
        .filter("setsar", source.video.sample_aspect)
    )
    if source.video.transfer:
        picture = hdr.to_sdr(picture, source.video.transfer)
    lossless: dict[str, str | float] = {"vcodec": "libx264", "preset": "ultrafast", "qp": 0, "fps_mode": "passthrough"}
    output = ffmpeg.sink(picture.filter("format", "yuv420p"), path=copy, format="matroska", **lossless)
    ffmpeg.run(output, timeout_seconds=source.timeout_seconds)
    found, first = probe(copy), spans(copy)[0]
    if found.video is None or first is None:
        raise MediaError("no frame of its picture stream can be decoded")
    begin = source.begin + FAR_SECONDS - first.first_seconds  # ffmpeg counts a file's times from its first
    video = dataclasses.replace(found.video, transfer="")
    return dataclasses.replace(source, path=copy, video=video, seek={}, begin=begin)


def _finished(source: _Source, sound: _Sound, out: Path, *, rate: Fraction, told: str, again: str) -> Measured:
    """Measure the finished file, and report the properties of the source; raises OutOfSyncError if they differ.

    `told`: messages of decoding the source's picture; `again`: messages of encoding it.
    """
    frames = messages.frames(told)
    made, (video, packets) = probe(out), spans(out)
    if video is None or packets is None or made.video is None or made.audio is None:
        raise EmptySpanError("there is no frame in the span")
    heard = measure_audio(out, made.audio, timeout_seconds=source.timeout_seconds)
    _check(source, sound, video, heard, frames=frames, rate=rate)
    begin, end = source.begin, source.end
    first = max(min(start for start, _ in frames), begin) - begin
    return Measured(
        video=dataclasses.replace(video, covered_seconds=covered(frames, begin=begin, end=end)),
        audio=Span(
            count=len(heard.blocks),
            first_seconds=heard.times[0][0],
            last_seconds=heard.times[-1][1],
            covered_seconds=covered(sound.times, begin=0, end=source.seconds),
        ),
        width=made.video.width,
        height=made.video.height,
        fps=float(rate),
        audio_rms_db=heard.level_db,
        audio_channel=heard.channel if sound.channel == MIX else sound.channel,
        audio_offset_seconds=max(sound.times[0][0], 0.0) - first,
        still_seconds=messages.still_seconds(again, end=video.last_seconds),
        rotation=messages.rotation(told, source.video.index),
        **damage(told, sound.messages, frames=len(frames), blocks=sound.decoded),
    )


def _check(
    source: _Source,
    sound: _Sound,
    video: Span,
    heard: AudioMeasurement,
    *,
    frames: Sequence[tuple[float, float]],
    rate: Fraction,
) -> None:
    """Raise OutOfSyncError unless both streams start at 0 and end with the source's, and the audio has no gap."""
    frame = float(1 / rate)
    shown = _in_span(source, frames)
    last, end = shown[-1] if shown else (source.begin, source.begin)
    earliest = min(max(last - source.begin, 0.0) + frame, source.seconds)
    latest = min(max(end - source.begin, earliest), source.seconds)
    near = max(frame, ENDS_SECONDS)
    if abs(video.first_seconds) > frame or not earliest - near <= video.last_seconds <= latest + near:
        raise OutOfSyncError(
            f"the picture is from {video.first_seconds:.3f} to {video.last_seconds:.3f} s in the finished file, and ends "
            f"at {latest:.3f} s in the source"
        )
    first, last = (heard.times[0][0], heard.times[-1][1]) if heard.blocks else (0.0, 0.0)
    samples = sum(block.length / block.rate for block in heard.blocks)
    if max(abs(first), abs(last - sound.seconds), abs(samples - sound.seconds)) > STEP_SECONDS:
        raise OutOfSyncError(
            f"the sound is from {first:.3f} to {last:.3f} s in the finished file, {samples:.3f} s of it, and is "
            f"{sound.seconds:.3f} s long in the source"
        )
