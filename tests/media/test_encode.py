import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import decode, encode, ffmpeg, probe, synthesize
from kinetics_sounds.media.encode import GOP, SAMPLE_RATE, Encoded, Encoding
from kinetics_sounds.media.ffmpeg import TimedOutError

from .conftest import BEEP_SECONDS, beep_seconds, tool


def encoded(path: Path, scratch: Path, **settings: float | str) -> Encoded:
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
        ((512, 32), (2048, 128)),
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


@pytest.mark.parametrize("codec", ["h264", "jpeg"])
def test_a_frame_that_nobody_would_read_again_is_too_large(
    ramp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    """64 x 48 to a short side of 32 is 44 x 32."""
    monkeypatch.setattr(encode, "MAX_PIXELS", 44 * 32)
    assert encoded(ramp, tmp_path, short_side=32, codec=codec).num_frames == 80
    monkeypatch.setattr(encode, "MAX_PIXELS", 44 * 32 - 1)

    with pytest.raises(ffmpeg.TooLargeError, match="its frames would be 44 x 32, more than 1407 pixels"):
        encoded(ramp, tmp_path, short_side=32, codec=codec)


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


def test_codes_are_those_that_decode_fast(made: Encoded, tmp_path: Path) -> None:
    (tmp_path / "stored.mp4").write_bytes(made.mp4)
    argv = [
        ffmpeg.executable(),
        "-i",
        str(tmp_path / "stored.mp4"),
        "-c",
        "copy",
        "-bsf:v",
        "trace_headers",
        "-f",
        "null",
        "-",
    ]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stderr

    assert re.findall(r"entropy_coding_mode_flag\s+(\d)", said) == ["0"] * said.count("entropy_coding_mode_flag")
    assert "entropy_coding_mode_flag" in said


def dot(path: Path) -> None:
    """128 x 128, dark but for a white square of 4 x 4 pixels, which is one pixel of 32 x 32: that in row and column 16."""
    picture = np.full((128, 128, 3), 40, np.uint8)
    picture[64:68, 64:68] = 240
    silence = np.zeros(8000, np.float32)
    synthesize.write_mp4(path, np.broadcast_to(picture, (5, 128, 128, 3)), silence, fps=10, sample_rate=16_000, crf=1)


def test_a_small_pixel_is_the_mean_of_those_that_it_covers(tmp_path: Path) -> None:
    """Other ways to shrink let a pixel's neighbours have a part in it."""
    dot(tmp_path / "dot.mp4")
    made = encoded(tmp_path / "dot.mp4", tmp_path, short_side=32, codec="jpeg", quality=100)
    grey = decode.decode_jpegs(made.jpegs[:1])[0].mean(axis=2)

    assert grey[16, 16] > 200
    grey[16, 16] = 40
    assert np.abs(grey - 40).max() < 12


def test_another_rate_can_be_asked_for(ramp: Path, tmp_path: Path) -> None:
    made = encoded(ramp, tmp_path, max_fps=5)

    assert made.fps == 5
    assert made.num_frames == 40


# --- JPEGs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jpegs(ramp: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    return encoded(ramp, tmp_path_factory.mktemp("jpegs"), codec="jpeg")


def test_every_frame_is_a_jpeg_in_its_place(jpegs: Encoded) -> None:
    shown = decode.decode_jpegs(jpegs.jpegs)

    assert shown.shape == (80, 128, 172, 3)
    assert [round((float(picture.mean()) - 8) / 3) for picture in shown] == list(range(80))
    assert (jpegs.num_frames, jpegs.mp4) == (80, b"")


def test_jpegs_are_baseline_with_colours_at_half_the_size(jpegs: Encoded) -> None:
    """A frame header (SOF0) of 8 bits: three components, the first of 2 x 2 samples where the others have one."""
    for jpeg in jpegs.jpegs:
        head = jpeg[jpeg.index(b"\xff\xc0") :]
        assert head[4] == 8
        assert (int.from_bytes(head[5:7]), int.from_bytes(head[7:9])) == (128, 172)
        assert [head[10 + 3 * component + 1] for component in range(head[9])] == [0x22, 0x11, 0x11]


def test_the_sound_beside_jpegs_is_the_same(made: Encoded, jpegs: Encoded) -> None:
    assert jpegs.flac == made.flac


def test_a_higher_quality_is_larger_and_nearer(tmp_path: Path) -> None:
    path, sizes, away = tmp_path / "noise.mp4", [], []
    film("testsrc2=size=96x64:rate=10", path)
    best = decode.decode_jpegs(encoded(path, tmp_path, codec="jpeg", quality=100).jpegs).astype(float)
    for quality in (50, 75, 90):
        made = encoded(path, tmp_path, codec="jpeg", quality=quality)
        sizes.append(sum(map(len, made.jpegs)))
        away.append(float(np.abs(decode.decode_jpegs(made.jpegs) - best).mean()))

    assert sizes == sorted(sizes)
    assert away == sorted(away, reverse=True)


@pytest.mark.parametrize("colours", ["bt709", "smpte170m"])
def test_jpegs_have_the_source_s_colours(tmp_path: Path, colours: str) -> None:
    """Pure red, green and blue, written as YUV in either of the two ways that videos have."""
    for name, rgb in {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}.items():
        path = tmp_path / f"{name}.mp4"
        tags = ("-colorspace", colours, "-color_primaries", colours, "-color_trc", colours, "-color_range", "tv")
        film(f"color={name}:size=64x64:rate=10", path, "-vf", f"scale=out_color_matrix={colours}", *tags)
        shown = decode.decode_jpegs(encoded(path, tmp_path, codec="jpeg").jpegs)

        assert np.abs(shown.astype(float) - rgb).max() < 8


def film(source: str, path: Path, *options: str) -> None:
    tone = ("-f", "lavfi", "-i", "sine=frequency=300:sample_rate=24000")
    tool("-f", "lavfi", "-i", source, *tone, *options, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-t", 1, path)


# --- Without the loop filter ----------------------------------------------------------------------------------------


def test_a_fast_decode_shows_nearly_the_same(tmp_path: Path) -> None:
    film("testsrc2=size=256x256:rate=10", tmp_path / "coarse.mp4", "-crf", "40")
    exact, fast = (encoded(tmp_path / "coarse.mp4", tmp_path, codec="jpeg", fast_decode=skip) for skip in (False, True))
    away = np.square(decode.decode_jpegs(exact.jpegs).astype(float) - decode.decode_jpegs(fast.jpegs)).mean()

    assert fast.flac == exact.flac
    assert 25 < 10 * np.log10(255**2 / away) < 60


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


def test_nothing_after_the_most_seconds_is_kept(ramp: Path, tmp_path: Path, made: Encoded) -> None:
    """Else 1,500 seconds of silence would stand before the sound that says it comes so late."""
    late = "setts=ts='if(gt(N,200),TS+1500/TB,TS)'"  # 200 packets of 1,024 samples at 44.1 kHz: 4.6 s
    tool("-i", ramp, "-c", "copy", "-bsf:a", late, tmp_path / "late.mkv")
    named = {"found": probe.probe(tmp_path / "late.mkv"), "scratch": tmp_path, "encoding": Encoding()}

    bounded = encode.encode(tmp_path / "late.mkv", **named, timeout_seconds=30, most_seconds=10)  # type: ignore[arg-type]

    assert bounded.num_frames == made.num_frames == 80
    assert bounded.waveform.size / SAMPLE_RATE == pytest.approx(4.7, abs=0.1)


def test_a_bound_past_its_end_changes_no_byte(ramp: Path, tmp_path: Path, made: Encoded) -> None:
    named = {"found": probe.probe(ramp), "scratch": tmp_path, "encoding": Encoding()}

    bounded = encode.encode(ramp, **named, timeout_seconds=30, most_seconds=10)  # type: ignore[arg-type]

    assert (bounded.mp4, bounded.flac) == (made.mp4, made.flac)


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


@pytest.mark.parametrize(
    ("codec", "how"),
    [
        ("aac", {}),
        ("libmp3lame", {}),
        ("ac3", {}),
        ("mp2", {}),
        ("flac", {}),
        ("aac", {"short_side": 32}),
        ("aac", {"short_side": 26}),
        ("aac", {"codec": "jpeg"}),
        ("aac", {"codec": "jpeg", "short_side": 26}),
        ("aac", {"fast_decode": True, "short_side": 26}),
    ],
    ids=str,
)
def test_the_bytes_are_the_same_on_any_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, how: dict[str, Any]
) -> None:
    """ffmpeg's own code for this processor, and its plain C code, which every processor runs alike."""
    channels = 2 if codec in {"libmp3lame", "mp2"} else 6
    source, plain = tmp_path / "source.mkv", tmp_path / "plain_ffmpeg"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=10")
    melody = ("-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*(200+100*floor(t))*t)':sample_rate=44100")
    tool(*picture, *melody, "-c:v", "libx264", "-c:a", codec, "-ac", channels, "-t", 3, source)
    plain.write_text(f'#!/bin/sh\nexec {ffmpeg.executable()} -cpuflags 0 "$@"\n')
    plain.chmod(0o755)

    here = encoded(source, tmp_path, **how)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(plain))
    anywhere = encoded(source, tmp_path, **how)

    assert np.abs(here.waveform).max() > 0.05
    assert np.array_equal(here.waveform, anywhere.waveform)
    assert here.flac == anywhere.flac
    assert here.mp4 == anywhere.mp4
    assert here.jpegs == anywhere.jpegs


def test_a_jpeg_s_bytes_are_the_same_without_vector_code() -> None:
    code = """
import hashlib, numpy, simplejpeg
rgb_HWC = numpy.random.default_rng(0).integers(0, 256, (128, 172, 3), dtype=numpy.uint8)
jpeg = simplejpeg.encode_jpeg(rgb_HWC, quality=90, colorsubsampling="420", fastdct=False)
print(hashlib.sha256(jpeg).hexdigest())
"""
    argv = [sys.executable, "-c", code]
    ways: tuple[dict[str, str], ...] = ({}, {"JSIMD_FORCENONE": "1"}, {"JSIMD_FORCESSE2": "1"})

    assert (
        len({subprocess.run(argv, check=True, capture_output=True, env=os.environ | way).stdout for way in ways}) == 1
    )


def test_the_recipe_says_what_decides_the_bytes_and_no_more() -> None:
    h264, jpeg = Encoding(), Encoding(codec="jpeg")

    assert encode.recipe(h264) == encode.recipe(dataclasses.replace(h264, quality=5))
    assert encode.recipe(jpeg) == encode.recipe(dataclasses.replace(jpeg, crf=5, preset="slow"))
    others = [
        dataclasses.replace(h264, short_side=256),
        dataclasses.replace(h264, max_fps=15.0),
        dataclasses.replace(h264, crf=5),
        dataclasses.replace(h264, preset="slow"),
        dataclasses.replace(h264, fast_decode=True),
        dataclasses.replace(jpeg, quality=5),
    ]
    assert len({json.dumps(encode.recipe(each)) for each in (h264, jpeg, *others)}) == 2 + len(others)


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


def alone(path: Path, scratch: Path, modality: encode.Modality, **settings: Any) -> Encoded:
    found, how = probe.probe(path), Encoding(**settings)
    return encode.encode(path, found=found, scratch=scratch, encoding=how, timeout_seconds=30, modality=modality)


@pytest.mark.parametrize("codec", ["h264", "jpeg"])
def test_a_picture_alone_is_that_of_both(ramp: Path, tmp_path: Path, codec: str) -> None:
    both, found = encoded(ramp, tmp_path, codec=codec), alone(ramp, tmp_path, "video", codec=codec)

    assert (found.mp4, found.jpegs, found.fps) == (both.mp4, both.jpegs, both.fps)
    assert (found.num_frames, found.decoded_frames) == (both.num_frames, both.decoded_frames)
    assert (found.flac, found.waveform.size) == (b"", 0)


def test_a_sound_alone_is_that_of_both(ramp: Path, made: Encoded, tmp_path: Path) -> None:
    found = alone(ramp, tmp_path, "audio")

    assert found.flac == made.flac
    np.testing.assert_array_equal(found.waveform, made.waveform)
    assert (found.mp4, found.jpegs, found.num_frames) == (b"", (), 0)


def test_what_a_file_lacks_is_named(tmp_path: Path) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.zeros(8_000), 8_000)

    assert alone(wav, tmp_path, "audio").waveform.size == SAMPLE_RATE
    with pytest.raises(MediaError, match="a picture is needed to make a sample"):
        alone(wav, tmp_path, "video")
    with pytest.raises(MediaError, match="picture and sound are needed to make a sample"):
        alone(wav, tmp_path, "both")
