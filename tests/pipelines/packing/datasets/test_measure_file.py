"""What a worker finds in one file, by decoding it."""

import math
import struct
from pathlib import Path

import pytest

from kinetics_sounds.clip import Clip, Media, Outcome, Status
from kinetics_sounds.media.encode import Modality
from kinetics_sounds.pipelines.packing import measure_file

from . import shapes


def measured(path: Path, modality: Modality) -> Outcome:
    task = measure_file.Task(
        clip=Clip("", 0, 1, "dog", "all", name="k", folds=("train",)),
        file=path,
        path=f"clips/dog/k{path.suffix}",
        modality=modality,
        timeout_seconds=30,
        scratch=path.parent,
    )
    outcome: Outcome = measure_file.measured(task)
    return outcome


def media_of(outcome: Outcome) -> Media:
    assert outcome.media is not None, outcome.detail
    return outcome.media


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    shapes.wav(tmp_path / "a.wav", channels=2)
    return tmp_path / "a.wav"


def test_a_sound_is_measured(wav: Path) -> None:
    outcome = measured(wav, "audio")

    media = media_of(outcome)
    assert (media.audio_rate, media.audio_channels, media.audio_channel) == (shapes.RATE, 2, "mix")
    assert media.audio_rms_db == pytest.approx(-13.47, abs=0.1)  # a sine of 0.3: 20 log10(0.3 / sqrt 2)
    assert (media.num_frames, media.fps, media.silent, media.still) == (0, 0, False, False)
    assert (outcome.clip.time_end, outcome.clip.folds) == (1, ("train",))


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_header_that_does_not_know_its_size_is_no_fault(wav: Path, size: int) -> None:
    data = bytearray(wav.read_bytes())
    data[4:8] = size.to_bytes(4, "little")
    wav.write_bytes(data)

    assert measured(wav, "audio").status is Status.OK


def test_a_file_without_its_last_bytes_is_truncated(wav: Path) -> None:
    whole = wav.read_bytes()
    wav.write_bytes(whole[:-1])

    outcome = measured(wav, "audio")

    assert (outcome.status, outcome.media) == (Status.TRUNCATED, None)
    assert outcome.detail == f"the file has {len(whole) - 1} bytes, and states {len(whole)}; copy it again"


def test_of_a_picture_its_sound_is_not_measured_unless_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    shapes.avi(path, sound=True)

    alone, both = media_of(measured(path, "video")), media_of(measured(path, "both"))

    assert (alone.num_frames, alone.width, alone.height, alone.fps) == (shapes.FRAMES, 64, 48, shapes.FPS)
    assert (alone.audio_rate, alone.audio_channels, alone.audio_rms_db, alone.silent) == (0, 0, -200, False)
    assert (both.num_frames, both.audio_rate) == (shapes.FRAMES, shapes.RATE)
    assert both.audio_rms_db == pytest.approx(-13.47, abs=0.5)


@pytest.mark.parametrize(
    ("modality", "status"),
    [("video", Status.NO_VIDEO), ("both", Status.NO_VIDEO), ("audio", Status.OK)],
)
def test_what_a_sound_lacks_depends_on_what_is_wanted(wav: Path, modality: Modality, status: Status) -> None:
    assert measured(wav, modality).status is status


def test_a_file_that_goes_away_is_unreadable(tmp_path: Path) -> None:
    outcome = measured(tmp_path / "gone.wav", "audio")

    assert outcome.status is Status.UNREADABLE
    assert "No such file" in outcome.detail


def odd_wav(path: Path, *, frames: int = 22_051) -> bytes:
    """A sound of 8 bits: its samples are an odd number of bytes, which a padding byte follows."""
    samples = bytes(128 + round(40 * math.sin(number / 8)) for number in range(frames))
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 22_050, 22_050, 1, 8)
    body = form + b"data" + struct.pack("<I", frames) + samples + b"\0"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path.read_bytes()


def test_a_padding_byte_that_the_writer_left_out_is_no_sound(tmp_path: Path) -> None:
    whole = odd_wav(tmp_path / "a.wav")
    media = media_of(measured(tmp_path / "a.wav", "audio"))
    (tmp_path / "b.wav").write_bytes(whole[:-1])

    assert media_of(measured(tmp_path / "b.wav", "audio")).duration_seconds == media.duration_seconds
    (tmp_path / "c.wav").write_bytes(whole[:-2])  # without its last sample
    assert measured(tmp_path / "c.wav", "audio").status is Status.TRUNCATED


def test_a_file_of_many_empty_chunks_is_not_walked_for_ever(tmp_path: Path) -> None:
    chunks = b"junk\0\0\0\0" * 20_000
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + 5) + b"WAVE" + chunks)

    assert not measure_file._lacks_only_padding(tmp_path / "a.wav", 12 + len(chunks))
