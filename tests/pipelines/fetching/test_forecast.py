"""What a dry run would ask for, and what it expects: numbers that a reader can add up."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.errors import SourceError
from kinetics_sounds.ledger import Ledger, PartEntry
from kinetics_sounds.pipelines import build
from kinetics_sounds.pipelines.fetching.build_state import BuildState
from kinetics_sounds.pipelines.fetching.forecast import _hours, forecast, forecast_text
from kinetics_sounds.sources import TarPart

from ..mirror import Mirror, Place, clips, key, tar
from .test_driver import Said
from .test_summary import clip, outcome


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
    how: dict[str, Any] = {"again": again, "workers": 2, "min_coverage": 0.9, "out": Path("new/build")}
    document = forecast(asked, CLIPS, known or BuildState(), read or {}, **how)
    assert json.loads(json.dumps(document)) == document
    text: str = forecast_text(document)
    return text.splitlines()


def test_a_forecast_adds_up_over_three_sources() -> None:
    local = Said(has={f"id{number}" for number in range(400)})
    youtube = Said(videos_per_hour=100.0, share=dict.fromkeys(("train", "val", "test"), 0.8))

    assert lines({"local:/a": local, "cvdf": Parts("a", "b"), "youtube": youtube}) == [
        "would request from local:/a: 400 clips",
        "  expect 400 clips at most, in about 9 minutes",  # 400 clips of 2.8 s on two workers
        "would stream cvdf for 600 clips: 2 of 2 parts, about 144.00 GB, none of which is stored",
        "  expect 300 clips at most, in about 2.0 hours",
        "would request from youtube: 300 clips",
        "  at 100 videos per hour, about 4.50 GB to download",
        "  expect 240 clips at most, in about 3.0 hours",
        (
            "expect 940 of 1000 clips at most, about 5.2 hours on 2 workers, "
            "1.41 GB more on disk (less where a source's own files are linked)"
        ),
    ]


def test_a_forecast_counts_out_what_is_there_and_what_was_said_for_good() -> None:
    known = BuildState()
    known.ok.update({clip(number).key: "youtube" for number in range(100)})
    known.terminal["youtube"].update(clip(number).key for number in range(100, 250))

    assert lines({"youtube": Said(videos_per_hour=300.0)}, known=known) == [
        "100 clips built already",
        "would request from youtube: 750 clips",
        "  at 300 videos per hour, about 11.25 GB to download",
        "  150 clips without success before, not tried again (to try: --retry retry,stop,permanent)",
        "  expect 750 clips at most, in about 2.5 hours",
        (
            "expect 850 of 1000 clips at most, about 2.5 hours on 2 workers, "
            "1.12 GB more on disk (less where a source's own files are linked)"
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


def test_where_nothing_is_found_no_time_is_told() -> None:
    said = lines({"local:/a": Said(has=set())})

    assert said == [
        "would request from local:/a: 0 clips",
        "  expect 0 clips",
        "1000 clips not available from any source",
        f"  such as {', '.join(each.key for each in CLIPS[:5])}",
        "expect 0 of 1000 clips at most",
    ]


def test_a_forecast_says_where_the_clips_may_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))

    assert lines({"youtube": Said()})[-1].endswith("linked); 1.0 MB are free there: they may not fit")


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
    assert f"would request from {sources[0]}: 1 clip" in said
    assert f"would stream {mirror.spec} for 2 clips: 2 of 2 parts, about 2.90 GB, none of which is stored" in said
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
    (place.out / "clips/humming").mkdir(parents=True)
    (place.out / f"clips/humming/{key('a')}.mp4").write_bytes(b"abc")
    before = {path: path.stat().st_mtime_ns for path in place.out.rglob("*")}

    assert place.build("--dry_run") == 0

    assert "1 clip built already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in place.out.rglob("*")} == before


def test_a_dry_run_downloads_no_annotations_to_stay(place: Place, mirror: Mirror) -> None:
    mirror.parts("train", one=tar())
    place.annotate("a")
    words = place.arguments("--dry_run")
    mirror.put("list.csv", (place.root / "list.csv").read_bytes())
    words[words.index("--annotations") + 1] = f"{mirror.spec.removeprefix('cvdf:')}/list.csv"

    assert build.main(words) == 0
    assert not place.out.exists()
