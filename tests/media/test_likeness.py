"""A small film, encoded in several ways, cut elsewhere, dubbed, still, silent; and tables of descriptions."""

import csv
import dataclasses
import io
import itertools
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import ffmpeg, likeness, measure, probe, synthesize
from kinetics_sounds.media.likeness import Likeness, alike, compare, describe, pairs, parse

from .conftest import tool

FPS, RATE, SECONDS = 10, 24_000, 12


def described(path: Path) -> Likeness:
    return describe(path, timeout_seconds=30)


def film() -> np.ndarray:
    """Eight blocks of random grey a frame, which fade to others every 0.7 s."""
    rng = np.random.default_rng(3)
    keys = rng.uniform(0, 255, (20, 4, 6))
    at = np.arange(FPS * SECONDS) / (0.7 * FPS)
    shares = (at % 1)[:, None, None]
    blocks = keys[at.astype(int)] * (1 - shares) + keys[at.astype(int) + 1] * shares
    frames_THWC: np.ndarray = blocks.astype(np.uint8).repeat(24, axis=1).repeat(24, axis=2)[..., None].repeat(3, axis=3)
    return frames_THWC


def tune() -> np.ndarray:
    """Three tones at a time, others every 0.3 s."""
    pitches = np.random.default_rng(4).uniform(200, 4000, (SECONDS * 10, 3)).repeat(round(0.3 * RATE), axis=0)
    phases = 2 * np.pi * np.cumsum(pitches[: SECONDS * RATE] / RATE, axis=0)
    waveform: np.ndarray = (0.15 * np.sin(phases).sum(axis=1)).astype(np.float32)
    return waveform


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "whole.mp4"
    synthesize.write_mp4(path, film(), tune(), fps=FPS, sample_rate=RATE, crf=10)
    return path


def cut(source: Path, out: Path, *words: object, start: float = 0) -> Likeness:
    """Ten seconds of it, encoded as the words say, described."""
    tool("-ss", start, "-t", 10, "-i", source, *words, out)
    return described(out)


@pytest.fixture(scope="session")
def first(whole: Path) -> Likeness:
    return cut(whole, whole.with_name("first.mp4"), "-c:v", "libx264", "-crf", 18, "-c:a", "aac", "-b:a", "192k")


# --- Files ----------------------------------------------------------------------------------------------------------


def test_a_clip_is_described(first: Likeness) -> None:
    assert first.duration_seconds == pytest.approx(10, abs=0.05)
    assert first.frames == 100
    assert first.loudness_db == pytest.approx(10 * np.log10(3 * 0.15**2 / 2), abs=0.5)
    assert first.picture_hash.startswith("p1:")
    assert len(first.picture_hash) == 3 + 136
    assert first.sound_hash.startswith("s1:")
    assert len(first.sound_hash) == 3 + 96


def test_loudness_is_what_the_audit_measures(whole: Path, first: Likeness) -> None:
    path = whole.with_name("first.mp4")
    audio = probe.probe(path).audio
    assert audio is not None

    assert measure.measure_audio(path, audio, timeout_seconds=30).level_db == pytest.approx(first.loudness_db, abs=0.01)


def test_two_runs_say_the_same(whole: Path, first: Likeness) -> None:
    assert described(whole.with_name("first.mp4")) == first


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("small.mkv", "-s 72x48 -c:v libx264 -crf 35 -c:a libmp3lame -b:a 48k -ac 2"),
        ("large.webm", "-s 288x192 -r 25 -c:v libvpx -b:v 500k -deadline realtime -c:a libopus -b:a 48k"),
        ("squeezed.avi", "-s 96x96 -r 15 -c:v mpeg4 -q:v 10 -c:a libmp3lame -b:a 64k -ar 16000"),
    ],
)
def test_another_encoding_is_alike(whole: Path, tmp_path: Path, first: Likeness, name: str, words: str) -> None:
    found = compare(first, cut(whole, tmp_path / name, *words.split()))

    assert (found.verdict, found.broken, found.lacking) == ("alike", (), ())
    assert max(found.distances["picture"], found.distances["motion"], found.distances["sound"]) < 0.4


@pytest.mark.parametrize(
    ("words", "broken"),
    [
        ("-vf negate", {"picture", "motion"}),
        ("-vf hflip", {"picture", "motion"}),
        ("-vf reverse", {"picture", "motion"}),
        ("-af adelay=500:all=1", {"sound"}),
        ("-af volume=-20dB", {"loudness"}),
        ("-af volume=0", {"loudness", "sound"}),
        ("-an", {"loudness", "sound"}),
        ("-frames:v 70", {"duration"}),
    ],
)
def test_what_differs_is_named(whole: Path, tmp_path: Path, first: Likeness, words: str, broken: set[str]) -> None:
    found = compare(first, cut(whole, tmp_path / "other.mp4", *words.split()))

    assert found.verdict == "different"
    assert broken <= set(found.broken) <= broken | ({"motion"} if "duration" in broken else set())


@pytest.mark.parametrize("frames", [94, 100])
def test_a_file_that_ends_a_little_sooner_is_alike(whole: Path, tmp_path: Path, first: Likeness, frames: int) -> None:
    """As two sources may give the same annotated span."""
    found = compare(first, cut(whole, tmp_path / "shorter.mp4", "-frames:v", str(frames)))

    assert (found.verdict, found.broken) == ("alike", ())


@pytest.mark.parametrize("start", [0.5, 1, 2])
def test_another_span_of_a_video_is_different(whole: Path, tmp_path: Path, first: Likeness, start: float) -> None:
    found = compare(first, cut(whole, tmp_path / "later.mp4", start=start))

    assert found.verdict == "different"
    assert "sound" in found.broken
    assert ("motion" in found.broken) == (start >= 1)


def test_no_sound_and_silence_are_the_same(whole: Path, tmp_path: Path) -> None:
    silent, without = cut(whole, tmp_path / "silent.mp4", "-af", "volume=0"), cut(whole, tmp_path / "none.mp4", "-an")

    assert without.loudness_db == -200
    assert without.sound_hash == f"s1:{'0' * 96}"
    found = compare(silent, without)
    assert (found.verdict, found.lacking) == ("alike", ("sound",))  # by picture and motion


@pytest.mark.parametrize(("picture", "verdict"), [("testsrc", "alike"), ("color", "unknown")])
def test_a_still_picture_without_sound_is_evidence_where_it_shows_something(
    tmp_path: Path, picture: str, verdict: str
) -> None:
    for name, crf in (("a.mp4", 18), ("b.mp4", 30)):
        still = ("-f", "lavfi", "-i", f"{picture}=size=96x72:rate=10", "-vf", "loop=loop=99:size=1")
        tool(*still, "-frames:v", 100, "-c:v", "libx264", "-crf", crf, tmp_path / name)

    found = compare(described(tmp_path / "a.mp4"), described(tmp_path / "b.mp4"))

    assert (found.verdict, found.broken) == (verdict, ())
    assert {"motion", "sound"} <= set(found.lacking)


def test_channels_that_cancel_each_other_out_are_heard(whole: Path, tmp_path: Path, first: Likeness) -> None:
    against = cut(whole, tmp_path / "against.mkv", "-af", "pan=stereo|c0=c0|c1=-1*c0", "-c:a", "flac")

    assert against.loudness_db == pytest.approx(first.loudness_db, abs=0.5)
    assert alike(against, first)


def test_one_frame(tmp_path: Path) -> None:
    tool("-f", "lavfi", "-i", "testsrc=size=96x72:rate=25", "-frames:v", 1, tmp_path / "one.mp4")
    one = described(tmp_path / "one.mp4")

    assert one.frames == 1
    assert one.duration_seconds == pytest.approx(0.04)


def test_a_picture_that_changes_its_size_is_described(whole: Path, tmp_path: Path, first: Likeness) -> None:
    for name, size in (("a.ts", "144x96"), ("b.ts", "288x192")):
        tool("-ss", 0 if name == "a.ts" else 5, "-t", 5, "-i", whole, "-s", size, "-f", "mpegts", tmp_path / name)
    (tmp_path / "both.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())

    assert described(tmp_path / "both.ts").frames == pytest.approx(100, abs=2)


def test_a_dynamic_range_and_its_standard_picture_are_of_one_pattern(tmp_path: Path) -> None:
    tags = ("-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    codec = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=error")
    tool("-f", "lavfi", "-i", "testsrc=size=96x72:rate=5", "-t", 2, *codec, *tags, tmp_path / "hdr.mp4")

    assert (parse(described(tmp_path / "hdr.mp4").picture_hash, "p") or 0).bit_count() > 24


# --- Hostile files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 5000, b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", b"RIFF\xff\xff\xff\xffAVI "]
)
def test_what_is_no_video_is_a_media_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)

    with pytest.raises(MediaError):
        described(tmp_path / "clip.mp4")


def test_a_sound_alone_is_a_media_error(song: Path) -> None:
    with pytest.raises(MediaError, match="no picture stream"):
        described(song)


def test_a_file_without_its_end_is_described_or_a_media_error(whole: Path, tmp_path: Path) -> None:
    tool("-i", whole, "-c", "copy", tmp_path / "clip.ts")
    data = (tmp_path / "clip.ts").read_bytes()
    (tmp_path / "clip.ts").write_bytes(data[: len(data) // 3])
    (tmp_path / "clip.mp4").write_bytes(whole.read_bytes()[:5000])

    assert described(tmp_path / "clip.ts").frames < 100
    with pytest.raises(MediaError):
        described(tmp_path / "clip.mp4")


@pytest.mark.parametrize("jump", ["", ",setpts='PTS+gte(N,5)*100000/TB'"], ids=["long", "jump"])
def test_a_clip_of_hours_is_too_large(tmp_path: Path, jump: str) -> None:
    """Whether it is long or only says so: a frame a second, or one that comes a day later."""
    shown = ("-f", "lavfi", "-i", "color=gray:size=32x32:rate=1", "-frames:v", 10 if jump else 700)
    tool(*shown, "-vf", f"null{jump}", "-fps_mode", "passthrough", tmp_path / "long.mkv")

    with pytest.raises(ffmpeg.TooLargeError, match="more than 600 s or 36000 frames; trim it first"):
        described(tmp_path / "long.mkv")


def test_too_many_frames_are_too_large(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "MAX_FRAMES", 100)

    with pytest.raises(ffmpeg.TooLargeError, match="100 frames"):
        described(whole)


def test_a_run_past_its_time_is_ended(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\nexec sleep 30\n")
    tool.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(tool))
    with pytest.raises(ffmpeg.TimedOutError):
        describe(whole, timeout_seconds=0.2)


# --- Rows and texts -------------------------------------------------------------------------------------------------


def made(picture: int = 0, sound: int = 0, **more: float) -> Likeness:
    numbers = {"duration_seconds": 10.0, "loudness_db": -20.0, **more}
    return Likeness(frames=300, picture_hash=f"p1:{picture:0136x}", sound_hash=f"s1:{sound:096x}", **numbers)


hashes = st.builds(made, st.integers(0, 2**544 - 1), st.integers(0, 2**384 - 1))


@given(hashes)
def test_a_row_of_a_table_brings_a_description_back(one: Likeness) -> None:
    text = io.StringIO()
    row = likeness.to_row(one)
    csv.DictWriter(text, row).writerows([dict.fromkeys(row, ""), row])
    _, back = csv.DictReader(io.StringIO(text.getvalue()), list(row))

    assert likeness.from_row(back) == one
    assert likeness.from_row(row) == one


def test_a_row_without_hashes_is_read_and_is_unknown(first: Likeness) -> None:
    row = likeness.to_row(first) | {"picture_hash": None, "sound_hash": ""}
    del row["sound_hash"]
    bare = likeness.from_row(row)

    assert (bare.picture_hash, bare.sound_hash) == ("", "")
    assert compare(bare, first).verdict == compare(bare, bare).verdict == "unknown"
    assert compare(bare, first).lacking == ("picture", "motion", "sound")
    assert compare(bare, dataclasses.replace(bare, duration_seconds=5)).broken == ("duration",)
    assert not alike(bare, first)


def test_a_row_of_a_clip_that_is_gone_is_refused() -> None:
    with pytest.raises(
        ValueError, match="no duration_seconds, num_frames, audio_rms_db: only rows with status ok have them"
    ):
        likeness.from_row({"duration_seconds": "", "num_frames": None})


@pytest.mark.parametrize(
    "more",
    [{"duration_seconds": float("nan")}, {"duration_seconds": -1.0}, {"loudness_db": float("inf")}, {"frames": -1}],
)
def test_numbers_that_no_clip_has_are_refused(first: Likeness, more: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"clip|loudness"):
        dataclasses.replace(first, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        *("p1", "p1:", "p1:zz", "=1+1", "<script>", "P1:00", f"p01:{'0' * 136}", f"p2:{'0' * 513}", f"s1:{'0' * 96}"),
        *(f"p1:{'0' * 135}", f"p1:{'A' * 136}", f"p1:{'0' * 136}\n", f"p1:{'0' * 135}\u0660"),
    ],
)
def test_a_text_that_is_no_hash_is_refused(first: Likeness, text: str) -> None:
    with pytest.raises(ValueError, match="is not a hash of a picture; expected p1: and 136 digits"):
        dataclasses.replace(first, picture_hash=text)


def test_a_hash_of_a_later_version_is_kept_and_not_compared(first: Likeness) -> None:
    later = dataclasses.replace(first, sound_hash="s2:0a")

    assert compare(first, later).verdict == "unknown"
    assert compare(first, later).lacking == ("sound",)
    assert list(pairs([first, later, first])) == [(0, 2)]


@given(st.text(min_size=1, max_size=200).filter(lambda text: ":" not in text), st.sampled_from(["p", "s"]))
def test_any_text_is_refused(text: str, kind: Literal["p", "s"]) -> None:
    with pytest.raises(ValueError, match="is not a hash"):
        parse(text, kind)


@given(st.lists(st.booleans(), min_size=384, max_size=384))
def test_bits_are_written_and_read(bits: list[bool]) -> None:
    read = parse(likeness.write(np.array(bits), "s"), "s")

    assert read == int("".join("01"[bit] for bit in bits), 2)


def test_another_number_of_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="has 384 bits, not 383"):
        likeness.write(np.zeros(383, dtype=bool), "s")


# --- Distances ------------------------------------------------------------------------------------------------------


@given(hashes, hashes)
def test_a_distance_is_symmetric_and_0_to_itself(one: Likeness, other: Likeness) -> None:
    assert compare(one, other) == compare(other, one)
    assert set(compare(one, one).distances.values()) == {0}
    assert all(0 <= distance <= 1 for part, distance in compare(one, other).distances.items() if part != "duration")


def test_a_distance_is_the_share_of_the_bits_in_either_that_differ() -> None:
    """30 and 30 bits, 20 in common: 20 of 40 differ. With 12 and 11 there are too few."""
    found = compare(made(sound=2**30 - 1), made(sound=(2**30 - 1) << 10))
    few = compare(made(sound=2**12 - 1), made(sound=(2**11 - 1) << 12))

    assert found.distances["sound"] == 20 / 40
    assert "sound" not in few.distances
    assert set(few.lacking) == {"picture", "motion", "sound"}
    assert few.verdict == "unknown"


def test_silence_of_two_kinds_is_one_loudness() -> None:
    assert compare(made(loudness_db=-200), made(loudness_db=-75)).distances["loudness"] == 0
    assert compare(made(loudness_db=-200), made(loudness_db=-40)).broken == ("loudness",)


def test_the_bounds_are_those_of_the_benchmark() -> None:
    told = (Path(__file__).parents[2] / "benchmarks/likeness.md").read_text()

    for part in ("picture", "motion", "sound"):
        assert f"### Distance of {part} (bound {getattr(likeness, f'MOST_{part.upper()}'):g})" in told


# --- Search ---------------------------------------------------------------------------------------------------------


def flipped(one: Likeness, rng: np.random.Generator, count: int) -> Likeness:
    """The same with some bits of each hash turned over."""
    picture, sound = int(one.picture_hash[3:], 16), int(one.sound_hash[3:], 16)
    for bit in rng.choice(384, count, replace=False):
        picture, sound = picture ^ (1 << int(bit)), sound ^ (1 << int(bit))
    return dataclasses.replace(one, picture_hash=f"p1:{picture:0136x}", sound_hash=f"s1:{sound:096x}")


def random_one(rng: np.random.Generator) -> Likeness:
    return made(int.from_bytes(rng.bytes(68)), int.from_bytes(rng.bytes(48)))


def brute_force(those: list[Likeness]) -> list[tuple[int, int]]:
    return [(i, j) for i, j in itertools.combinations(range(len(those)), 2) if alike(those[i], those[j])]


@given(st.integers(0, 2**32), st.lists(st.integers(1, 4), max_size=12), st.integers(0, 10))
def test_few_that_are_alike_are_all_found(seed: int, groups: list[int], flips: int) -> None:
    """Ten turned bits leave some of 16 bits as they are; groups are smaller than what is compared around each."""
    rng = np.random.default_rng(seed)
    those = [flipped(one, rng, flips) for size in groups for one in [random_one(rng)] for _ in range(size)]
    those.insert(int(rng.integers(len(those) + 1)), Likeness(duration_seconds=10, frames=1, loudness_db=-20))

    assert list(pairs(those)) == brute_force(those)


@given(st.integers(0, 2**32))
def test_what_is_named_is_alike(seed: int) -> None:
    """Hashes of few bits and many that differ in length and loudness, near all bounds."""
    rng = np.random.default_rng(seed)
    base = random_one(rng)
    those = [
        dataclasses.replace(
            flipped(base, rng, int(rng.integers(200))),
            duration_seconds=10 + rng.uniform(-0.5, 0.5),
            loudness_db=float(rng.choice([-200.0, -61, -50, -45])),
        )
        for _ in range(30)
    ] + [made(int(rng.integers(2**20)) << 400, int(rng.integers(2**20))) for _ in range(10)]

    assert set(pairs(those)) <= set(brute_force(those))


def test_of_many_that_are_equal_each_is_linked_to_its_next_ones() -> None:
    """No more work than for others: 8 pairs a clip."""
    one = random_one(np.random.default_rng(0))

    found = list(pairs([one] * 3000))

    assert len(found) <= 8 * 3000
    assert {(i, i + 1) for i in range(2999)} <= set(found)


def test_black_and_silent_clips_are_in_no_pair() -> None:
    assert list(pairs([made()] * 3000)) == []
    assert list(pairs([])) == list(pairs([made(1)])) == []
