import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import encode, ffmpeg, probe
from kinetics_sounds.media.encode import GOP, SAMPLE_RATE, Encoded, Encoding
from kinetics_sounds.media.ffmpeg import TimedOutError

from .conftest import BEEP_SECONDS, beep_seconds, tool


def encoded(path: Path, scratch: Path, **settings: float) -> Encoded:
    encoding = Encoding(**settings)  # type: ignore[arg-type]
    return encode.encode(path, found=probe.probe(path), scratch=scratch, encoding=encoding, timeout_seconds=30)


def greys(made: Encoded) -> list[int]:
    """Which frame of the ramp each stored frame shows."""
    with av.open(io.BytesIO(made.mp4), "r") as container:
        return [round((float(frame.to_ndarray(format="rgb24").mean()) - 8) / 3) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def made(ramp: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    return encoded(ramp, tmp_path_factory.mktemp("made"))


# --- Picture --------------------------------------------------------------------------------------------------------


def test_every_frame_is_kept_in_its_place(made: Encoded) -> None:
    assert greys(made) == list(range(80))
    assert made.num_frames == 80
    assert made.fps == 10


def test_every_16_frames_begin_with_a_keyframe_and_there_are_no_b_frames(made: Encoded) -> None:
    with av.open(io.BytesIO(made.mp4), "r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        container.seek(0)
        kinds = [av.video.frame.PictureType(frame.pict_type).name for frame in container.decode(video=0)]

    assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == [0, 16, 32, 48, 64]
    assert [number for number, kind in enumerate(kinds) if kind == "I"] == [0, 16, 32, 48, 64]
    assert set(kinds) == {"I", "P"}
    assert all(packet.pts == packet.dts for packet in packets)
    assert [float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None] == pytest.approx(
        np.arange(80) / 10
    )


def test_a_cut_in_the_picture_adds_no_keyframe(ramp: Path, tmp_path: Path) -> None:
    tool("-i", ramp, "-t", 2, "-vf", "negate=enable='gte(n,5)'", "-c:a", "copy", tmp_path / "cuts.mp4")
    made = encoded(tmp_path / "cuts.mp4", tmp_path)

    with av.open(io.BytesIO(made.mp4), "r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == [0, 16]


@pytest.mark.parametrize("first", range(0, 80, GOP))
def test_a_group_decodes_alone(made: Encoded, first: int) -> None:
    """Its 16 packets, given to a fresh decoder, give the same pictures as the whole."""
    with av.open(io.BytesIO(made.mp4), "r") as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        container.seek(0)
        packets = [packet for packet in container.demux(video=0) if packet.size][first : first + GOP]
        decoder = av.CodecContext.create("h264", "r")
        assert isinstance(decoder, av.VideoCodecContext)
        decoder.extradata = container.streams.video[0].codec_context.extradata
        alone = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)

    assert len(alone) == GOP
    for frame, expected in zip(alone, whole[first:], strict=False):
        assert np.array_equal(frame.to_ndarray(format="rgb24"), expected)


@pytest.mark.parametrize(
    ("shape", "stored"),
    [
        ((64, 48), (172, 128)),  # 128 x 4 / 3 = 170.7
        ((64, 36), (228, 128)),  # 128 x 16 / 9 = 227.6
        ((48, 64), (128, 172)),
        ((36, 64), (128, 228)),
        ((50, 50), (128, 128)),
        ((256, 128), (256, 128)),
        ((1024, 16), (8192, 128)),
    ],
)
def test_the_short_side_is_128_and_the_long_one_even(
    ramp: Path, tmp_path: Path, shape: tuple[int, int], stored: tuple[int, int]
) -> None:
    tool("-i", ramp, "-t", 0.2, "-vf", f"scale={shape[0]}:{shape[1]},setsar=1", "-c:a", "copy", tmp_path / "source.mp4")

    video = mp4_video(encoded(tmp_path / "source.mp4", tmp_path), tmp_path)
    assert (video.width, video.height) == stored


def mp4_video(made: Encoded, scratch: Path) -> probe.Video:
    (scratch / "stored.mp4").write_bytes(made.mp4)
    video = probe.probe(scratch / "stored.mp4").video
    assert video is not None
    return video


def test_oblong_pixels_become_square(ramp: Path, tmp_path: Path) -> None:
    """64 x 48 of pixels twice as wide as high is 8:3, and 128 x 8 / 3 = 341.3."""
    tool("-i", ramp, "-t", 0.2, "-vf", "setsar=2", "-c:a", "copy", tmp_path / "oblong.mp4")
    made = encoded(tmp_path / "oblong.mp4", tmp_path)

    with av.open(io.BytesIO(made.mp4), "r") as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (342, 128)
        assert stream.sample_aspect_ratio == 1


def test_a_rotated_video_is_stored_upright(ramp: Path, tmp_path: Path) -> None:
    tool("-display_rotation", 90, "-i", ramp, "-c", "copy", tmp_path / "turned.mp4")

    video = mp4_video(encoded(tmp_path / "turned.mp4", tmp_path), tmp_path)
    assert (video.width, video.height) == (128, 172)


def test_another_size_can_be_asked_for(ramp: Path, tmp_path: Path) -> None:
    video = mp4_video(encoded(ramp, tmp_path, short_side=32), tmp_path)

    assert (video.width, video.height) == (44, 32)


@pytest.mark.parametrize(
    ("source", "stored"),
    [("10", Fraction(10)), ("30000/1001", Fraction(30_000, 1001)), ("30", Fraction(30)), ("60", Fraction(30))],
)
def test_the_rate_is_constant_and_the_source_s_own_up_to_30(
    ramp: Path, tmp_path: Path, source: str, stored: Fraction
) -> None:
    tool("-i", ramp, "-t", 1, "-r", source, "-c:a", "copy", tmp_path / "source.mp4")
    made = encoded(tmp_path / "source.mp4", tmp_path)

    assert made.fps == stored
    assert made.num_frames == round(stored)
    with av.open(io.BytesIO(made.mp4), "r") as container:
        times = [float(frame.time) for frame in container.decode(video=0) if frame.time is not None]
    assert times == pytest.approx(np.arange(made.num_frames) / float(stored), abs=1e-4)


def test_another_rate_can_be_asked_for(ramp: Path, tmp_path: Path) -> None:
    made = encoded(ramp, tmp_path, max_fps=5)

    assert made.fps == 5
    assert made.num_frames == 40


# --- Sound ----------------------------------------------------------------------------------------------------------


def test_the_flac_is_24_khz_mono_and_is_the_waveform(made: Encoded) -> None:
    stored, rate = soundfile.read(io.BytesIO(made.flac), dtype="float32")
    facts = soundfile.info(io.BytesIO(made.flac))

    assert (rate, facts.channels, facts.subtype) == (SAMPLE_RATE, 1, "PCM_16")
    assert made.waveform.dtype == np.float32
    assert np.array_equal(stored, made.waveform)


def test_the_sound_is_the_clip_s(made: Encoded) -> None:
    assert made.waveform.size == pytest.approx(8 * SAMPLE_RATE, abs=SAMPLE_RATE / 10)
    assert beep_seconds(made.waveform, SAMPLE_RATE) == pytest.approx(BEEP_SECONDS, abs=0.005)
    inside = made.waveform[round(3.1 * SAMPLE_RATE) : round(3.4 * SAMPLE_RATE)]
    spectrum = np.abs(np.fft.rfft(inside))
    assert spectrum.argmax() * SAMPLE_RATE / inside.size == pytest.approx(1000, abs=5)
    assert np.sqrt(np.mean(inside**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("channels", [2, 6])
def test_many_channels_become_one(ramp: Path, tmp_path: Path, channels: int) -> None:
    tool("-i", ramp, "-t", 4, "-c:v", "copy", "-ac", channels, tmp_path / "wide.mp4")
    made = encoded(tmp_path / "wide.mp4", tmp_path)

    assert made.waveform.ndim == 1
    assert beep_seconds(made.waveform, SAMPLE_RATE) == pytest.approx(BEEP_SECONDS, abs=0.005)


def test_sound_that_starts_late_is_silence_before(ramp: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.mp4"
    tool("-i", ramp, "-itsoffset", 1.5, "-i", ramp, "-map", "0:v", "-map", "1:a", "-c", "copy", late)
    made = encoded(late, tmp_path)

    assert np.abs(made.waveform[: round(1.4 * SAMPLE_RATE)]).max() == 0
    assert beep_seconds(made.waveform, SAMPLE_RATE)[0] == pytest.approx(4.5, abs=0.005)


def test_a_picture_that_starts_late_shows_its_first_frame_before(ramp: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.mp4"
    tool("-itsoffset", 1, "-i", ramp, "-i", ramp, "-map", "0:v", "-map", "1:a", "-t", 3, "-c", "copy", late)
    made = encoded(late, tmp_path)

    assert greys(made)[:12] == [0] * 11 + [1]
    assert made.waveform.size == pytest.approx(3 * SAMPLE_RATE, abs=SAMPLE_RATE / 10)


# --- Both -----------------------------------------------------------------------------------------------------------


def test_the_bytes_are_the_same_every_time(ramp: Path, made: Encoded, tmp_path: Path) -> None:
    (tmp_path / "other name.mp4").write_bytes(ramp.read_bytes())
    again = encoded(tmp_path / "other name.mp4", tmp_path)

    assert again.mp4 == made.mp4
    assert again.flac == made.flac


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "ac3", "mp2", "flac"])
def test_the_bytes_are_the_same_on_any_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str) -> None:
    """ffmpeg's own code for this processor, and its plain C code, which every processor runs alike."""
    channels = 2 if codec in {"libmp3lame", "mp2"} else 6
    source, plain = tmp_path / "source.mkv", tmp_path / "plain_ffmpeg"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=10")
    melody = ("-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*(200+100*floor(t))*t)':sample_rate=44100")
    tool(*picture, *melody, "-c:v", "libx264", "-c:a", codec, "-ac", channels, "-t", 3, source)
    plain.write_text(f'#!/bin/sh\nexec {ffmpeg.executable()} -cpuflags 0 "$@"\n')
    plain.chmod(0o755)

    here = encoded(source, tmp_path)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(plain))
    anywhere = encoded(source, tmp_path)

    assert np.abs(here.waveform).max() > 0.05
    assert np.array_equal(here.waveform, anywhere.waveform)
    assert here.flac == anywhere.flac
    assert here.mp4 == anywhere.mp4


def test_a_missing_stream_is_an_error(silent_film: Path, song: Path, tmp_path: Path) -> None:
    for path in (silent_film, song):
        with pytest.raises(MediaError, match="picture and sound are needed"):
            encoded(path, tmp_path)


def test_a_clip_that_does_not_decode_is_an_error(ramp: Path, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(np.random.default_rng(0).bytes(10_000))

    with pytest.raises(MediaError, match="ended with"):
        encode.encode(garbage, found=probe.probe(ramp), scratch=tmp_path, encoding=Encoding(), timeout_seconds=20)


def test_the_wall_clock_holds(ramp: Path, found: probe.Probe, tmp_path: Path) -> None:
    with pytest.raises(TimedOutError):
        encode.encode(ramp, found=found, scratch=tmp_path, encoding=Encoding(), timeout_seconds=0.001)
