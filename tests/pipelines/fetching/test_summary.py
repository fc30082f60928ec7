"""Numbers that a reader can add up: what a build has, and what it would ask for."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import fingerprints, manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip, Media, Outcome, Status
from kinetics_sounds.errors import SourceError
from kinetics_sounds.ledger import Ledger, PartEntry
from kinetics_sounds.pipelines.fetching.build_state import BuildState
from kinetics_sounds.pipelines.fetching.driver import RunStats
from kinetics_sounds.pipelines.fetching.summary import LEAST_COVERED, Account, _hours, forecast, forecast_text, summary
from kinetics_sounds.sources import TarPart

from ..mirror import Mirror, Place, clips, key, tar
from .test_driver import Said

CLASSES = ClassList("mine", ("humming", "tapping"), "a note")


def clip(number: int, *, label: str = "humming", split: str = "train") -> Clip:
    return Clip(f"id{number}", 3, 5, label, split)


def outcome(clip: Clip, status: Status = Status.OK, *, size: int = 0, source: str = "local:/a") -> Outcome:
    media = Media(
        path=f"clips/{clip.key}.mp4",
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
        "flags": {"silent": 2, "still": 1, "dubbed": 0},
        "remarks": {},
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
        "3 of 5 annotated clips are ok (ok 3, private 1, network 1)",
        "by kind: ok 3, permanent 1, retry 1; from: local:/a 2, cvdf 1",
        "flagged among the ok ones: 2 silent, 1 with a still picture",
        "train: 2 of 4 (50.0%) in 2 classes, 0 of them complete",
        "val: 1 of 1 (100.0%) in 1 classes, 1 of them complete",
        "least covered: tapping (train) 0/1, humming (train) 2/3",
        "this run: 4 clips in 8 s (0.5 a second), 7.5 MB downloaded; workers' time: fetch 56.8 s, cut 12.3 s, place 0 s",
        "clips: 3.00 GB",
        "manifest: data/mine/manifest.parquet (and .csv)",
        "report: data/mine/report.json; to look at the clips: ks-view data/mine",
    ]


def test_a_sound_that_is_not_told_to_be_the_original_is_flagged() -> None:
    given = outcome(clip(0))
    assert given.media is not None
    tracks = ("", "original", "default", "unknown", "dubbed-auto")
    medias = (dataclasses.replace(given.media, audio_track=track) for track in tracks)
    outcomes = [Outcome(clip=clip(n), status=Status.OK, media=media) for n, media in enumerate(medias)]

    report = counted(outcomes).report(CLASSES, tally(), seconds=8.0, both=NO_CLIPS)

    assert report["flags"]["dubbed"] == 3
    told = "5 silent, 0 with a still picture, 3 whose sound track is not known to be the original"
    assert f"flagged among the ok ones: {told}" in summary(report, Path("data"))


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


# Before it begins.


class Parts:
    """An archive of made-up parts."""

    notice, versions, downloaded, depth = "", "", 0, 1
    part_bytes = 72_000_000_000  # an hour each at 20 MB a second
    patterns = ("ID_000027_000037.mp4",)
    share = {"train": 0.5, "val": 1.0, "test": 1.0}  # noqa: RUF012 - a stand-in

    def __init__(self, *names: str) -> None:
        self.parts_named = names

    def parts(self, _splits: object) -> list[TarPart]:
        if not self.parts_named:
            raise SourceError("the server is silent")
        return [TarPart(name, f"/{name}", "train", replacement=False) for name in self.parts_named]

    def names(self, clip: Clip) -> dict[str, bool | None]:
        return {clip.key: True}

    def near(self, _clip: Clip) -> dict[str, str]:
        return {}

    def stream(self, *_: object) -> None:
        raise NotImplementedError


CLIPS = [clip(number) for number in range(1000)]


def lines(
    asked: dict[str, object],
    *,
    known: BuildState | None = None,
    read: dict[str, dict[str, PartEntry]] | None = None,
    again: tuple[str, ...] = ("retry", "stop"),
) -> list[str]:
    document = forecast(asked, CLIPS, known or BuildState(), read or {}, again=again, workers=2, min_coverage=0.9)
    assert json.loads(json.dumps(document)) == document
    text: str = forecast_text(document)
    return text.splitlines()


def test_a_forecast_adds_up_over_three_sources() -> None:
    local = Said(has={f"id{number}" for number in range(400)})
    youtube = Said(videos_per_hour=100.0, share=dict.fromkeys(("train", "val", "test"), 0.8))

    assert lines({"local:/a": local, "cvdf": Parts("a", "b"), "youtube": youtube}) == [
        "would request from local:/a: 400 clips",
        "  expect 400 clips at most, in about 9 minutes",  # 400 clips of 2.8 s on two workers
        "would stream cvdf for 600 clips: 2 of 2 parts, about 144 GB, none of which is stored",
        "  expect 300 clips at most, in about 2.0 hours",
        "would request from youtube: 300 clips",
        "  at 100 videos per hour, about 4.5 GB to download",
        "  expect 240 clips at most, in about 3.0 hours",
        (
            "expect 940 of 1000 clips at most, about 5.2 hours on 2 workers, "
            "1.4 GB more on disk (less where a source's own files are linked)"
        ),
    ]


def test_a_forecast_counts_out_what_is_there_and_what_was_said_for_good() -> None:
    known = BuildState()
    known.ok.update({clip(number).key: "youtube" for number in range(100)})
    known.terminal["youtube"].update(clip(number).key for number in range(100, 250))

    assert lines({"youtube": Said(videos_per_hour=300.0)}, known=known) == [
        "100 clips exist already",
        "would request from youtube: 750 clips",
        "  at 300 videos per hour, about 11.2 GB to download",
        "  expect 750 clips at most, in about 2.5 hours",
        "150 clips are not available from any source",
        (
            "expect 850 of 1000 clips at most, about 2.5 hours on 2 workers, "
            "1.1 GB more on disk (less where a source's own files are linked)"
        ),
    ]


def test_a_forecast_counts_only_the_parts_that_would_be_read() -> None:
    whole = PartEntry(status=Status.OK, detail="", names=frozenset({"other_000000_000010"}))
    held = PartEntry(status=Status.OK, detail="", names=frozenset({clip(7).key}))
    bad = PartEntry(status=Status.CORRUPT, detail="damaged", names=frozenset())
    read = {"cvdf": {"whole": whole, "held": held, "bad": bad}}

    def told(*again: str) -> str:
        return lines({"cvdf": Parts("whole", "held", "bad", "new")}, read=read, again=again)[0]

    assert "2 of 4 parts" in told("retry")
    assert "3 of 4 parts" in told("retry", "corrupt")


def test_a_forecast_without_a_network_says_so() -> None:
    said = lines({"cvdf": Parts()})

    assert said[0] == "would stream cvdf for 1000 clips: its parts cannot be listed now (the server is silent)"


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.0, "about 1 minute"),
        (0.5, "about 30 minutes"),
        (1.26, "about 1.3 hours"),
        (47.0, "about 47.0 hours"),
        (60.0, "about 2.5 days"),
    ],
)
def test_a_time_is_said_in_its_unit(hours: float, text: str) -> None:
    assert _hours(hours) == text


def test_a_dry_run_over_three_sources_writes_nothing(
    place: Place,
    mirror: Mirror,
    sound: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (place.root / "here").mkdir()
    (place.root / f"here/{key('a')}.mp4").write_bytes(sound)
    mirror.parts("train", one=tar(*clips(sound, "b")), two=tar())
    place.annotate("a", "b", "c")
    sources = (f"local:{place.root / 'here'}", mirror.spec, "youtube")

    assert place.build("--dry_run", sources=sources) == 0

    said = capsys.readouterr().out
    assert f"would request from {sources[0]}: 1 clips" in said
    assert f"would stream {mirror.spec} for 2 clips: 2 of 2 parts, about 3 GB, none of which is stored" in said
    assert "would request from youtube: 0 clips" in said  # what the mirror lacks: 2 clips times 0.025
    assert "expect 3 of 3 clips at most" in said
    assert not place.out.exists()
    assert mirror.parts_read() == {}


def test_a_dry_run_leaves_a_build_as_it_is(
    place: Place,
    mirror: Mirror,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirror.parts("train", one=tar())
    place.annotate("a", "b")
    with Ledger(place.out / "ledger.sqlite") as ledger:
        ledger.record([outcome(Clip("a", 3, 5, "humming", "train"), size=3), outcome(clip(1))])
    (place.out / "clips").mkdir()
    (place.out / f"clips/{key('a')}.mp4").write_bytes(b"abc")
    before = {path: path.stat().st_mtime_ns for path in place.out.rglob("*")}

    assert place.build("--dry_run") == 0

    assert "1 clips exist already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in place.out.rglob("*")} == before


def test_a_dry_run_downloads_no_annotations_to_stay(place: Place, mirror: Mirror) -> None:
    mirror.parts("train", one=tar())
    place.annotate("a")
    words = place.arguments("--dry_run")
    mirror.put("list.csv", (place.root / "list.csv").read_bytes())
    words[words.index("--annotations") + 1] = f"{mirror.spec.removeprefix('cvdf:')}/list.csv"

    from kinetics_sounds.pipelines import build

    assert build.main(words) == 0
    assert not place.out.exists()
