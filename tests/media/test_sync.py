"""Sound and picture stay together whatever a stream does, and each finished file is measured again.

In the films here the picture turns white and a tone begins at every whole second, both for a tenth of a second.
"""

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from kinetics_sounds.clip import Clip, FetchResult, Status
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import encode, error_status, ffmpeg, messages, probe, timeline, trim
from kinetics_sounds.media import measure as measuring
from kinetics_sounds.media.encode import Encoded, Encoding, OutOfSyncError
from kinetics_sounds.media.measure import Measured
from kinetics_sounds.pipelines.fetching.trim import to_span

from .conftest import tool

FLASH = "drawbox=c=white:t=fill:enable='lt(mod(t+0.0001,1),0.1)'"
TONE = "if(lt(mod(t,1),0.1),0.5*sin(2*PI*1000*t),0.02*(random(0)-0.5))"
TONES = {1: TONE, 2: f"{TONE}|{TONE}", 6: "|".join([TONE] * 6)}


def film(
    path: Path,
    *,
    seconds: float = 6,
    start: float = 0,
    size: str = "64x48",
    rate: int = 44_100,
    channels: int = 1,
    codecs: tuple[str, str] = ("libx264", "aac"),
    fps: int = 20,
    sound: str = "",
    more: tuple[object, ...] = (),
) -> Path:
    """White and a tone at each whole second; times begin at `start`."""
    picture = f"color=black:s={size}:r={fps}:d={seconds},format=yuv420p,{FLASH}"
    tones = f"aevalsrc=exprs='{sound or TONES[channels]}':s={rate}:d={seconds}"
    codec = ("-c:v", codecs[0], "-c:a", codecs[1], "-g", 20, "-bf", 0)
    tool("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tones, *codec, "-output_ts_offset", start, *more, path)
    return path


def onsets(path: Path) -> tuple[list[float], list[float], float]:
    """When the picture turns white and when a tone begins, counted in frames and samples alone, and the sound's length."""
    with av.open(str(path)) as container:
        rate = Fraction(container.streams.video[0].average_rate or 1)
        white = [frame.to_ndarray(format="gray").mean() > 60 for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        hertz = container.streams.audio[0].rate
        waveform = np.concatenate([frame.to_ndarray().mean(0) for frame in container.decode(audio=0)])
    return [number / float(rate) for number in _begins(np.array(white))], tones(waveform, hertz), waveform.size / hertz


def tones(waveform: np.ndarray, hertz: int) -> list[float]:
    loud = np.abs(waveform) > 0.2
    heard = np.convolve(loud, np.ones(hertz // 100), "full")[: loud.size] > 0  # across the zeros of a sine
    return [number / hertz for number in _begins(heard)]


def _begins(on: np.ndarray) -> list[int]:
    return [int(number) for number in np.flatnonzero(on & ~np.concatenate([[False], on[:-1]]))]


def cut(path: Path, out: Path, start: float = 1, seconds: float = 4) -> Measured:
    return trim.cut(path, out, found=probe.probe(path), start_seconds=start, seconds=seconds, timeout_seconds=30)


def packed(path: Path, scratch: Path, *, channel: str = "mix") -> Encoded:
    return encode.encode(
        path,
        found=probe.probe(path),
        scratch=scratch,
        encoding=Encoding(short_side=48),
        timeout_seconds=30,
        channel=channel,
    )


def together(path: Path, *, seconds: int, late: float = 0.0) -> None:
    """Every whole second is seen and heard where it belongs, and the sound is as long as the span.

    The sound of the source itself may be `late`: in MPEG-TS nothing says what an encoder puts before it.
    """
    white, heard, length = onsets(path)
    assert white == pytest.approx(range(seconds), abs=0.051)
    assert heard == pytest.approx(range(seconds), abs=timeline.SLACK_SECONDS + 0.004 + late)
    assert length == pytest.approx(seconds, abs=0.13)  # the last packet of low rates is that long


PRIMING = 1024 / 32_000
"""Seconds that AAC of our lowest rate here puts before the sound."""


def without(path: Path, out: Path, lost: Callable[[float], bool]) -> Path:
    """The same packets, without those of sound that begin at certain times."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            if packet.stream.type == "audio" and lost(float(packet.pts * packet.time_base)):
                continue
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    return out


# --- Holes ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sound in packets of 10 ms."""
    path = tmp_path_factory.mktemp("fine") / "fine.mkv"
    return film(path, codecs=("libx264", "pcm_s16le"), rate=48_000, more=("-af", "asetnsamples=n=480"))


@pytest.mark.parametrize("holes", [1, 5])
@pytest.mark.parametrize("milliseconds", [10, 20, 50, 90, 110, 300])
def test_after_a_hole_sound_is_still_with_the_picture(
    fine: Path, tmp_path: Path, milliseconds: int, holes: int
) -> None:
    """A hole half a second after each of the first whole seconds; those under 0.1 s used to make later sound early."""
    lost = without(
        fine, tmp_path / "hole.mkv", lambda time: time < holes and 0 <= time % 1 - 0.5 < milliseconds / 1000 - 1e-6
    )

    cut(lost, tmp_path / "cut.mp4", 0, 6)

    together(tmp_path / "cut.mp4", seconds=6)


def test_a_clip_with_a_hole_is_cut_though_it_is_named_as_trimmed(fine: Path, tmp_path: Path) -> None:
    hole = without(fine, tmp_path / "hole.mkv", lambda time: 0.5 <= time < 0.56)
    clips = {path: FetchResult(status=Status.OK, path=path, trimmed=True) for path in (fine, hole)}
    clip = Clip("a", 0, 6, "humming", "train")

    linked, made = (to_span(clip, fetched, tmp_path, timeout_seconds=30) for fetched in clips.values())

    assert (linked.path, linked.measured and linked.measured.steady) == (fine, True)
    assert (made.status, made.path) == (Status.OK, tmp_path / "cut.mp4")


@pytest.mark.parametrize("milliseconds", [30, 60, 300])
def test_packing_fills_a_hole_too(fine: Path, tmp_path: Path, milliseconds: int) -> None:
    """Of a clip that an older version linked."""
    hole = without(fine, tmp_path / "hole.mkv", lambda time: 0.5 <= time < 0.5 + milliseconds / 1000 - 1e-6)

    made = packed(hole, tmp_path)

    assert tones(made.waveform, encode.SAMPLE_RATE) == pytest.approx(range(6), abs=0.014)
    assert made.waveform.size == pytest.approx(6 * encode.SAMPLE_RATE, abs=480)


# --- Streams that change ----------------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {}
CHANGES: dict[str, dict[str, Any]] = {
    "size": {"size": "128x96"},
    "shape": {"size": "128x48"},
    "rate": {"rate": 32_000},
    "mono to stereo": {"channels": 2},
    "mono to surround": {"channels": 6},
    "all": {"size": "32x48", "rate": 48_000, "channels": 2},
}


def joined(tmp_path: Path, *parts: dict[str, Any], seconds: int = 3) -> Path:
    """Films one after the other in one transport stream."""
    out = tmp_path / "joined.ts"
    with out.open("wb") as stream:
        for number, part in enumerate(parts):
            path = film(tmp_path / f"{number}.ts", seconds=seconds, start=10 + seconds * number, **part)
            stream.write(path.read_bytes())
    return out


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("back", [False, True])
def test_a_stream_that_changes_keeps_sound_and_picture_together(tmp_path: Path, change: str, *, back: bool) -> None:
    """It used to begin anew at time 0: seconds of silence, and 94 ms off in the shard."""
    parts = (CHANGES[change], PLAIN) if back else (PLAIN, CHANGES[change])
    measured = cut(joined(tmp_path, *parts), tmp_path / "cut.mp4")

    together(tmp_path / "cut.mp4", seconds=4, late=PRIMING)
    assert measured.video.count == 80
    assert (measured.width, measured.height) == tuple(map(int, parts[0].get("size", "64x48").split("x")))


def test_a_stream_that_changes_three_times(tmp_path: Path) -> None:
    parts = (PLAIN, {"size": "128x96"}, {"rate": 32_000}, {"size": "32x32", "channels": 2})
    cut(joined(tmp_path, *parts, seconds=2), tmp_path / "cut.mp4", 1, 6)

    together(tmp_path / "cut.mp4", seconds=6, late=PRIMING)


def test_a_picture_of_another_shape_is_not_distorted(tmp_path: Path) -> None:
    """The second part is a wide white picture: it stands between black bars."""
    wide = "color=white:s=128x48:r=20:d=3"
    tone = "aevalsrc=exprs='0.5*sin(2*PI*1000*t)':s=44100:d=3"
    film(tmp_path / "0.ts", seconds=3)
    codec = ("-c:v", "libx264", "-bf", 0, "-c:a", "aac", "-output_ts_offset", 3)
    tool("-f", "lavfi", "-i", wide, "-f", "lavfi", "-i", tone, *codec, tmp_path / "1.ts")
    (tmp_path / "both.ts").write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())

    cut(tmp_path / "both.ts", tmp_path / "cut.mp4", 1, 4)

    with av.open(str(tmp_path / "cut.mp4")) as container:
        last = list(container.decode(video=0))[-10].to_ndarray(format="gray")
    assert last.shape == (48, 64)
    assert last[14:34].min() > 200
    assert max(last[:8].max(), last[-8:].max()) < 40


@pytest.mark.parametrize("codecs", [("libx264", "mp2"), ("mpeg2video", "aac")])
def test_a_codec_that_changes_is_never_an_ok_with_something_else_in_it(tmp_path: Path, codecs: tuple[str, str]) -> None:
    """What a decoder does with packets of another codec is its own affair; the outcome is right or not ok."""
    path = joined(tmp_path, PLAIN, {"codecs": codecs})
    clip = Clip("a", 1, 5, "humming", "train")

    done = to_span(clip, FetchResult(status=Status.OK, path=path), tmp_path, timeout_seconds=30)

    assert done.status in (Status.OK, Status.CORRUPT)  # either may come with another ffmpeg
    if done.status is Status.OK and done.measured is not None and done.path is not None:
        white, heard, length = onsets(done.path)
        assert done.measured.audio is not None
        assert length == pytest.approx(4, abs=0.05) or done.measured.audio.covered_seconds < 3.6
        assert all(abs(time - round(time)) < 0.06 for time in (*white, *heard))


def test_a_linked_clip_that_changes_is_cut(tmp_path: Path) -> None:
    path = joined(tmp_path, PLAIN, {"channels": 2})
    clip = Clip("a", 0, 6, "humming", "train")

    done = to_span(clip, FetchResult(status=Status.OK, path=path, trimmed=True), tmp_path, timeout_seconds=30)

    assert (done.status, done.path) == (Status.OK, tmp_path / "cut.mp4")
    together(tmp_path / "cut.mp4", seconds=6, late=PRIMING)


@pytest.mark.parametrize("change", ["size", "rate", "mono to stereo"])
def test_packing_refuses_a_clip_that_changes(tmp_path: Path, change: str) -> None:
    """An older version linked such; what it packed was out of step. The same without a change is packed."""
    (tmp_path / "same").mkdir()
    assert packed(joined(tmp_path / "same", PLAIN, PLAIN), tmp_path).num_frames == pytest.approx(120, abs=3)
    with pytest.raises(OutOfSyncError) as caught:
        packed(joined(tmp_path, PLAIN, CHANGES[change]), tmp_path)
    assert error_status.status(caught.value) is Status.OUT_OF_SYNC


# --- Low rates, and what our own encoder adds ---------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [4000, 6000, 8000, 11_025, 16_000])
def test_sound_of_a_low_rate_begins_with_the_picture(tmp_path: Path, rate: int) -> None:
    """1,024 samples of the encoder's own are 128 ms at 8 kHz."""
    path = film(tmp_path / "low.avi", rate=rate, codecs=("mjpeg", "pcm_s16le"))

    measured = cut(path, tmp_path / "cut.mp4")

    assert measuring.misplaced(measured, seconds=4) == ""
    assert measured.audio_offset_seconds == pytest.approx(0, abs=0.01)
    together(tmp_path / "cut.mp4", seconds=4)
    assert tones(packed(tmp_path / "cut.mp4", tmp_path).waveform, encode.SAMPLE_RATE) == pytest.approx(
        range(4), abs=0.014
    )


# --- The finished file is measured --------------------------------------------------------------------------------------


def test_a_cut_whose_sound_is_too_short_is_out_of_sync(
    fine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the tool lost 64 ms in the middle."""
    real = timeline.write_wav

    def lossy(raw: Path, out: Path, pieces: Any, **options: Any) -> Any:
        real(raw, out, [timeline.Piece(0, 0, 40_000), timeline.Piece(40_000, 43_072, 104_928)], **options)
        return real(raw, out.with_name("whole.wav"), pieces, **options)

    monkeypatch.setattr(timeline, "write_wav", lossy)
    with pytest.raises(OutOfSyncError, match=r"is 4\.000 s long in the source") as caught:
        cut(fine, tmp_path / "cut.mp4")
    assert error_status.status(caught.value) is Status.OUT_OF_SYNC


def test_a_cut_whose_picture_is_too_short_is_out_of_sync(
    fine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "frames", lambda _: [(n / 20, (n + 1) / 20) for n in range(-20, 60)])

    with pytest.raises(OutOfSyncError, match=r"the picture is from 0\.000 to 4\.000 s .* ends at 3\.000 s"):
        cut(fine, tmp_path / "cut.mp4")


# --- Nothing in the span ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Six seconds, of which the sound, or the picture, lasts two."""
    folder = tmp_path_factory.mktemp("early")
    whole = film(folder / "whole.mp4")
    made = {}
    for what, maps in {"sound": ("-map", "0:v", "-map", "1:a"), "picture": ("-map", "1:v", "-map", "0:a")}.items():
        made[what] = folder / f"{what}.mkv"
        tool("-i", whole, "-t", 2, "-i", whole, *maps, "-c", "copy", made[what])
    return made


@pytest.mark.parametrize(
    ("what", "said"),
    [("sound", "the sound covers 0.00 s of the 2 s requested"), ("picture", "there is no frame between 4 s and 6 s")],
)
def test_a_stream_that_ends_before_the_span_is_too_short(
    early: dict[str, Path], tmp_path: Path, what: str, said: str
) -> None:
    with pytest.raises(MediaError) as caught:
        cut(early[what], tmp_path / "cut.mp4", 4, 2)
    assert (error_status.status(caught.value), str(caught.value)) == (Status.TOO_SHORT, said)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_span_that_begins_where_the_file_ends_is_too_short(tmp_path: Path, name: str) -> None:
    codecs = ("mpeg4", "pcm_s16le") if name == "a.avi" else ("libx264", "aac")
    path = film(tmp_path / name, seconds=2, codecs=codecs)

    for start in (2, 3):
        with pytest.raises(trim.EmptySpanError, match=f"there is no frame between {start} s and {start + 4} s"):
            cut(path, tmp_path / "cut.mp4", start, 4)


def test_a_sound_stream_without_samples_is_no_audio(tmp_path: Path) -> None:
    film(tmp_path / "whole.mkv", seconds=2)
    without(tmp_path / "whole.mkv", tmp_path / "none.mkv", lambda _: True)

    with pytest.raises(trim.NoSoundError) as caught:
        cut(tmp_path / "none.mkv", tmp_path / "cut.mp4", 0, 2)
    assert error_status.status(caught.value) is Status.NO_AUDIO


# --- Which channel is heard ---------------------------------------------------------------------------------------------

SINE = "0.5*sin(2*PI*440*t)"
"""RMS 0.354: -9.03 dB."""
MINUS = f"-{SINE}"


@pytest.mark.parametrize(
    ("sound", "channel", "level"),
    [
        (SINE, "mix", -9.03),
        (f"{SINE}|{SINE}", "mix", -9.03),
        (f"{SINE}|0", "mix", -15.05),  # half the amplitude, and not cancelled
        (f"{SINE}|{MINUS}", "left", -9.03),
        (f"{SINE}|-0.9*{SINE}", "left", -9.03),  # a mix of a twentieth: 26 dB less
        (f"0.9*{SINE}|{MINUS}", "right", -9.03),
        (f"{SINE}|-0.7*{SINE}", "mix", -25.5),  # 0.15: 16.5 dB less
        ("0|0", "mix", -200.0),
    ],
)
def test_the_channel_that_the_mix_would_cancel_is_heard(tmp_path: Path, sound: str, channel: str, level: float) -> None:
    path = film(tmp_path / "a.mkv", seconds=2, rate=48_000, sound=sound, codecs=("libx264", "pcm_s16le"))
    found = probe.probe(path)

    linked = measuring.measure(path, found=found, scratch=tmp_path, timeout_seconds=30)
    made = cut(path, tmp_path / "cut.mp4", 0, 2)

    for measured in (linked, made):
        assert measured.audio_channel == channel
        assert measured.audio_rms_db == pytest.approx(level, abs=0.3)
    for clip in (path, tmp_path / "cut.mp4"):
        waveform = packed(clip, tmp_path, channel=channel).waveform
        heard = 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-20)
        assert heard == pytest.approx(level, abs=0.3)


@pytest.mark.parametrize(
    ("sound", "channel"),
    [
        (f"{SINE}|{SINE}|0", "mix"),
        (f"{SINE}|{MINUS}|0", "0"),  # left and right cancel in mono, and not in the stereo of a cut
        (f"{SINE}|0|{MINUS}", "mix"),  # the third is the low-frequency channel, which no mix takes
        ("|".join([SINE] * 6), "mix"),
        (f"0|0|0|{SINE}|0|0", "3"),  # the stereo mix leaves the low-frequency channel out
    ],
)
def test_of_three_and_six_channels(tmp_path: Path, sound: str, channel: str) -> None:
    path = film(tmp_path / "a.mkv", seconds=2, rate=48_000, sound=sound, codecs=("libx264", "pcm_s16le"))

    linked = measuring.measure(path, found=probe.probe(path), scratch=tmp_path, timeout_seconds=30)
    made = cut(path, tmp_path / "cut.mp4", 0, 2)

    assert linked.audio_channel == channel
    for clip, measured in ((path, linked), (tmp_path / "cut.mp4", made)):
        waveform = packed(clip, tmp_path, channel=measured.audio_channel).waveform
        heard = 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-20)
        assert heard == pytest.approx(measured.audio_rms_db, abs=0.3)
        assert heard > -20


# --- Shapes that cannot be packed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "pixel"), [("1040x64", "1/1"), ("64x1040", "1/1"), ("160x120", "255/1"), ("160x120", "1/30")]
)
def test_what_packing_refuses_the_audit_refuses(tmp_path: Path, size: str, pixel: str) -> None:
    path = film(tmp_path / "a.mp4", seconds=2, size=size, more=("-vf", f"setsar={pixel}"))
    clip = Clip("a", 0, 2, "humming", "train")

    for trimmed, act in itertools.product((True, False), (to_span,)):
        done = act(clip, FetchResult(status=Status.OK, path=path, trimmed=trimmed), tmp_path, timeout_seconds=30)
        assert done.status is Status.BAD_ASPECT
        assert "displayed with aspect" in done.detail
    with pytest.raises(probe.BadAspectError):
        packed(path, tmp_path)


@pytest.mark.parametrize("size", ["1024x64", "64x1024"])
def test_sixteen_to_one_is_packed(tmp_path: Path, size: str) -> None:
    path = film(tmp_path / "a.mp4", seconds=1, size=size)

    cut(path, tmp_path / "cut.mp4", 0, 1)

    assert packed(tmp_path / "cut.mp4", tmp_path).num_frames == 20


def test_a_picture_of_one_line_is_no_bad_disk(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", seconds=1, size="16x1", codecs=("ffv1", "aac"), more=("-pix_fmt", "yuv444p"))

    with pytest.raises(probe.BadAspectError):
        cut(path, tmp_path / "cut.mp4", 0, 1)
    assert ffmpeg.version()


@pytest.mark.parametrize("name", ["clip.ts", "clip.mpg", "late.mkv", "clip.mp4"])
def test_a_clip_whose_times_do_not_begin_at_0_is_linked_and_packed(tmp_path: Path, name: str) -> None:
    """MPEG-TS begins at 1.4 s; a last frame may have no duration."""
    codecs = ("mpeg2video", "mp2") if name == "clip.mpg" else ("libx264", "aac")
    path = film(tmp_path / name, seconds=4, fps=25, codecs=codecs, start=0.15 if name == "late.mkv" else 0)
    fetched = FetchResult(status=Status.OK, path=path, trimmed=True)

    done = to_span(Clip("a", 0, 4, "humming", "train"), fetched, tmp_path, timeout_seconds=30)

    assert (done.status, done.path) == (Status.OK, path)
    made = packed(path, tmp_path)
    assert made.num_frames == pytest.approx(100, abs=3)
    assert made.waveform.size == pytest.approx(4 * encode.SAMPLE_RATE, abs=3000)


def test_a_copy_of_a_picture_that_changes_begins_near_the_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a change late in a long transport stream fills the disk."""
    monkeypatch.setattr(trim, "LONGEST_SECONDS", 1.0)
    copied: list[probe.Span | None] = []
    real = trim._steady

    def steady(*words: Any) -> Any:
        made = real(*words)
        copied.append(probe.spans(made.path)[0])
        return made

    monkeypatch.setattr(trim, "_steady", steady)
    cut(joined(tmp_path, PLAIN, {"size": "128x96"}, seconds=8), tmp_path / "cut.mp4", 6, 4)

    together(tmp_path / "cut.mp4", seconds=4, late=PRIMING)
    assert copied[0] is not None
    assert copied[0].last_seconds - copied[0].first_seconds < 5.2
