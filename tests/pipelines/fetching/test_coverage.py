"""Clips that an earlier run judged by another --min_coverage: the user learns how many, and how to judge them again."""

import dataclasses
import json
from pathlib import Path

import pytest

from kinetics_sounds.clip import Clip, Outcome, Status
from kinetics_sounds.ledger import Ledger
from kinetics_sounds.pipelines import build
from kinetics_sounds.pipelines.fetching.build_state import BuildState
from kinetics_sounds.pipelines.fetching.coverage import judged_otherwise, lines

from ..conftest import video
from .test_summary import outcome

A, B, C, D = (Clip(f"id{number}", 3, 5, "humming", "train") for number in range(4))


def rejected(clip: Clip, status: Status = Status.TOO_SHORT, source: str = "local:/a") -> Outcome:
    return dataclasses.replace(outcome(clip, status), source=source)


def judged(
    folder: Path, *runs: tuple[float, list[Outcome]], now: float, ok: tuple[Clip, ...] = ()
) -> dict[str, object]:
    with Ledger(folder / "ledger.sqlite") as ledger:
        for coverage, outcomes in runs:
            ledger.record_run(4, min_coverage=coverage)
            ledger.record(outcomes)
        ledger.record_run(4, min_coverage=now)
        known = BuildState(ok={clip.key: "local:/a" for clip in ok})
        found: dict[str, object] = judged_otherwise(ledger, known, (A, B, C, D), now)
        return found


def test_only_what_could_be_judged_otherwise_is_counted(tmp_path: Path) -> None:
    """Accepted by less than now, or too short for more: a clip accepted by more would be again, a corrupt one opens with none."""
    first = [outcome(A), rejected(B), rejected(C, Status.PRIVATE), rejected(D, Status.CORRUPT)]

    for now, accepted, lost in ((0.9, {}, {}), (0.95, {"0.9": 1}, {}), (0.5, {}, {"0.9": 1})):
        folder = tmp_path / str(now)
        assert judged(folder, (0.9, first), now=now, ok=(A,)) == {
            "min_coverage": now,
            "accepted": accepted,
            "rejected": lost,
        }


def test_the_run_that_judged_last_counts(tmp_path: Path) -> None:
    """B was rejected by 0.9, and again by 0.6 of the second run; A was accepted by the second."""
    runs = ((0.9, [rejected(A), rejected(B)]), (0.6, [outcome(A), rejected(B)]))

    assert judged(tmp_path, *runs, now=0.9, ok=(A,))["accepted"] == {"0.6": 1}
    assert judged(tmp_path, now=0.5, ok=(A,))["rejected"] == {"0.6": 1}


def test_a_clip_rejected_from_two_sources_is_one_clip(tmp_path: Path) -> None:
    both = [rejected(A), rejected(A, source="cvdf")]

    assert judged(tmp_path, (0.9, both), now=0.5)["rejected"] == {"0.9": 1}


def test_clips_of_an_older_version_are_not_counted(tmp_path: Path) -> None:
    """By what they were judged was not recorded."""
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record([rejected(A), outcome(B)])

    assert judged(tmp_path, now=0.5, ok=(B,)) == {"min_coverage": 0.5, "accepted": {}, "rejected": {}}


def test_the_text_says_how_to_judge_again() -> None:
    section = {"min_coverage": 0.95, "accepted": {"0.5": 1}, "rejected": {"0.99": 2}}

    assert list(lines(section, Path("data/k32"))) == [
        (
            "1 clip accepted by an earlier run with --min_coverage 0.5, kept; to judge by 0.95, build into another --out with "
            "--source local:data/k32/clips first"
        ),
        "2 clips rejected by an earlier run with --min_coverage 0.99; to judge by 0.95, add --retry retry,stop,too_short",
    ]


@pytest.mark.slow
def test_what_the_text_says_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of three of the four seconds asked for: rejected by 0.9, retried and accepted by 0.5, rejected in another folder."""
    (tmp_path / "videos").mkdir()
    video(tmp_path / "videos/short-1.mp4", seconds=3)
    (tmp_path / "classes.txt").write_text("humming\n")
    (tmp_path / "list.csv").write_text("label,youtube_id,time_start,time_end,split\nhumming,short-1,0,4,train\n")

    def run(out: str, source: str, coverage: str, *more: str) -> tuple[int, str]:
        words = ["--classes", str(tmp_path / "classes.txt"), "--annotations", str(tmp_path / "list.csv"), *more]
        place = ["--out", str(tmp_path / out), "--source", f"local:{tmp_path / source}"]
        code = build.main([*words, *place, "--splits", "train", "--workers", "1", "--min_coverage", coverage])
        return code, capsys.readouterr().out

    assert run("out", "videos", "0.9")[0] == 1
    code, said = run("out", "videos", "0.5")
    assert (
        code,
        "1 clip rejected by an earlier run with --min_coverage 0.9; to judge by 0.5, add --retry retry," in said,
    ) == (1, True)
    assert run("out", "videos", "0.5", "--retry", "retry,stop,too_short")[0] == 0
    code, said = run("out", "videos", "0.9")
    assert (code, "1 clip accepted by an earlier run with --min_coverage 0.5, kept" in said) == (0, True)
    assert json.loads((tmp_path / "out/report.json").read_text())["judged_otherwise"]["accepted"] == {"0.5": 1}
    assert run("strict", "out/clips", "0.9")[0] == 1
