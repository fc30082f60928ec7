import dataclasses
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import pytest
import soundfile

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import ffmpeg, messages, probe, synthesize, trim
from kinetics_sounds.media import measure as measuring
from kinetics_sounds.media.ffmpeg import TimedOutError, TooLargeError
from kinetics_sounds.media.measure import Measured

from .conftest import BEEP_SECONDS, FPS, RATE, beep, beep_seconds, grey_ramp, numbers, pictures, sound, tool


def cut(path: Path, out: Path, start: float, seconds: float) -> Measured:
    return trim.cut(path, out, found=probe.probe(path), start_seconds=start, seconds=seconds, timeout_seconds=30)


def measure(path: Path, scratch: Path) -> Measured:
    return measuring.measure(path, found=probe.probe(path), scratch=scratch, timeout_seconds=30)


# --- A cut is exact -------------------------------------------------------------------------------------------------


def test_a_cut_shows_its_span_and_nothing_else(ramp: Path, tmp_path: Path) -> None:
    """Seconds 2 to 5 of 10 frames a second are frames 20 to 49; the beep, from 3.0 s, is heard from 1.0 s."""
    measured = cut(ramp, tmp_path / "cut.mp4", 2, 3)

    assert numbers(tmp_path / "cut.mp4") == list(range(20, 50))
    assert [time for time, _ in pictures(tmp_path / "cut.mp4")] == pytest.approx(np.arange(30) / 10)
    assert beep_seconds(*sound(tmp_path / "cut.mp4")) == pytest.approx((1.0, 1.5), abs=0.005)
    assert (measured.width, measured.height, measured.fps) == (64, 48, 10)
    assert (measured.video.count, measured.video.first_seconds, measured.video.last_seconds) == (30, 0, 3)
    assert measured.audio is not None
    assert measured.audio.first_seconds == pytest.approx(0, abs=0.03)
    assert measured.audio.last_seconds == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("start", [0, 0.1, 2.95, 4.9, 5, 5.1, 6.5])
def test_a_cut_begins_at_its_frame_wherever_the_keyframes_are(ramp: Path, tmp_path: Path, start: float) -> None:
    measured = cut(ramp, tmp_path / "cut.mp4", start, 1)
    shown = numbers(tmp_path / "cut.mp4")

    assert len(shown) == measured.video.count == 10
    assert abs(shown[0] - start * FPS) <= 0.5
    assert np.diff(shown).tolist() == [1] * 9


def test_a_stream_copy_begins_two_seconds_before_its_span(ramp: Path, tmp_path: Path) -> None:
    """Why cuts are never copies: an edit list hides what lies between the keyframe and the span, and decord counts it."""
    tool("-ss", 2, "-i", ramp, "-t", 3, "-c", "copy", tmp_path / "copy.mp4")
    cut(ramp, tmp_path / "cut.mp4", 2, 3)
    copied, made = (decord.VideoReader(str(tmp_path / name)) for name in ("copy.mp4", "cut.mp4"))

    assert len(copied) > 50
    assert copied.get_frame_timestamp(0)[0] == -2
    assert len(made) == 30
    assert made.get_frame_timestamp(0)[0] == 0
    assert measure(tmp_path / "copy.mp4", tmp_path).video.count < 35  # our own decoding honours the list


def test_a_cut_has_the_same_bytes_every_time(ramp: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "x.mp4", tmp_path / "b" / "y.mp4"
    for out in (first, second):
        out.parent.mkdir()
        cut(ramp, out, 2, 1)

    assert first.read_bytes() == second.read_bytes()


def test_a_cut_can_be_played_before_it_is_all_there(ramp: Path, tmp_path: Path) -> None:
    cut(ramp, tmp_path / "cut.mp4", 2, 1)
    data = (tmp_path / "cut.mp4").read_bytes()

    assert data.index(b"moov") < data.index(b"mdat")


def test_titles_and_places_do_not_travel(ramp: Path, tmp_path: Path) -> None:
    tagged = tmp_path / "tagged.mp4"
    tool("-i", ramp, "-c", "copy", "-metadata", "title=secret-title", "-metadata", "location=+48.85+2.35/", tagged)
    cut(tagged, tmp_path / "cut.mp4", 2, 1)

    assert b"secret-title" in tagged.read_bytes()
    assert b"secret-title" not in (tmp_path / "cut.mp4").read_bytes()
    assert b"+48.85" not in (tmp_path / "cut.mp4").read_bytes()


# --- Odd sources ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.avi", "a.flv"])
def test_other_containers_are_cut_as_exactly(ramp: Path, tmp_path: Path, name: str) -> None:
    """MPEG-TS has no index: a seek into it lands past the keyframe that it needs."""
    codecs = ("-c:v", "mpeg4", "-q:v", 1, "-g", 50) if name == "a.avi" else ("-c", "copy")
    tool("-i", ramp, *codecs, tmp_path / name)
    measured = cut(tmp_path / name, tmp_path / "cut.mp4", 2, 3)
    shown = numbers(tmp_path / "cut.mp4")

    assert measured.video.count == 30
    assert (measured.video.first_seconds, measured.video.last_seconds) == (0, 3)
    assert abs(shown[0] - 20) <= 1
    assert abs(shown[-1] - 49) <= 1
    assert beep_seconds(*sound(tmp_path / "cut.mp4")) == pytest.approx((1.0, 1.5), abs=0.03)


def test_a_transport_stream_is_cut_late_in_it(tmp_path: Path) -> None:
    """Past ten seconds ffmpeg takes a shift of the time stamps for a fault and undoes it."""
    levels = np.repeat(grey_ramp(15), 10, axis=0)  # second n shows frame n of the ramp
    synthesize.write_mp4(tmp_path / "long.mp4", levels, beep(15, RATE), fps=FPS, sample_rate=RATE, crf=4)
    tool("-i", tmp_path / "long.mp4", "-c", "copy", tmp_path / "long.ts")

    cut(tmp_path / "long.ts", tmp_path / "cut.mp4", 12, 2)

    assert numbers(tmp_path / "cut.mp4") == [12] * 10 + [13] * 10


def test_a_short_transport_stream_is_cut_from_its_start(ramp: Path, tmp_path: Path) -> None:
    tool("-i", ramp, "-t", 1, "-crf", 4, tmp_path / "short.ts")
    measured = cut(tmp_path / "short.ts", tmp_path / "cut.mp4", 0, 10)

    assert numbers(tmp_path / "cut.mp4") == list(range(10))
    assert measured.video.first_seconds == 0


def test_odd_sizes_become_even(ramp: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.mp4"
    tool("-i", ramp, "-t", 1, "-vf", "scale=65:49", "-pix_fmt", "yuv444p", "-c:a", "copy", odd)
    found = probe.probe(odd).video
    measured = cut(odd, tmp_path / "cut.mp4", 0, 1)

    assert found is not None
    assert (found.width, found.height) == (65, 49)
    assert (measured.width, measured.height) == (64, 48)
    assert pictures(tmp_path / "cut.mp4")[0][1].shape == (48, 64, 3)


@pytest.mark.parametrize(("degrees", "white"), [(90, "bottom"), (-90, "top"), (180, "right")])
def test_a_rotated_video_comes_out_upright(tmp_path: Path, degrees: int, white: str) -> None:
    """The stored picture is white on the left; its matrix says to turn it counter-clockwise by so many degrees."""
    half = np.zeros((10, 48, 64, 3), np.uint8)
    half[:, :, :32] = 255
    synthesize.write_mp4(tmp_path / "half.mp4", half, beep(1, RATE), fps=FPS, sample_rate=RATE)
    turned = tmp_path / "turned.mp4"
    tool("-display_rotation", degrees, "-i", tmp_path / "half.mp4", "-c", "copy", turned)

    measured = cut(turned, tmp_path / "cut.mp4", 0, 1)
    decoded = measure(turned, tmp_path)
    picture = pictures(tmp_path / "cut.mp4")[5][1]

    size = (64, 48) if degrees == 180 else (48, 64)
    assert (measured.width, measured.height) == (decoded.width, decoded.height) == size
    assert measured.rotation == decoded.rotation == -degrees % 360  # clockwise
    bright = {
        "top": picture[: len(picture) // 2],
        "bottom": picture[len(picture) // 2 :],
        "left": picture[:, : picture.shape[1] // 2],
        "right": picture[:, picture.shape[1] // 2 :],
    }
    assert max(bright, key=lambda side: float(bright[side].mean())) == white
    assert bright[white].mean() > 240
    assert probe.probe(tmp_path / "cut.mp4").video == dataclasses.replace(
        probe.probe(turned).video or pytest.fail("no picture"), width=size[0], height=size[1]
    )


@pytest.mark.parametrize(("flip", "white"), [("-display_hflip", "right"), ("-display_vflip", "left")])
def test_a_mirrored_video_comes_out_as_it_is_meant(tmp_path: Path, flip: str, white: str) -> None:
    """The stored picture is white on the left."""
    half = np.zeros((10, 48, 64, 3), np.uint8)
    half[:, :, :32] = 255
    synthesize.write_mp4(tmp_path / "half.mp4", half, beep(1, RATE), fps=FPS, sample_rate=RATE)
    tool("-display_rotation", 0, flip, "-i", tmp_path / "half.mp4", "-c", "copy", tmp_path / "turned.mp4")
    cut(tmp_path / "turned.mp4", tmp_path / "cut.mp4", 0, 1)
    picture = pictures(tmp_path / "cut.mp4")[5][1]

    assert picture.shape == (48, 64, 3)
    assert (picture[:, :32].mean() > 240, picture[:, 32:].mean() > 240) == (white == "left", white == "right")


def test_only_the_matrix_of_the_chosen_picture_counts(ramp: Path, tmp_path: Path) -> None:
    tool("-display_rotation", 90, "-i", ramp, "-c", "copy", tmp_path / "turned.mp4")
    maps = ("-map", "0:v", "-map", "1:v", "-map", "0:a", "-c", "copy", "-disposition:v:0", "default")
    tool("-i", ramp, "-i", tmp_path / "turned.mp4", *maps, "-disposition:v:1", 0, tmp_path / "two.mp4")

    measured = measure(tmp_path / "two.mp4", tmp_path)

    assert (measured.width, measured.height, measured.rotation) == (64, 48, 0)


def test_of_several_streams_the_default_ones_are_cut(ramp: Path, tmp_path: Path) -> None:
    """The second picture is the ramp and the second sound is the beep; the first are grey and silent."""
    first = ("-f", "lavfi", "-i", "color=gray:size=640x480:rate=10", "-f", "lavfi", "-i", "anullsrc=r=44100:cl=mono")
    maps = ("-map", "0:v", "-map", "2:v", "-map", "1:a", "-map", "2:a", "-t", 8)
    marks = ("-disposition:v:0", 0, "-disposition:v:1", "default", "-disposition:a:0", 0, "-disposition:a:1", "default")
    tool(*first, "-i", ramp, *maps, "-c:v", "libx264", "-crf", 4, "-c:a", "aac", *marks, tmp_path / "two.mkv")

    cut(tmp_path / "two.mkv", tmp_path / "cut.mp4", 2, 3)

    assert numbers(tmp_path / "cut.mp4") == list(range(20, 50))
    assert beep_seconds(*sound(tmp_path / "cut.mp4")) == pytest.approx((1.0, 1.5), abs=0.03)


def test_a_fast_camera_is_brought_down_to_60(ramp: Path, tmp_path: Path) -> None:
    tool("-i", ramp, "-t", 1, "-r", 120, "-c:a", "copy", tmp_path / "fast.mp4")
    measured = cut(tmp_path / "fast.mp4", tmp_path / "cut.mp4", 0, 1)

    assert (measured.fps, measured.video.count) == (60, 60)


@pytest.mark.parametrize("claimed", [0, -1, 1000, 90_000])
def test_a_rate_that_cannot_be_is_counted_instead(ramp: Path, found: probe.Probe, claimed: int) -> None:
    assert found.video is not None
    assert probe.frame_rate(dataclasses.replace(found.video, fps=Fraction(claimed)), ramp) == 10


@pytest.mark.parametrize(
    ("claimed", "kept"),
    [
        (Fraction(30_000, 1001), Fraction(30_000, 1001)),
        (Fraction(60_000, 1001), Fraction(60_000, 1001)),
        (Fraction(61), Fraction(60)),
        (Fraction(1, 2), Fraction(1, 2)),
    ],
)
def test_a_rate_that_can_be_is_kept_up_to_60(ramp: Path, found: probe.Probe, claimed: Fraction, kept: Fraction) -> None:
    assert found.video is not None
    assert probe.frame_rate(dataclasses.replace(found.video, fps=claimed), ramp) == kept


def test_a_rate_of_a_stream_without_frames_is_an_error(song: Path, found: probe.Probe) -> None:
    assert found.video is not None
    with pytest.raises(MediaError, match="no frames"):
        probe.frame_rate(dataclasses.replace(found.video, fps=Fraction(0)), song)


@pytest.fixture(scope="module")
def uneven(ramp: Path) -> Path:
    """The ramp without frames 15 to 34: frame 14 is shown from 1.4 to 3.5 s."""
    out = ramp.with_name("uneven.mp4")
    tool("-i", ramp, "-vf", "select='not(between(n,15,34))'", "-fps_mode", "vfr", "-crf", 4, "-c:a", "copy", out)
    return out


def test_variable_rate_becomes_constant_and_a_frame_stays_while_it_is_shown(uneven: Path, tmp_path: Path) -> None:
    """60 frames in 8 s are 7.5 a second; a cut from 2.0 s begins with the frame of 1.4 s, which is shown until 3.5."""
    measured = cut(uneven, tmp_path / "cut.mp4", 2, 3)
    shown = numbers(tmp_path / "cut.mp4")
    times = np.array([time for time, _ in pictures(tmp_path / "cut.mp4")])

    assert measured.fps == 7.5
    assert times == pytest.approx(np.arange(len(shown)) / 7.5, abs=1e-3)
    assert measured.video.last_seconds == pytest.approx(3, abs=1 / 7.5)
    assert set(np.array(shown)[times < 1.4]) == {14}
    assert np.array(shown)[times > 1.6] == pytest.approx(10 * (2 + times[times > 1.6]), abs=1)
    assert beep_seconds(*sound(tmp_path / "cut.mp4")) == pytest.approx((1.0, 1.5), abs=0.005)


def test_measuring_a_variable_rate_counts_the_frames_that_there_are(uneven: Path, tmp_path: Path) -> None:
    measured = measure(uneven, tmp_path)

    assert measured.video.count == 60
    assert measured.fps == pytest.approx(7.5, abs=0.01)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_sound_that_starts_late_stays_with_the_picture(ramp: Path, tmp_path: Path, start: int) -> None:
    """The sound is put 1.5 s later, so the beep of 3.0 s is heard at 4.5 s of the video."""
    late = tmp_path / "late.mp4"
    tool("-i", ramp, "-itsoffset", 1.5, "-i", ramp, "-map", "0:v", "-map", "1:a", "-c", "copy", late)
    measured = cut(late, tmp_path / "cut.mp4", start, 4)
    waveform, rate = sound(tmp_path / "cut.mp4")

    assert numbers(tmp_path / "cut.mp4")[0] == 10 * start
    assert measured.audio is not None
    assert measured.audio.last_seconds == pytest.approx(4, abs=0.01)
    assert measured.audio_offset_seconds == pytest.approx(max(1.5 - start, 0), abs=0.03)
    if start:
        assert beep_seconds(waveform, rate)[0] == pytest.approx(4.5 - start, abs=0.005)
    else:
        assert np.abs(waveform[: round(1.4 * rate)]).max() == 0


def test_a_hole_in_the_sound_becomes_silence(ramp: Path, tmp_path: Path) -> None:
    """Packets of sound from 1 to 2 s are dropped; what follows keeps its time."""
    tool("-i", ramp, "-c", "copy", "-bsf:a", "noise=drop='between(pts*tb,1,2)'", tmp_path / "hole.mkv")
    cut(tmp_path / "hole.mkv", tmp_path / "cut.mp4", 0, 4)

    assert beep_seconds(*sound(tmp_path / "cut.mp4")) == pytest.approx(BEEP_SECONDS, abs=0.02)


def test_a_span_that_reaches_past_the_end_gives_what_there_is(ramp: Path, tmp_path: Path) -> None:
    measured = cut(ramp, tmp_path / "cut.mp4", 6, 10)

    assert numbers(tmp_path / "cut.mp4") == list(range(60, 80))
    assert measured.video.last_seconds == 2


def test_a_span_past_the_end_is_an_error_that_names_it(ramp: Path, tmp_path: Path) -> None:
    with pytest.raises(trim.EmptySpanError, match=r"there is no frame between 20 s and 30 s"):
        cut(ramp, tmp_path / "cut.mp4", 20, 10)


def test_six_channels_become_two(ramp: Path, tmp_path: Path) -> None:
    tool("-i", ramp, "-t", 4, "-c:v", "copy", "-ac", 6, tmp_path / "surround.mp4")
    cut(tmp_path / "surround.mp4", tmp_path / "cut.mp4", 2, 2)
    audio = probe.probe(tmp_path / "cut.mp4").audio

    assert audio is not None
    assert (audio.channels, audio.rate) == (2, RATE)


# --- Levels ---------------------------------------------------------------------------------------------------------


def with_sound(ramp: Path, out: Path, waveform: np.ndarray, rate: int = 48_000) -> Path:
    """The ramp's first second with this sound, uncompressed; shape (samples,) or (samples, channels)."""
    soundfile.write(out.with_suffix(".wav"), waveform, rate, subtype="PCM_16")
    tool("-i", ramp, "-i", out.with_suffix(".wav"), "-map", "0:v", "-map", "1:a", "-t", 1, "-c", "copy", out)
    return out


SINE = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(48_000) / 48_000)


@pytest.mark.parametrize(
    ("waveform", "level"),
    [
        (SINE, -9.03),  # half of full scale: a mean square of an eighth
        (0.1 * SINE, -29.03),
        (np.stack([SINE, 0 * SINE], axis=1), -15.05),  # in the mono mix half the amplitude
        (np.stack([SINE, -SINE], axis=1), -9.03),  # which the mix would cancel
    ],
    ids=["half of full scale", "a twentieth", "one channel of two", "opposite channels"],
)
def test_the_level_of_a_known_sound(ramp: Path, tmp_path: Path, waveform: np.ndarray, level: float) -> None:
    clip = with_sound(ramp, tmp_path / "clip.mkv", waveform)

    assert cut(clip, tmp_path / "cut.mp4", 0, 1).audio_rms_db == pytest.approx(level, abs=0.02)
    assert measure(clip, tmp_path).audio_rms_db == pytest.approx(level, abs=0.02)


def test_the_level_is_of_the_span_alone(ramp: Path, tmp_path: Path) -> None:
    """The beep of half a second and amplitude one half: -9.03 dB within it, -12.04 over a second, none elsewhere."""
    inside, around, before = (
        cut(ramp, tmp_path / "cut.mp4", start, seconds).audio_rms_db for start, seconds in ((3.1, 0.3), (3, 1), (1, 1))
    )

    assert inside == pytest.approx(-9.03, abs=0.1)
    assert around == pytest.approx(-12.04, abs=0.1)
    assert before < -80


def test_digital_silence_is_minus_200(ramp: Path, tmp_path: Path) -> None:
    clip = with_sound(ramp, tmp_path / "clip.mkv", 0 * SINE)

    assert cut(clip, tmp_path / "cut.mp4", 0, 1).audio_rms_db == messages.SILENCE_DB == -200
    assert measure(clip, tmp_path).audio_rms_db == -200


# --- Still pictures and damage -----------------------------------------------------------------------------------------


def film(path: Path, frames_THWC: np.ndarray) -> Path:
    """The ramp's beep under these pictures, ten a second."""
    seconds = len(frames_THWC) / FPS
    synthesize.write_mp4(path, frames_THWC, beep(seconds, RATE), fps=FPS, sample_rate=RATE)
    return path


@pytest.mark.parametrize(
    ("changes", "still"),
    [
        ([], 8.0),
        ([5.0], 8.0),  # two pictures, each still for longer than half a second
        ([0.1 * n for n in range(1, 41)], 3.9),  # a new one in every frame, up to 4 s; the last of them stays
        ([0.1 * n for n in range(1, 80)], 0.0),
    ],
)
def test_a_still_picture_is_timed(tmp_path: Path, changes: list[float], still: float) -> None:
    random = np.random.default_rng(0).integers(0, 256, (len(changes) + 1, 48, 64, 3), np.uint8)
    shown = np.searchsorted(changes, np.arange(80) / 10 + 1e-6)
    clip = film(tmp_path / "clip.mp4", random[shown])

    assert measure(clip, tmp_path).still_seconds == pytest.approx(still, abs=0.11)
    assert cut(clip, tmp_path / "cut.mp4", 0, 8).still_seconds == pytest.approx(still, abs=0.11)
    assert cut(clip, tmp_path / "cut.mp4", 5, 3).still_seconds == pytest.approx(min(still, 3.0), abs=0.11)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_frames_are_measured_too(tmp_path: Path, count: int) -> None:
    clip = film(tmp_path / "clip.mp4", np.zeros((count, 48, 64, 3), np.uint8))

    assert measure(clip, tmp_path).video.count == count
    assert cut(clip, tmp_path / "cut.mp4", 0, 1).video.count == count
    assert measure(clip, tmp_path).still_seconds == 0


def test_a_grey_that_rises_by_three_a_frame_is_not_still(ramp: Path, tmp_path: Path) -> None:
    assert measure(ramp, tmp_path).still_seconds == 0


def test_what_decoding_patches_up_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half of one frame of 80 is zeroed; without B-frames those up to the next keyframe are built upon it."""
    noise = np.random.default_rng(0).integers(0, 256, (80, 48, 64, 3), np.uint8)
    whole = film(tmp_path / "whole.mp4", noise)
    with av.open(str(whole)) as container:
        packets = list(container.demux(video=0))
    place, size = packets[40].pos or 0, packets[40].size
    data = bytearray(whole.read_bytes())
    data[place + size // 2 : place + size] = bytes(size - size // 2)
    (tmp_path / "spoilt.mp4").write_bytes(data)

    sound_one, spoilt = (measure(tmp_path / name, tmp_path) for name in ("whole.mp4", "spoilt.mp4"))

    assert (sound_one.decode_errors, sound_one.damaged_share) == (0, 0)
    assert 1 <= spoilt.decode_errors <= 3
    assert spoilt.damaged_share == spoilt.decode_errors / spoilt.video.count
    assert spoilt.video.count >= 79
    assert cut(tmp_path / "spoilt.mp4", tmp_path / "cut.mp4", 0, 8).decode_errors == spoilt.decode_errors

    run = ffmpeg.run

    def interleaved(*args: Any, **options: Any) -> str:
        """What the tool says when its decoder complains while a filter's thread is within a line."""
        return re.sub(
            r"\n\[vist#.*\] corrupt decoded frame$", "corrupt decoded frame", run(*args, **options), flags=re.M
        )

    monkeypatch.setattr(ffmpeg, "run", interleaved)
    assert cut(tmp_path / "spoilt.mp4", tmp_path / "cut.mp4", 0, 8).decode_errors == spoilt.decode_errors


def test_packets_of_sound_that_do_not_decode_are_counted(ramp: Path, tmp_path: Path) -> None:
    """About one packet in five is noise."""
    tool("-i", ramp, "-c", "copy", "-bsf:a", "noise=amount='if(mod(n,5),0,2)'", tmp_path / "noisy.mp4")
    measured = measure(tmp_path / "noisy.mp4", tmp_path)

    assert measured.audio is not None
    assert 20 < measured.decode_errors < 90
    assert measured.damaged_share == measured.decode_errors / measured.audio.count


def test_measuring_can_stop_early(ramp: Path, tmp_path: Path) -> None:
    found = probe.probe(ramp)
    measured = measuring.measure(ramp, found=found, scratch=tmp_path, timeout_seconds=30, most_seconds=3)

    assert measured.video.count == 30
    assert measured.audio is not None
    assert measured.audio.last_seconds == pytest.approx(3, abs=0.03)


# --- Measuring ------------------------------------------------------------------------------------------------------


def test_measuring_says_what_the_file_holds_and_leaves_nothing(ramp: Path, tmp_path: Path) -> None:
    measured = measure(ramp, tmp_path)

    assert (measured.video.count, measured.video.first_seconds, measured.video.last_seconds) == (80, 0, 8)
    assert measured.audio is not None
    assert measured.audio.first_seconds == 0
    assert measured.audio.last_seconds == pytest.approx(8, abs=0.03)
    assert (measured.width, measured.height, measured.fps) == (64, 48, 10)
    # Half a second of amplitude one half, in eight: 10 log10(0.5 ** 2 / 2 / 16)
    assert measured.audio_rms_db == pytest.approx(-21.07, abs=0.1)
    assert list(tmp_path.iterdir()) == []


def test_measuring_a_film_without_sound(silent_film: Path, tmp_path: Path) -> None:
    measured = measure(silent_film, tmp_path)

    assert measured.video.count == 80
    assert measured.audio is None
    assert measured.audio_rms_db == -200


def test_measuring_sees_who_begins_late(ramp: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.mp4"
    tool("-itsoffset", 2, "-i", ramp, "-i", ramp, "-map", "0:v", "-map", "1:a", "-c", "copy", late)
    measured = measure(late, tmp_path)

    assert measured.audio is not None
    assert measured.video.first_seconds - measured.audio.first_seconds == pytest.approx(2, abs=0.05)
    assert measured.audio_offset_seconds == pytest.approx(-2, abs=0.05)
    assert cut(late, tmp_path / "cut.mp4", 0, 8).audio_offset_seconds == pytest.approx(-2, abs=0.05)


def test_without_picture_there_is_nothing_to_measure_or_cut(song: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no picture stream"):
        measure(song, tmp_path)
    with pytest.raises(MediaError, match="picture and sound are needed"):
        cut(song, tmp_path / "cut.mp4", 0, 1)


def test_without_sound_there_is_nothing_to_cut(silent_film: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="picture and sound are needed"):
        cut(silent_film, tmp_path / "cut.mp4", 0, 1)


def test_a_truncated_file_has_what_was_there(ramp: Path, tmp_path: Path) -> None:
    """With its table of contents in front, a file that was cut short opens, and claims all of its 8 s."""
    tool("-i", ramp, "-c", "copy", "-movflags", "+faststart", tmp_path / "whole.mp4")
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) - (len(data) - data.index(b"mdat")) // 2])

    assert probe.probe(tmp_path / "half.mp4").seconds == pytest.approx(8, abs=0.05)
    assert 0 < measure(tmp_path / "half.mp4", tmp_path).video.last_seconds < 7


def test_what_changed_after_it_was_probed_is_an_error(found: probe.Probe, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(np.random.default_rng(0).bytes(10_000))

    with pytest.raises(MediaError, match="ended with"):
        measuring.measure(garbage, found=found, scratch=tmp_path, timeout_seconds=20)
    with pytest.raises(MediaError, match="ended with"):
        trim.cut(garbage, tmp_path / "cut.mp4", found=found, start_seconds=0, seconds=1, timeout_seconds=20)


def test_a_picture_that_is_larger_than_its_probe_said_is_refused(
    ramp: Path, found: probe.Probe, tmp_path: Path
) -> None:
    """A few kilobytes, of which the encoder would make gigabytes of memory."""
    huge = tmp_path / "huge.mkv"
    picture = ("-f", "lavfi", "-i", "color=gray:size=8000x4400", "-frames:v", 1, "-c:v", "mjpeg", "-q:v", 30)
    tool(*picture, tmp_path / "one.mkv")
    tool("-i", tmp_path / "one.mkv", "-i", ramp, "-map", "0:v", "-map", "1:a", "-c", "copy", "-t", 1, huge)

    with pytest.raises(MediaError, match="ended with"):
        measuring.measure(huge, found=found, scratch=tmp_path, timeout_seconds=30)
    with pytest.raises(MediaError, match="ended with"):
        trim.cut(huge, tmp_path / "cut.mp4", found=found, start_seconds=0, seconds=1, timeout_seconds=30)


@pytest.mark.slow
def test_a_small_file_that_takes_much_memory_is_refused(
    ramp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A still picture of 8K: 60 kB, and 2 GB to cut."""
    monkeypatch.setattr(ffmpeg, "MAX_MEMORY", 2**30)
    large = tmp_path / "large.mp4"
    picture = ("-f", "lavfi", "-i", "color=gray:size=7680x4320:rate=5:duration=2", "-i", ramp, "-t", 2)
    tool(*picture, "-map", "0:v", "-map", "1:a", "-c:v", "libx264", "-preset", "ultrafast", "-crf", 40, large)

    assert large.stat().st_size < 300_000
    with pytest.raises(TooLargeError, match="more than 1024 MiB of memory"):
        cut(large, tmp_path / "cut.mp4", 0, 2)


def test_both_hold_to_the_wall_clock(
    ramp: Path, found: probe.Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(slow))

    with pytest.raises(TimedOutError):
        measuring.measure(ramp, found=found, scratch=tmp_path, timeout_seconds=0.2)
    with pytest.raises(TimedOutError):
        trim.cut(ramp, tmp_path / "cut.mp4", found=found, start_seconds=0, seconds=1, timeout_seconds=0.2)
