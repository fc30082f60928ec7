import errno
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import ffmpeg, probe
from kinetics_sounds.media.probe import Audio, Span, Video

from .conftest import tool


def test_a_plain_video(ramp: Path) -> None:
    found = probe.probe(ramp)

    assert found.video == Video(index=0, codec="h264", width=64, height=48, fps=Fraction(10))
    assert found.audio == Audio(index=1, codec="aac", rate=44_100, channels=1)
    assert found.seconds == pytest.approx(8, abs=0.05)
    assert found.seekable
    assert found.other_streams == ""


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ESTALE])
def test_the_machine_s_own_faults_are_none_of_the_file(
    ramp: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(ramp))

    monkeypatch.setattr(av, "open", broken)

    for look in (probe.probe, probe.spans):
        with pytest.raises(OSError, match=os.strerror(number)):
            look(ramp)


def test_a_disk_that_fails_is_no_fault_of_the_file(ramp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all of the file can be read, it is the file that made the demuxer say so."""

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(av, "open", broken)

    with pytest.raises(MediaError, match="cannot be opened"):
        probe.probe(ramp)
    with pytest.raises(IsADirectoryError):
        probe.probe(tmp_path)


def test_streams_are_found_by_kind_and_not_by_place(ramp: Path, tmp_path: Path) -> None:
    tool("-i", ramp, "-map", "0:a", "-map", "0:v", "-c", "copy", tmp_path / "swapped.mkv")
    found = probe.probe(tmp_path / "swapped.mkv")

    assert found.video is not None
    assert found.audio is not None
    assert (found.audio.index, found.video.index) == (0, 1)


def test_a_film_without_sound(silent_film: Path) -> None:
    found = probe.probe(silent_film)

    assert found.video is not None
    assert found.audio is None
    assert probe.spans(silent_film) == (
        Span(count=80, first_seconds=0, last_seconds=8, covered_seconds=8),
        None,
    )


def test_a_sound_without_picture(song: Path) -> None:
    found = probe.probe(song)

    assert found.video is None
    assert found.audio is not None
    assert probe.spans(song)[0] is None


def test_a_cover_is_no_picture_stream(song: Path, tmp_path: Path) -> None:
    cover, out = tmp_path / "cover.png", tmp_path / "covered.m4a"
    tool("-f", "lavfi", "-i", "testsrc=size=64x64", "-frames:v", 1, cover)
    tool("-i", song, "-i", cover, "-map", 0, "-map", 1, "-c", "copy", "-disposition:v:0", "attached_pic", out)

    assert probe.probe(out).video is None
    assert probe.spans(out)[0] is None


def test_a_codec_is_called_by_its_own_name(ramp: Path, tmp_path: Path) -> None:
    """mp3 is mp3, though the decoder that would be taken for it is called mp3float."""
    tool("-i", ramp, "-t", 1, "-c:v", "copy", "-c:a", "libmp3lame", tmp_path / "clip.mp4")
    audio = probe.probe(tmp_path / "clip.mp4").audio

    assert audio is not None
    assert audio.codec == "mp3"


def test_six_channels_are_counted(ramp: Path, tmp_path: Path) -> None:
    tool("-i", ramp, "-c:v", "copy", "-ac", 6, tmp_path / "surround.mp4")
    found = probe.probe(tmp_path / "surround.mp4")

    assert found.audio is not None
    assert found.audio.channels == 6


@pytest.mark.parametrize(("name", "seekable"), [("a.mkv", True), ("a.mov", True), ("a.ts", False), ("a.mpg", False)])
def test_which_containers_can_be_sought_in(ramp: Path, tmp_path: Path, name: str, seekable: bool) -> None:
    codecs = ("-r", 25, "-c:v", "mpeg1video", "-c:a", "mp2") if name == "a.mpg" else ("-c", "copy")
    tool("-i", ramp, "-t", 1, *codecs, tmp_path / name)

    assert probe.probe(tmp_path / name).seekable is seekable


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mp4"])
def test_a_title_that_is_not_utf_8_is_no_fault_of_the_video(ramp: Path, tmp_path: Path, name: str) -> None:
    tool("-i", ramp, "-c", "copy", "-metadata", "title=caf\udce9", tmp_path / name)

    assert probe.probe(tmp_path / name).video is not None
    assert probe.spans(tmp_path / name)[0] is not None


@pytest.mark.parametrize("name", ["concat:a.mp4|b.mp4", "http:a.mp4", "-a.mp4"])
def test_a_relative_name_is_a_file_and_no_protocol(
    ramp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).symlink_to(ramp)
    monkeypatch.chdir(tmp_path)

    assert probe.probe(Path(name)) == probe.probe(ramp)


def test_a_late_stream_is_seen_as_late(ramp: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.mp4"
    tool("-i", ramp, "-itsoffset", 1.5, "-i", ramp, "-map", "0:v", "-map", "1:a", "-c", "copy", late)
    video, audio = probe.spans(late)

    assert video is not None
    assert audio is not None
    assert video.first_seconds == 0
    assert audio.first_seconds == pytest.approx(1.5, abs=0.03)
    assert audio.last_seconds == pytest.approx(9.5, abs=0.03)


def bad_files(ramp: Path, folder: Path) -> dict[str, Path]:
    data = ramp.read_bytes()
    made = {
        "empty": b"",
        "garbage": np.random.default_rng(0).bytes(10_000),
        "truncated": data[: len(data) // 2],  # its moov atom is at the end
        "text": b"not a video\n" * 100,
        "page": b"<html><body>403 Forbidden</body></html>",
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return {"missing": folder / "missing", "folder": folder} | {name: folder / name for name in made}


@pytest.mark.parametrize("kind", ["empty", "garbage", "truncated", "text", "page", "missing", "folder"])
def test_what_cannot_be_opened_is_one_kind_of_error(ramp: Path, tmp_path: Path, kind: str) -> None:
    path = bad_files(ramp, tmp_path)[kind]

    with pytest.raises(MediaError, match="cannot be opened: "):
        probe.probe(path)
    with pytest.raises(MediaError, match="cannot be read back: "):
        probe.spans(path)


def test_what_else_a_file_holds_is_counted_by_kind(ramp: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.srt"
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    maps = [part for stream in ("0:v", "0:v", "0:a", "0:a", "0:a", "1:s") for part in ("-map", stream)]
    tool("-i", ramp, "-i", text, *maps, "-c", "copy", tmp_path / "many.mkv")

    assert probe.probe(tmp_path / "many.mkv").other_streams == "1 video, 2 audio, 1 subtitle"


def test_the_default_stream_is_chosen_wherever_it_lies(ramp: Path, tmp_path: Path) -> None:
    """The second picture and the third sound are marked; the sounds have 8, 16 and 44.1 kHz."""
    maps = [part for stream in ("0:v", "0:v", "0:a", "0:a", "0:a") for part in ("-map", stream)]
    marks = ["-disposition:v", 0, "-disposition:a", 0, "-disposition:v:1", "default", "-disposition:a:2", "default"]
    rates = ["-ar:a:0", 8000, "-ar:a:1", 16000, "-ar:a:2", 44100]
    tool("-i", ramp, "-t", 1, *maps, "-c:v", "copy", "-c:a", "aac", *rates, *marks, tmp_path / "many.mkv")
    found = probe.probe(tmp_path / "many.mkv")

    assert found.video is not None
    assert found.audio is not None
    assert (found.video.index, found.audio.index, found.audio.rate) == (1, 4, 44_100)


# --- Limits ---------------------------------------------------------------------------------------------------------


def test_a_huge_file_is_refused_before_it_is_opened(ramp: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge.mp4"
    huge.write_bytes(ramp.read_bytes())
    with huge.open("r+b") as file:
        file.truncate(probe.MAX_BYTES + 2**20)  # a hole, which takes no room

    with pytest.raises(ffmpeg.TooLargeError, match="the file has 8193 MiB, more than 8192"):
        probe.probe(huge)


def test_a_picture_of_more_than_8k_is_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge.mp4"
    tool("-f", "lavfi", "-i", "color=gray:size=8000x4400", "-frames:v", 1, "-preset", "ultrafast", huge)

    with pytest.raises(ffmpeg.TooLargeError, match="its picture is 8000 x 4400, more than 33554432 pixels"):
        probe.probe(huge)


PEAK = """
import re, sys
from pathlib import Path
from kinetics_sounds.media import probe
print(probe.probe(Path(sys.argv[1])).video, *re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_picture_that_unfolds_to_140_megabytes_is_not_unfolded(tmp_path: Path) -> None:
    """Some codecs tell their pixels' format in a frame alone: opening the file decodes it, in this very process."""
    bomb = tmp_path / "bomb.mkv"
    tool("-f", "lavfi", "-i", "color=gray:size=6000x6000,format=rgba", "-frames:v", 1, "-c:v", "png", bomb)
    found = subprocess.run(
        [sys.executable, "-c", PEAK, bomb], capture_output=True, text=True, check=True
    ).stdout.split()

    assert bomb.stat().st_size < 1_000_000
    assert found[0] == "None"
    assert int(found[1]) < 120_000  # kB, and all of it Python's; the picture alone has 140,625


def test_of_hundreds_of_streams_none_is_looked_at_past_the_hundredth(ramp: Path, tmp_path: Path) -> None:
    maps = ["-map", "0:v", *["-map", "0:a"] * 200]
    for name in ("many.mkv", "many.mp4"):
        tool("-i", ramp, *maps, "-t", 0.1, "-c", "copy", tmp_path / name)

    assert probe.probe(tmp_path / "many.mkv").other_streams == "98 audio"
    with pytest.raises(ffmpeg.TooLargeError, match="cannot be opened: "):
        probe.probe(tmp_path / "many.mp4")


def test_endless_packets_are_not_all_counted(ramp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MAX_PACKETS", 79)

    with pytest.raises(ffmpeg.TooLargeError, match="its audio stream has more than 79 packets"):
        probe.spans(ramp)


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([(0, 1), (1, 2)], 2),
        ([(0, 0.1), (0.5, 0.6)], 0.6),  # a frame is shown until the next
        ([(0, 0.1), (9, 9.1)], 1.1),  # but no longer than a second
        ([(-1, 0.1), (0.1, 20)], 10),  # of the span asked for
        ([(9.5, 10)], 0.5),
        ([], 0),
    ],
)
def test_holes_and_late_starts_are_not_covered(times: list[tuple[float, float]], seconds: float) -> None:
    assert probe.covered(times, begin=0, end=10) == pytest.approx(seconds)
