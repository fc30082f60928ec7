"""Numbers that a reader can add up: what a build has, lacks and took."""

import dataclasses
from pathlib import Path
from typing import Any

from kinetics_sounds import fingerprints, manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip, Media, Outcome, Status
from kinetics_sounds.clip_names import ANOTHER_FILE, ONE_OF_SEVERAL, SPAN_ALONE
from kinetics_sounds.pipelines.fetching.driver import RunStats
from kinetics_sounds.pipelines.fetching.summary import LEAST_COVERED, Account, summary

CLASSES = ClassList("mine", ("humming", "tapping"), "a note")


def clip(number: int, *, label: str = "humming", split: str = "train") -> Clip:
    return Clip(f"id{number}", 3, 5, label, split)


def outcome(clip: Clip, status: Status = Status.OK, *, size: int = 0, source: str = "local:/a") -> Outcome:
    media = Media(
        path=f"clips/{clip.label}/{clip.key}.mp4",
        bytes=size,
        sha256="00",
        duration_seconds=2.0,
        fps=10.0,
        width=48,
        height=48,
        num_frames=20,
        audio_rate=24_000,
        audio_channels=1,
        audio_rms_db=-20.0,
        audio_offset_seconds=0.0,
        silent=source == "local:/a",
        still=source == "cvdf",
        other_streams="",
        rotation=0,
        decode_errors=0,
    )
    return Outcome(clip=clip, status=status, source=source, media=media if status is Status.OK else None)


OUTCOMES = [
    outcome(clip(0), size=1_500_000_000),
    outcome(clip(1), size=1_000_000_000, source="cvdf"),
    outcome(clip(2), Status.PRIVATE),
    outcome(clip(3, label="tapping"), Status.NETWORK),
    outcome(clip(4, label="tapping", split="val"), size=500_000_000),
]


NO_CLIPS = fingerprints.both([])
"""For what is not about them."""


def counted(outcomes: list[Outcome]) -> Account:
    counts = Account()
    assert list(counts.counted(outcomes)) == outcomes
    return counts


def reported(folder: Path) -> dict[str, Any]:
    """The report of a build of these outcomes, whose manifest is written."""
    both = manifest.write(folder / "manifest.parquet", CLASSES, OUTCOMES)
    found: dict[str, Any] = counted(OUTCOMES).report(CLASSES, tally(), seconds=8.0, both=both)
    return found


def tally() -> RunStats:
    took = RunStats()
    took.seconds.update(cut=12.34, fetch=56.78, place=0.04)
    took.counts.update(tries=9, requests=21, bytes=7_500_000)
    took.keys.update(each.clip.key for each in OUTCOMES[:4])
    return took


def test_the_report_adds_up(tmp_path: Path) -> None:
    report = reported(tmp_path)
    ok = [(each.clip, each.media) for each in OUTCOMES if each.media]
    rows = [(clip.key, clip.label, clip.split, media.sha256) for clip, media in ok]

    assert report == {
        "classes": "mine",
        "note": "a note",
        "annotated": 5,
        "ok": 3,
        "statuses": {"ok": 3, "private": 1, "network": 1},
        "missing_such_as": {"private": ["id2_000003_000005"], "network": ["id3_000003_000005"]},
        "kinds": {"ok": 3, "permanent": 1, "retry": 1},
        "sources": {"local:/a": 2, "cvdf": 1},
        "coverage": {
            "train": {"humming": {"annotated": 3, "ok": 2}, "tapping": {"annotated": 1, "ok": 0}},
            "val": {"tapping": {"annotated": 1, "ok": 1}},
        },
        "fingerprint": manifest.fingerprint(clip(number).key for number in (0, 1, 4)),
        "selection": fingerprints.selection(row[:3] for row in rows),
        "content": fingerprints.content(rows),
        "bytes": 3_000_000_000,
        "in_several_splits": {},
        "in_former_class": [],
        "flags": {"silent": 2, "still": 1, "dubbed": 0},
        "remarks": {},
        "remarks_such_as": {},
        "this_run": {
            "clips": 4,
            "tries": 9,
            "seconds": 8.0,
            "clips_per_second": 0.5,
            "requests": 21,
            "bytes_downloaded": 7_500_000,
            "worker_seconds": {"fetch": 56.8, "cut": 12.3, "place": 0.0},
            "slowest_stage": "fetch",
        },
    }


def test_the_summary_says_what_the_report_holds(tmp_path: Path) -> None:
    report = reported(tmp_path)

    assert summary(report, Path("data/mine")).splitlines() == [
        "3 of 5 annotated clips ok; missing: 1 private, 1 network",
        (
            "of the missing clips, 1 will be retried by the next run, 1 will not be requested again from these sources "
            "(a further --source may have them; to try these again: --retry permanent)"
        ),
        "private: id2_000003_000005",
        "network: id3_000003_000005",
        "sources: 2 from local:/a, 1 from cvdf",
        "of the ok clips, 2 silent, 1 with a still picture",
        "train: 2 of 4 clips ok (50.0%), 0 of 2 classes complete",
        "val: 1 of 1 clip ok (100.0%), 1 of 1 class complete",
        "least covered: tapping (train) 0/1, humming (train) 2/3",
        "train: no ok clip of 1 of 2 classes: 'tapping'",
        "val: no ok clip of 1 of 2 classes: 'humming'",
        (
            "this run: 4 clips in 8 s (0.5 a second), 7.5 MB downloaded; workers' time: fetching 56.8 s, "
            "trimming and checking 12.3 s, moving into the folder 0 s"
        ),
        "size: 3.00 GB of clips",
        "manifest: data/mine/manifest.parquet (and .csv)",
        "report: data/mine/report.json; to look at the clips: ks-view data/mine",
    ]


def test_a_whole_build_has_no_line_on_missing_clips() -> None:
    whole = counted(OUTCOMES[:2]).report(CLASSES, RunStats(), seconds=1.0, both=NO_CLIPS)

    assert summary(whole, Path()).splitlines()[:2] == [
        "2 of 2 annotated clips ok",
        "sources: 1 from local:/a, 1 from cvdf",
    ]


def test_a_build_without_a_clip_names_no_source() -> None:
    none = counted(OUTCOMES[2:3]).report(CLASSES, RunStats(), seconds=1.0, both=NO_CLIPS)

    assert summary(none, Path()).splitlines()[:4] == [
        "0 of 1 annotated clip ok; missing: 1 private",
        (
            "of the missing clips, 1 will not be requested again from these sources "
            "(a further --source may have them; to try these again: --retry permanent)"
        ),
        "private: id2_000003_000005",
        "of the ok clips, 0 silent, 0 with a still picture",
    ]


def test_a_video_in_several_splits_is_told() -> None:
    """A clip that could not be built is in none."""
    lost = outcome(clip(1, split="test"), Status.PRIVATE)
    both = [outcome(clip(0)), outcome(clip(0, split="test")), outcome(clip(1)), lost]
    told = summary(counted(both).report(CLASSES, RunStats(), seconds=1.0, both=NO_CLIPS), Path())

    assert "\n1 video has clips in more than one split (such as id0: test, train), so scores may be too high\n" in told


def test_the_first_three_clips_of_each_reason_are_named() -> None:
    short = [outcome(clip(number), Status.TOO_SHORT) for number in range(5)]
    told = summary(counted(short).report(CLASSES, RunStats(), seconds=1.0, both=NO_CLIPS), Path())

    assert "too_short: id0_000003_000005, id1_000003_000005, id2_000003_000005 and 2 more\n" in told


def test_two_remarks_of_one_clip_are_counted_each() -> None:
    both = dataclasses.replace(outcome(clip(0)), detail=f"{SPAN_ALONE}; {ONE_OF_SEVERAL}")
    report = counted([both, dataclasses.replace(outcome(clip(1)), detail=SPAN_ALONE)]).report(
        CLASSES, RunStats(), seconds=1.0, both=NO_CLIPS
    )

    assert report["remarks"] == {SPAN_ALONE: 2, ONE_OF_SEVERAL: 1}


def test_remarks_that_a_user_can_mend_come_first_and_those_of_another_file_are_one_line() -> None:
    others = [
        f"{ANOTHER_FILE} {status}" for status in ("too_short", "corrupt", "no_audio", "no_video", "not_in_source")
    ]
    details = [*others, *others, ONE_OF_SEVERAL, "made up", SPAN_ALONE]
    made = [dataclasses.replace(outcome(clip(number)), detail=detail) for number, detail in enumerate(details)]
    report = counted(made).report(CLASSES, RunStats(), seconds=1.0, both=NO_CLIPS)

    told = summary(report, Path()).partition("with a still picture\n")[2].splitlines()

    assert told[0].startswith("1 file ends before the end of its span")
    assert told[1:4] == [
        f"of the ok clips, 1 {ONE_OF_SEVERAL}",
        f"of the ok clips, 10 {ANOTHER_FILE} not usable",
        "of the ok clips, 1 made up",
    ]


def test_a_sound_that_is_not_told_to_be_the_original_is_flagged() -> None:
    given = outcome(clip(0))
    assert given.media is not None
    tracks = ("", "original", "default", "unknown", "dubbed-auto")
    medias = (dataclasses.replace(given.media, audio_track=track) for track in tracks)
    outcomes = [Outcome(clip=clip(n), status=Status.OK, media=media) for n, media in enumerate(medias)]

    report = counted(outcomes).report(CLASSES, tally(), seconds=8.0, both=NO_CLIPS)

    assert report["flags"]["dubbed"] == 3
    told = "5 silent, 0 with a still picture, 3 with a sound track not known to be the original"
    assert f"of the ok clips, {told}" in summary(report, Path("data"))


def test_a_run_that_had_nothing_to_do_says_nothing_of_it() -> None:
    counts = counted(OUTCOMES[:2])
    report = counts.report(CLASSES, RunStats(), seconds=0.0, both=NO_CLIPS)

    assert counts.complete
    assert not counted(OUTCOMES).complete
    assert report["this_run"]["clips_per_second"] == 0.0
    assert "this run" not in summary(report, Path())
    assert "least covered" not in summary(report, Path())


def test_only_the_least_covered_classes_are_named() -> None:
    many = [outcome(clip(number, label=f"l{number:02d}"), Status.PRIVATE) for number in range(30)]
    named = summary(counted(many).report(CLASSES, RunStats(), seconds=1.0, both=NO_CLIPS), Path()).partition(
        "least covered: "
    )[2]

    assert named.splitlines()[0].count("(train) 0/1") == LEAST_COVERED
