"""How far a build is, told beside the process that builds."""

import contextlib
import dataclasses
import json
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from kinetics_sounds import files, manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip, Media, Outcome, Status
from kinetics_sounds.ledger import Ledger
from kinetics_sounds.pipelines import build
from kinetics_sounds.pipelines.fetching import status

MEDIA = Media(
    path="clips/a.mp4",
    bytes=1,
    sha256="ab" * 32,
    duration_seconds=10.0,
    fps=25.0,
    width=340,
    height=256,
    num_frames=250,
    audio_rate=44_100,
    audio_channels=2,
    audio_rms_db=-20.0,
    audio_offset_seconds=0.0,
    silent=False,
    still=False,
    other_streams="",
    rotation=0,
    decode_errors=0,
)


MINE = ClassList("mine", ("bowling",), "")


def outcome(name: str, status: Status, source: str = "youtube") -> Outcome:
    clip = Clip(name * 11, 0, 10, "bowling", "val")
    return Outcome(clip=clip, status=status, source=source, media=MEDIA if status is Status.OK else None)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A build of ten clips, of which four have a reply: a was private in one source, and is in another."""
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record_run(10, min_coverage=0.9)
        ledger.record([outcome("a", Status.PRIVATE, "local:/a"), outcome("a", Status.OK), outcome("b", Status.OK)])
        ledger.record([outcome("c", Status.NETWORK), outcome("c", Status.PRIVATE), outcome("d", Status.OK)])
    return tmp_path


def spread(out: Path, *, seconds: float) -> None:
    """Have the run begin so long ago, with its six replies evenly spread until now."""
    with contextlib.closing(sqlite3.connect(out / "ledger.sqlite")) as database, database:
        database.execute("UPDATE runs SET time = ?", (time.time() - seconds,))
        database.execute("UPDATE outcomes SET time = ? + ? * id / 6.0", (time.time() - seconds, seconds))
    database.close()


def test_clips_rate_and_time_are_told_of_a_build_that_runs(out: Path) -> None:
    """Six replies in 60 seconds, the first of them after 10: 0.12 a second, 432 an hour, and six clips have none yet."""
    spread(out, seconds=60)

    found = status.status(out)

    assert (found["clips"], found["answered"], found["statuses"]) == (10, 4, {"ok": 3, "private": 1})
    assert found["state"].startswith("running, process ")
    assert found["rate"] == pytest.approx(6 / 50, rel=0.05)
    assert found["seconds_left"] == pytest.approx(50, rel=0.05)
    assert status.format_status(found).splitlines() == [
        f"{out}: {found['state']}, started 1 min ago",
        "clips: 4 of 10 done (ok 3, private 1)",
        f"rate: {3600 * found['rate']:.0f} clips an hour, about {found['seconds_left']:.0f} s left",
    ]


def test_it_is_told_while_a_build_holds_the_folder_and_changes_nothing(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with files.exclusive(out, command="ks-build"):
        before = {path.name: path.read_bytes() for path in out.iterdir()}

        assert build.main(["--status", "--out", str(out), "--json"]) == 0

        assert json.loads(capsys.readouterr().out)["answered"] == 4
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(("clips", "state"), [(10, "stopped"), (4, "stopped"), (4, "ended")])
def test_a_build_whose_process_is_gone_has_no_rate(clips: int, state: str, out: Path) -> None:
    """It was stopped where it wrote no manifest, and ended where it did and all four have a reply."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    with contextlib.closing(sqlite3.connect(out / "ledger.sqlite")) as database, database:
        database.execute("UPDATE runs SET process = ?, clips = ?", (gone.pid, clips))
    database.close()

    if state == "ended":
        manifest.write(out / "manifest.parquet", MINE, [outcome(name, Status.OK) for name in "abcd"])

    found = status.status(out)

    assert (found["state"], found["rate"], found["seconds_left"]) == (state, None, None)
    remedy = "; run the same command to resume" if state == "stopped" else ""
    first = status.format_status(found).splitlines()[0]
    assert first.startswith(f"{out}: {state}, started ")
    assert first.endswith(f" ago{remedy}")


def test_clips_that_are_not_requested_any_more_are_not_counted(out: Path) -> None:
    """Of the four clips with a reply, the last run requested a and b: before it wrote its manifest, that is not known."""
    with Ledger(out / "ledger.sqlite") as ledger:
        ledger.record_run(2, min_coverage=0.9)
    found = status.status(out)
    assert (found["clips"], found["answered"], found["not_requested"]) == (4, 4, 2)
    assert "at least 2 of them of earlier runs' rows" in status.format_status(found)

    asked = [outcome("a", Status.OK), outcome("b", Status.OK)]
    manifest.write(out / "manifest.parquet", MINE, asked)

    found = status.status(out)
    assert (found["clips"], found["answered"], found["not_requested"], found["statuses"]) == (2, 2, 0, {"ok": 2})


def test_a_build_of_another_machine_is_told_with_its_name(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")

    assert status.status(out)["state"].startswith(f"started on {here}, process ")


def test_a_ledger_from_before_runs_were_recorded_is_counted(out: Path) -> None:
    with contextlib.closing(sqlite3.connect(out / "ledger.sqlite")) as database, database:
        database.execute("DROP TABLE runs")
    database.close()

    found = status.status(out)

    assert (found["state"], found["answered"], found["clips"], found["rate"]) == ("unknown", 4, 4, None)


def test_a_folder_without_a_build_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--status", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path}: has no build; give the --out of a ks-build" in capsys.readouterr().err


def test_every_build_records_its_run(out: Path) -> None:
    with Ledger(out / "ledger.sqlite") as ledger:
        first = ledger.last_run()
        ledger.record_run(12, min_coverage=0.9)
        last = ledger.last_run()

    assert first is not None
    assert last is not None
    assert dataclasses.replace(last, time=first.time) == dataclasses.replace(first, clips=12)
