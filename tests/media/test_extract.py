"""Frames and sound of the grey ramp, each of whose frames says its number, and of single colours."""

import io
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import error_status, extract, synthesize
from kinetics_sounds.media.trim import NoSoundError

from .conftest import BEEP_SECONDS, FPS, SECONDS, beep_seconds, tool

ONE = Fraction(1)


def shown(folder: Path) -> list[int]:
    """Which frame of the ramp each JPEG shows."""
    return [round((float(pixels(path).mean()) - 8) / 3) for path in sorted(folder.glob("*.jpg"))]


def pixels(path: Path) -> np.ndarray:
    """RGB, shape (height, width, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_one_frame_a_second_is_the_one_in_the_middle_of_it(ramp: Path, tmp_path: Path) -> None:
    """The frame at 0.4 s is the last that begins before half a second."""
    count, decoded = extract.frames(ramp, tmp_path, name="frame_%05d.jpg", fps=ONE, timeout_seconds=30)

    assert (count, decoded) == (SECONDS, SECONDS * FPS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"frame_{n:05d}.jpg" for n in range(1, SECONDS + 1)]
    assert shown(tmp_path) == [4 + FPS * second for second in range(SECONDS)]


def test_without_a_rate_every_frame_is_written(ramp: Path, tmp_path: Path) -> None:
    count, _ = extract.frames(ramp, tmp_path, name="img_%05d.jpg", timeout_seconds=30)

    assert count == SECONDS * FPS
    assert shown(tmp_path) == list(range(SECONDS * FPS))


def test_nothing_is_looked_at_after_the_end_of_the_span(ramp: Path, tmp_path: Path) -> None:
    count, _ = extract.frames(ramp, tmp_path, name="%05d.jpg", fps=ONE, most_seconds=3.0, timeout_seconds=30)

    assert count == 3


def test_a_folder_may_be_called_like_a_number(ramp: Path, tmp_path: Path) -> None:
    """ffmpeg would put the frame's number in the place of %d."""
    folder = tmp_path / "100%d %s 'x'"
    folder.mkdir()

    assert extract.frames(ramp, folder, name="%05d.jpg", fps=ONE, timeout_seconds=30)[0] == SECONDS
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize(("short_side", "size"), [(0, (64, 48)), (32, (44, 32)), (96, (128, 96))])
def test_the_short_side_is_chosen_and_the_aspect_kept(
    ramp: Path, tmp_path: Path, short_side: int, size: tuple[int, int]
) -> None:
    """4:3 of 32 is 42.7, rounded up to the next even number."""
    extract.frames(ramp, tmp_path, name="%05d.jpg", fps=ONE, short_side=short_side, timeout_seconds=30)

    assert {pixels(path).shape[1::-1] for path in tmp_path.iterdir()} == {size}


def test_pixels_become_square(ramp: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.mp4"
    tool("-i", ramp, "-c", "copy", "-bsf:v", "h264_metadata=sample_aspect_ratio=2/1", wide)
    (tmp_path / "frames").mkdir()

    extract.frames(wide, tmp_path / "frames", name="%05d.jpg", fps=ONE, timeout_seconds=30)

    assert {pixels(path).shape[1::-1] for path in (tmp_path / "frames").iterdir()} == {(128, 48)}


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_a_colour_stays_what_it_is_whatever_the_video_s_matrix(matrix: str, tmp_path: Path) -> None:
    """JPEGs are BT.601, and most videos BT.709: taken for the other, this green would be off by 20 and more."""
    colour, source, video = (40, 200, 90), tmp_path / "plain.mp4", tmp_path / "tagged.mp4"
    frames = np.broadcast_to(np.array(colour, dtype=np.uint8), (10, 48, 64, 3))
    synthesize.write_mp4(source, frames, np.zeros(24_000, np.float32), fps=10, sample_rate=24_000, crf=1)
    name = "smpte170m" if matrix == "bt601" else matrix
    exact = "flags=accurate_rnd+full_chroma_int"
    to = f"scale=in_color_matrix=bt601:out_color_matrix={matrix}:{exact},setparams=colorspace={name}"
    tool("-i", source, "-vf", to, "-c:v", "libx264", "-crf", 1, "-pix_fmt", "yuv420p", video)
    (tmp_path / "frames").mkdir()

    extract.frames(video, tmp_path / "frames", name="%05d.jpg", fps=ONE, timeout_seconds=30)

    np.testing.assert_allclose(pixels(tmp_path / "frames/00001.jpg").mean(axis=(0, 1)), colour, atol=4)


def test_the_same_clip_gives_the_same_bytes(ramp: Path, tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        extract.frames(ramp, tmp_path / name, name="%05d.jpg", fps=ONE, short_side=32, timeout_seconds=30)
        extract.wav(ramp, tmp_path / name / "sound.wav", rate=16_000, timeout_seconds=30)
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})

    assert made[0] == made[1]
    assert b"Lavc" not in b"".join(made[0].values())


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_the_sound_is_16_bit_mono_from_time_0(ramp: Path, tmp_path: Path, rate: int) -> None:
    extract.wav(ramp, tmp_path / "a.wav", rate=rate, timeout_seconds=30)

    with wave.open(str(tmp_path / "a.wav")) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (rate, 1, 2)
        samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2") / 2**15
    assert samples.size / rate == pytest.approx(SECONDS, abs=0.05)
    assert beep_seconds(samples, rate) == pytest.approx(BEEP_SECONDS, abs=0.01)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.03)


def test_one_channel_may_be_chosen(ramp: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.mkv"
    tool("-i", ramp, "-c:v", "copy", "-af", "pan=stereo|c0=0*c0|c1=c0", "-c:a", "flac", both)

    extract.wav(both, tmp_path / "left.wav", rate=16_000, channel="left", timeout_seconds=30)
    extract.wav(both, tmp_path / "right.wav", rate=16_000, channel="right", timeout_seconds=30)

    loudness = {}
    for side in ("left", "right"):
        with wave.open(io.BytesIO((tmp_path / f"{side}.wav").read_bytes())) as sound:
            loudness[side] = np.abs(np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2")).max()
    assert loudness["left"] == 0
    assert loudness["right"] > 10_000


def test_what_is_missing_is_told(silent_film: Path, song: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSoundError, match="no sound stream"):
        extract.wav(silent_film, tmp_path / "a.wav", rate=16_000, timeout_seconds=30)
    with pytest.raises(MediaError, match="no picture stream"):
        extract.frames(song, tmp_path, name="%05d.jpg", timeout_seconds=30)
    assert error_status.status(extract.TooFewFramesError("has 3")) == "too_short"
