"""A fetched file to its span: what is linked, what is cut, and what a hostile file ends as."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.clip import Clip, FetchResult, Status
from kinetics_sounds.media import ffmpeg, measure, probe
from kinetics_sounds.media.measure import Measured
from kinetics_sounds.pipelines.fetching.audit import audit
from kinetics_sounds.pipelines.fetching.trim import Trimmed, cut_off, to_span

from ..conftest import video

CLIP = Clip("a", 0, 2, "humming", "train")


def given(path: Path, *, clip: Clip = CLIP, trimmed: bool = True) -> Trimmed:
    folder = path.parent / "scratch"
    folder.mkdir(exist_ok=True)
    fetched = FetchResult(status=Status.OK, path=path, trimmed=trimmed)
    return to_span(clip, fetched, folder, timeout_seconds=30)


def remade(source: Path, path: Path, *, late: float = 0, sounds: int = 1, codec: str = "copy") -> Path:
    """The same picture, and the sound so many times, `late` seconds later."""
    picture, sound = ffmpeg.source(source).video, ffmpeg.source(source, itsoffset=late).audio
    output = ffmpeg.sink(picture, *[sound] * sounds, path=path, vcodec="copy", acodec=codec)
    ffmpeg.run(output, timeout_seconds=30)
    return path


@pytest.fixture(scope="module")
def two_seconds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("span") / "clip.mp4"
    video(path, seconds=2)
    return path


def test_a_file_that_is_its_span_is_linked(two_seconds: Path) -> None:
    done = given(two_seconds)

    assert (done.status, done.path, done.other_streams) == (Status.OK, two_seconds, "")


def test_a_file_whose_subtitles_end_later_is_not_said_to_be_cut_off(two_seconds: Path, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:04,000 --> 00:00:05,000\nhello\n")
    argv = ["-i", str(two_seconds), "-i", str(tmp_path / "a.srt"), "-c", "copy", str(tmp_path / "a.mkv")]
    subprocess.run([ffmpeg.executable(), "-v", "error", *argv], check=True)

    assert probe.probe(tmp_path / "a.mkv").seconds == pytest.approx(5, abs=0.1)
    assert cut_off(tmp_path / "a.mkv") == ""


def turned(source: Path, path: Path, degrees: int) -> Path:
    """The same file, to be shown turned."""
    argv = ["-display_rotation:v:0", str(degrees), "-i", str(source), "-c", "copy", str(path)]
    subprocess.run([ffmpeg.executable(), "-v", "error", *argv], check=True)
    return path


def paced(source: Path, path: Path, times: str) -> Path:
    """The same frames, at other times: of frame N in seconds, as ffmpeg writes formulas."""
    opened = ffmpeg.source(source)
    picture = opened.video.filter("settb", "1/1000").filter("setpts", f"({times})/TB")
    options: dict[str, str | float] = {"vcodec": "libx264", "acodec": "copy", "fps_mode": "passthrough", "bf": 0}
    ffmpeg.run(ffmpeg.sink(picture, opened.audio, path=path, **options), timeout_seconds=30)
    return path


@pytest.mark.parametrize("degrees", [90, 180])
def test_a_file_that_is_shown_turned_is_cut_upright(two_seconds: Path, tmp_path: Path, degrees: int) -> None:
    path = turned(two_seconds, tmp_path / "turned.mp4", degrees)

    done = given(path)

    assert done.status is Status.OK
    assert done.path not in (None, path)
    assert done.measured is not None
    assert done.measured.rotation == 360 - degrees
    again = given(done.path)
    assert again.path == done.path
    assert again.measured is not None
    assert again.measured.rotation == 0


@pytest.mark.parametrize(
    ("name", "times", "linked"),
    [
        ("clip.mp4", "N/10", True),
        ("clip.mkv", "round(N*100/3)/1000*3", True),  # milliseconds of rounding
        ("clip.mp4", "N/10+mod(N,2)*0.03", True),  # less than half a frame
        ("clip.mp4", "N/10+mod(N,2)*0.06", False),
        ("clip.mp4", "if(lt(N,10),N/10,N/10+0.1)", False),  # a frame is lost
        ("clip.mp4", "if(lt(N,10),N*0.08,0.8+(N-10)*0.12)", False),  # two rates
    ],
)
def test_a_file_whose_frames_come_unevenly_is_cut_to_a_constant_rate(
    two_seconds: Path, tmp_path: Path, name: str, times: str, linked: bool
) -> None:
    path = paced(two_seconds, tmp_path / name, times)

    done = given(path)

    assert (done.status, done.path == path) == (Status.OK, linked)
    assert probe.constant_rate(path) is linked
    assert done.path is not None
    assert probe.constant_rate(done.path)


@pytest.mark.parametrize(("late", "linked"), [(0.05, True), (0.15, False)])
def test_sound_that_begins_apart_from_the_picture_is_put_in_its_place(
    two_seconds: Path, tmp_path: Path, late: float, linked: bool
) -> None:
    """More than 0.1 s apart is cut anew: silence is put before the sound, and both begin at 0."""
    path = remade(two_seconds, tmp_path / "late.mkv", late=late, codec="pcm_s16le")

    done = given(path)

    assert done.measured is not None
    assert (done.path == path) is linked
    assert done.measured.audio_offset_seconds == pytest.approx(late, abs=0.01)
    assert audit(CLIP, done.measured, min_coverage=0.9) == (Status.OK, "")
    if done.path is not None and not linked:
        assert [span.first_seconds for span in probe.spans(done.path) if span] == pytest.approx([0, 0], abs=0.05)


def test_sound_that_begins_so_late_that_the_span_is_not_covered_is_too_short(two_seconds: Path, tmp_path: Path) -> None:
    done = given(remade(two_seconds, tmp_path / "late.mkv", late=0.5, codec="pcm_s16le"))

    assert done.measured is not None
    assert audit(CLIP, done.measured, min_coverage=0.9) == (
        Status.TOO_SHORT,
        "the sound covers 1.50 s of the 2 s requested",
    )


def test_sound_that_outlasts_the_span_is_cut(tmp_path: Path) -> None:
    """Two seconds of picture over six of sound."""
    video(tmp_path / "six.mp4", seconds=6)
    opened = ffmpeg.source(tmp_path / "six.mp4")
    short = opened.video.filter("trim", end=2)
    output = ffmpeg.sink(short, opened.audio, path=tmp_path / "long.mp4", vcodec="libx264", acodec="aac")
    ffmpeg.run(output, timeout_seconds=30)

    done = given(tmp_path / "long.mp4")

    assert done.status is Status.OK
    assert done.path not in (None, tmp_path / "long.mp4")
    assert done.measured is not None
    assert done.measured.audio is not None
    assert done.measured.audio.last_seconds == pytest.approx(2, abs=0.03)


def test_a_file_whose_last_sound_says_it_comes_much_later_is_cut(two_seconds: Path, tmp_path: Path) -> None:
    """Decoded as it is, it would be 1,500 seconds of silence."""
    late = "setts=ts='if(gt(N,40),TS+1500/TB,TS)'"
    argv = ["-i", str(two_seconds), "-c", "copy", "-bsf:a", late, str(tmp_path / "late.mkv")]
    subprocess.run([ffmpeg.executable(), "-v", "error", *argv], check=True)
    sound = probe.spans(tmp_path / "late.mkv")[1]
    assert sound is not None
    assert sound.last_seconds > 1500

    done = given(tmp_path / "late.mkv")

    assert done.status is Status.OK
    assert done.path not in (None, tmp_path / "late.mkv")


def test_a_long_video_under_a_trimmed_name_is_not_decoded_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has 20 s; four are enough to see that it is no clip of two."""
    video(tmp_path / "long.mp4", seconds=20)
    seen: list[Measured] = []
    real = measure.measure

    def watched(*arguments: Any, **named: Any) -> Measured:
        seen.append(real(*arguments, **named))
        return seen[-1]

    monkeypatch.setattr(measure, "measure", watched)

    done = given(tmp_path / "long.mp4")

    assert done.status is Status.OK
    assert done.path != tmp_path / "long.mp4"
    assert [each.video.count for each in seen] == [40, 40]  # twice, since a disk may fail for a moment


def test_other_streams_of_the_source_are_told_though_the_cut_has_none(two_seconds: Path, tmp_path: Path) -> None:
    many = remade(two_seconds, tmp_path / "many.mkv", sounds=3)

    linked, cut = given(many), given(many, trimmed=False)

    assert (linked.path == many, linked.other_streams) == (True, "2 audio")
    assert (cut.path == many, cut.other_streams) == (False, "2 audio")
    assert cut.found is not None
    assert cut.found.other_streams == ""


# --- What containers claim --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ts"])
def test_a_span_past_the_end_is_too_short(two_seconds: Path, tmp_path: Path, name: str) -> None:
    done = given(remade(two_seconds, tmp_path / name), clip=Clip("a", 20, 22, "humming", "train"), trimmed=False)

    assert (done.status, done.detail) == (Status.TOO_SHORT, "there is no frame between 20 s and 22 s")


def test_a_container_that_claims_less_than_it_holds_is_not_believed(tmp_path: Path) -> None:
    """Matroska's duration is a number that anybody can write: here one second of six."""
    video(tmp_path / "six.mp4", seconds=6)
    data = bytearray(remade(tmp_path / "six.mp4", tmp_path / "six.mkv").read_bytes())
    place = data.index(b"\x44\x89\x88") + 3
    data[place : place + 8] = bytes.fromhex("408f400000000000")  # 1000.0 ms
    (tmp_path / "liar.mkv").write_bytes(data)
    assert probe.probe(tmp_path / "liar.mkv").seconds == 1.0

    done = given(tmp_path / "liar.mkv", clip=Clip("a", 3, 5, "humming", "train"), trimmed=False)

    assert done.measured is not None
    assert audit(CLIP, done.measured, min_coverage=0.9) == (Status.OK, "")


# --- Hostile files ----------------------------------------------------------------------------------------------------


def test_a_huge_file_is_too_large(two_seconds: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge.mp4"
    huge.write_bytes(two_seconds.read_bytes())
    with huge.open("r+b") as file:
        file.truncate(probe.MAX_BYTES + 1)

    assert given(huge).status is Status.TOO_LARGE


def test_a_cut_that_would_fill_the_disk_is_too_large(
    two_seconds: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ffmpeg, "MAX_OUTPUT", 20_000)
    path = tmp_path / "clip.mp4"
    path.symlink_to(two_seconds)

    done = given(path, trimmed=False)

    assert done.status is Status.TOO_LARGE
    assert "wrote more than" in done.detail


def test_hundreds_of_streams_are_a_status(two_seconds: Path, tmp_path: Path) -> None:
    assert given(remade(two_seconds, tmp_path / "many.mp4", sounds=200)).status is Status.TOO_LARGE


def test_a_full_disk_is_not_the_clips_fault(two_seconds: Path, tmp_path: Path) -> None:
    """The cut's place leads to a device that is always full."""
    path, scratch = tmp_path / "clip.mp4", tmp_path / "scratch"
    path.symlink_to(two_seconds)
    scratch.mkdir()
    (scratch / "cut.mp4").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left on device"):
        given(path, trimmed=False)
