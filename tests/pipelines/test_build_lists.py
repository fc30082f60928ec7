"""ks-build --clips: exactly what a list names is built, and every row has its end told."""

import contextlib
import csv
import errno
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kinetics_sounds import cores, files, fingerprints, manifest
from kinetics_sounds.errors import FaultError, MediaError, StoppedError
from kinetics_sounds.ledger import Ledger
from kinetics_sounds.media import ffmpeg, likeness
from kinetics_sounds.pipelines import build, executors
from kinetics_sounds.pipelines.attempts import Refused
from kinetics_sounds.pipelines.executors import Failed
from kinetics_sounds.pipelines.fetching import comparison, list_report, verdicts
from kinetics_sounds.pipelines.fetching.list_plan import Asked, plan_lists
from kinetics_sounds.pipelines.process_pool import Cause

from .conftest import Inline, inline, video

if TYPE_CHECKING:
    from .conftest import Folder


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips, cut to their spans."""
    folder = tmp_path_factory.mktemp("videos")
    for number, key in enumerate(
        ("aaaaaaaaaaa_000007_000009", "bbbbbbbbbbb_000000_000002", "-cccccccccc_000003_000005")
    ):
        video(folder / f"{key}.mp4", seconds=2, seed=number)
    return folder


ROWS = (
    "archery,aaaaaaaaaaa,7,9,train",
    "archery,bbbbbbbbbbb,0,2,train",
    "=tap dancing,-cccccccccc,3,5,val",
    "archery,ddddddddddd,3,5,val",
)


def call(*words: object, out: Path, source: Path) -> int:
    code: int = build.main([*map(str, words), "--source", f"local:{source}", "--out", str(out), "--workers", "1"])
    return code


def report(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "report.json").read_text())
    return document


def rows(out: Path) -> list[tuple[str, str, str, str]]:
    found = manifest.read(out / "manifest.parquet").outcomes
    return [(row.clip.key, row.clip.label, row.clip.split, str(row.status)) for row in found]


def write(path: Path, lines: Iterable[str], *, head: str = "label,youtube_id,time_start,time_end,split") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*([head] if head else []), *lines, ""]))
    return path


def publish(out: Path, folder: Path) -> Path:
    """A published folder of a build, as another would have made it."""
    built = manifest.read(out / "manifest.parquet")
    names = [
        "label",
        "youtube_id",
        "time_start",
        "time_end",
        "split",
        "key",
        "status",
        "label_index",
        "bytes",
        "sha256",
    ]
    (folder / "splits").mkdir(parents=True)
    for split in ("train", "val"):
        with (folder / f"splits/{split}.csv").open("w", newline="") as text:
            table = csv.writer(text, lineterminator="\n")
            table.writerow(names)
            for each in built.outcomes:
                clip, media = each.clip, each.media
                cells = [
                    clip.label,
                    clip.youtube_id,
                    clip.time_start,
                    clip.time_end,
                    clip.split,
                    clip.key,
                    each.status.value,
                ]
                cells += [built.classes.labels.index(clip.label), *((media.bytes, media.sha256) if media else ("", ""))]
                if clip.split == split:
                    table.writerow([files.for_people(str(cell)) for cell in cells])
    (folder / "classes.txt").write_text("# as built\n" + "\n".join(built.classes.labels) + "\n")
    ok = [each.clip for each in built.outcomes if each.media]
    stated = {
        "classes": built.classes.name,
        "selection": fingerprints.selection((clip.key, clip.label, clip.split) for clip in ok),
        "splits": {"train": {}, "val": {}},
    }
    (folder / "fingerprints.json").write_text(json.dumps(stated))
    return folder


@pytest.fixture(scope="module")
def published(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        assert call("--clips", write(root / "mine.csv", ROWS), out=root / "out", source=videos) == 1
    return publish(root / "out", root / "mine")


def test_a_list_is_built_and_each_row_accounted_for(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the test list of OGM-GE, where the annotations know the ends."""
    annotations = write(tmp_path / "annotations.csv", [*ROWS, "archery,bbbbbbbbbbb,0,5,train"])
    names = [
        "aaaaaaaaaaa_7,10,1",
        "bbbbbbbbbbb_0,10,1",
        "-cccccccccc_3,10,0",
        "ddddddddddd_3,10,1",
        "zzzzzzzzzzz_1,10,0",
    ]
    paper = write(tmp_path / "my_test.txt", names, head="")
    (tmp_path / "classes.txt").write_text("archery\n=tap dancing\n")
    words = ["--clips", paper, "--annotations", annotations, "--classes", tmp_path / "classes.txt"]

    assert call(*words, out=tmp_path / "out", source=videos) == 1

    assert sorted(rows(tmp_path / "out")) == [
        ("-cccccccccc_000003_000005", "=tap dancing", "test", "ok"),
        ("aaaaaaaaaaa_000007_000009", "archery", "test", "ok"),
        ("ddddddddddd_000003_000005", "archery", "test", "not_in_source"),
    ]
    found = report(tmp_path / "out")["lists"]
    assert found["splits"] == {
        "test": {
            "rows": 5,
            "in_annotations": 3,
            "ambiguous": 1,
            "not_in_annotations": 1,
            "unusable": 0,
            "other_split": 3,
            "asked": 3,
            "ok": 2,
            "vanished": 0,
            "not_had": 1,
        }
    }
    assert found["lacking"] == {"ddddddddddd_000003_000005": "not_in_source"}
    assert found["files"] == [{"file": str(paper), "format": "ogm_ge", "split": "test", "published": None}]
    assert [text.partition(": ")[2][:13] for text in found["named"]["ambiguous"]] == ["'bbbbbbbbbbb_"]
    shown = capsys.readouterr().out
    assert (
        "test: 5 rows of the lists, 3 in the annotations, 3 clips requested, 2 ok, 0 gone or unusable, 1 not found yet"
        in shown
    )
    assert "list: " in shown
    assert "split test for rows without one, from the file name" in shown


def test_rows_that_cannot_be_built_are_no_success(videos: Path, tmp_path: Path) -> None:
    """All that is asked for is there, and still the list is not built."""
    whole = write(tmp_path / "whole.csv", ROWS[:3])
    short = write(tmp_path / "short.csv", [*ROWS[:3], "archery,../x,0,2,val"])

    assert call("--clips", whole, out=tmp_path / "whole", source=videos) == 0
    assert call("--clips", short, out=tmp_path / "short", source=videos) == 1
    assert call("--clips", whole, "--dry_run", out=tmp_path / "none", source=videos) == 0
    assert call("--clips", short, "--dry_run", out=tmp_path / "none", source=videos) == 1
    assert not (tmp_path / "none").exists()
    assert rows(tmp_path / "whole") == rows(tmp_path / "short")
    assert report(tmp_path / "short")["lists"]["splits"]["unknown"]["unusable"] == 1


def test_a_dry_run_shows_the_counts(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "list.csv", ROWS)

    call("--clips", path, "--dry_run", "--json", out=tmp_path / "out", source=videos)

    document = json.loads(capsys.readouterr().out)
    assert document["annotated"] == 4
    assert document["lists"]["splits"]["train"]["rows"] == document["lists"]["splits"]["train"]["asked"] == 2


def test_a_published_folder_gives_the_same_selection_and_bytes(
    published: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the publisher never had is not asked for; labels and ids that a spreadsheet would run come through whole."""
    code = call("--clips", published, out=tmp_path / "out", source=videos)

    found = report(tmp_path / "out")
    stated = json.loads((published / "fingerprints.json").read_text())["selection"]
    assert code == 0
    assert rows(tmp_path / "out") == [
        ("aaaaaaaaaaa_000007_000009", "archery", "train", "ok"),
        ("bbbbbbbbbbb_000000_000002", "archery", "train", "ok"),
        ("-cccccccccc_000003_000005", "=tap dancing", "val", "ok"),
    ]
    assert (
        found["lists"]["selection_built"] == found["lists"]["selection"] == found["lists"]["selection_stated"] == stated
    )
    assert found["lists"]["splits"]["val"]["never_published"] == 1
    assert found["compared"] == {
        "counts": {"same": 3, "alike": 0, "different": 0, "unknown": 0, "lacking": 0},
        "clips": {},
    }
    shown = capsys.readouterr().out
    assert "the selection is that of the lists" in shown
    assert "rows of clips that the publisher did not have: 1" in shown
    assert "clips beside the published ones: 3 same, 0 different" in shown


def test_a_list_of_clips_that_are_shorter_than_the_build_wants_names_the_option(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of four seconds, accepted by its publisher: told before the build begins, and after it with what to retry."""
    shutil.copy(videos / "bbbbbbbbbbb_000000_000002.mp4", tmp_path / "eeeeeeeeeee_000000_000004.mp4")
    shutil.copy(videos / "aaaaaaaaaaa_000007_000009.mp4", tmp_path)
    lines = write(tmp_path / "mine.csv", [ROWS[0], "archery,eeeeeeeeeee,0,4,train"])
    assert call("--clips", lines, "--min_coverage", "0.4", out=tmp_path / "first", source=tmp_path) == 0
    capsys.readouterr()
    words, place = ["--clips", tmp_path / "first/manifest.csv"], {"out": tmp_path / "out", "source": tmp_path}

    assert call(*words, **place) == 1

    line = (
        "published clips whose picture covers less of their span than --min_coverage: 1 (the least 0.5); "
        "to build them too, add "
    )
    before, after = capsys.readouterr().out.split("1 of 2 annotated clips ok")
    assert f"{line}--min_coverage 0.5 (or a lower value, where the sound is shorter)\n" in before
    assert f"{line}--min_coverage 0.5 --retry retry,stop,too_short (or a lower value" in after
    assert report(tmp_path / "out")["lists"]["shorter_than_min_coverage"] == {"clips": 1, "least": 0.5}
    assert call(*words, "--min_coverage", "0.5", "--retry", "retry,stop,too_short", **place) == 0
    assert "published clips whose picture" not in capsys.readouterr().out


def test_a_rerun_gives_the_same_manifest_byte_for_byte(published: Path, videos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for out in (first, second, second):
        assert call("--clips", published, out=out, source=videos) == 0

    for name in ("manifest.parquet", "manifest.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_other_bytes_and_lacking_clips_are_told(
    published: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "videos"
    shutil.copytree(videos, other)
    (other / "aaaaaaaaaaa_000007_000009.mp4").unlink()
    video(other / "bbbbbbbbbbb_000000_000002.mp4", seconds=2, seed=9)

    assert call("--clips", published, out=tmp_path / "out", source=other) == 1

    found = report(tmp_path / "out")
    assert found["compared"]["counts"] == {"same": 1, "alike": 0, "different": 0, "unknown": 1, "lacking": 1}
    assert found["compared"]["clips"] == {
        "aaaaaaaaaaa_000007_000009": "lacking",
        "bbbbbbbbbbb_000000_000002": "unknown",
    }
    assert found["lists"]["selection_built"] != found["lists"]["selection"]
    shown = capsys.readouterr().out
    assert "the selection is not that of the lists: 1 of the requested clips is missing" in shown
    assert "  unknown: bbbbbbbbbbb_000000_000002" in shown


def test_rows_that_somebody_changed_are_no_success_and_one_thing_is_said(
    published: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(published, folder)
    val = folder / "splits/val.csv"
    val.write_text(val.read_text().replace("'=tap dancing", "archery"))

    assert call("--clips", folder, "--dry_run", out=tmp_path / "out", source=videos) == 1
    assert call("--clips", folder, out=tmp_path / "out", source=videos) == 1

    assert report(tmp_path / "out")["ok"] == 3
    end = capsys.readouterr().out.rpartition("rows of the lists")[2]
    assert end.count("the selection is not the published one: the folder's rows do not match its fing") == 1
    assert "the selection is that of the lists" not in end


def with_hashes(folder: Path, videos: Path) -> Path:
    """A published folder whose rows tell what is seen and heard."""
    for path in (folder / "splits").glob("*.csv"):
        with path.open(newline="") as text:
            table = list(csv.DictReader(text))
        for row in table:
            file = videos / f"{files.from_people(row['key'])}.mp4"
            row |= likeness.to_row(likeness.describe(file, timeout_seconds=60)) if file.exists() else {}
        with path.open("w", newline="") as text:
            writer = csv.DictWriter(
                text, [*table[0], *likeness.to_row(likeness.Likeness(duration_seconds=0, frames=0, loudness_db=0))]
            )
            writer.writeheader()
            writer.writerows(table)
    return folder


def test_another_clip_is_no_success_and_nothing_is_decoded_twice(
    published: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out, key = tmp_path / "videos", tmp_path / "out", "bbbbbbbbbbb_000000_000002"
    shutil.copytree(videos, other)
    video(other / f"{key}.mp4", seconds=2, seed=9, tone_hz=2_000)
    shutil.copytree(published, tmp_path / "mine")
    folder = with_hashes(tmp_path / "mine", videos)

    assert call("--clips", folder, out=out, source=other) == 1

    first = report(out)["compared"]
    assert first["counts"] == {"same": 2, "alike": 0, "different": 1, "unknown": 0, "lacking": 0}
    assert first["clips"][key].startswith("different: picture")
    assert f"  {first['clips'][key]}: {key}" in capsys.readouterr().out
    looked: list[Path] = []
    monkeypatch.setattr(likeness, "describe", lambda path, **_: looked.append(path))
    assert call("--clips", folder, out=out, source=other) == 1
    assert report(out)["compared"] == first
    assert not looked


def test_the_report_is_that_of_the_manifest_even_if_the_comparison_is_killed(
    published: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("--clips", published, "--limit", "1", out=tmp_path / "out", source=videos)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "compare", killed)
    with contextlib.suppress(KeyboardInterrupt):
        call("--clips", published, out=tmp_path / "out", source=videos)

    assert len(rows(tmp_path / "out")) == report(tmp_path / "out")["annotated"] == 3


def test_what_keeps_clips_from_being_compared_is_told_after_the_report(
    published: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise FaultError("the disk fails")

    monkeypatch.setattr(build, "compare", failing)

    assert call("--clips", published, out=tmp_path / "out", source=videos) == 4
    shown = capsys.readouterr()
    assert "report: " in shown.out
    assert "the disk fails" in shown.err


def judge_by_hash(task: comparison.Task) -> comparison.Verdict:
    """What the published row's hash says; stands in for a look at the file."""
    assert task.path.is_absolute()
    assert task.timeout_seconds == 5
    return "alike" if task.row["picture_hash"] == "p1:00" else "different"


def compared(
    published: Path,
    hashes: dict[str, str],
    *,
    stop: bool = False,
    evaluate: comparison.Evaluate = judge_by_hash,
    workers: int = 1,
) -> dict[str, Any] | None:
    """The published folder beside a build in which all clips have other bytes; hashes of its rows by their ids."""
    for path in (published / "splits").glob("*.csv"):
        head, *lines = path.read_text().splitlines()
        if "picture_hash" in head:
            continue
        told = [f"{line},{next((h for youtube_id, h in hashes.items() if youtube_id in line), '')}" for line in lines]
        path.write_text("\n".join([f"{head},picture_hash", *told, ""]))
    found = build._lists(build.BuildSettings(clips=(str(published),)))
    plan = plan_lists(found, None, Asked(splits=("train", "val")), annotation_lists=list, always=False)
    became = list_report.Became()
    became.built.update({clip.key: ("0" * 64, f"{clip.key}.mp4") for clip in plan.clips})
    how = comparison.How(evaluate=evaluate, workers=workers, timeout_seconds=5)
    document: dict[str, Any] | None = comparison.compare(plan, became, published / "out", how=how, stop=lambda: stop)
    return document


def test_only_clips_of_other_bytes_with_hashes_are_looked_at(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(published, folder)

    document = compared(folder, {"aaaaaaaaaaa": "p1:00", "bbbbbbbbbbb": "p1:ff"})

    assert document is not None
    assert document["counts"] == {"same": 0, "alike": 1, "different": 1, "unknown": 1, "lacking": 0}
    assert document["clips"] == {
        "-cccccccccc_000003_000005": "unknown",
        "aaaaaaaaaaa_000007_000009": "alike",
        "bbbbbbbbbbb_000000_000002": "different",
    }
    assert "  different: bbbbbbbbbbb_000000_000002" in comparison.text(document)


def test_a_comparison_that_is_stopped_claims_nothing(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "mine")

    assert compared(tmp_path / "mine", {"aaaaaaaaaaa": "p1:00"}, stop=True) is None


def test_what_crashes_a_worker_is_unknown(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of three clips one is looked at, and no worker lives to say what it saw."""
    failed = Failed(Cause.TIMED_OUT, "it took too long")
    monkeypatch.setattr(executors, "start", lambda *_, **__: Inline(lambda _task: failed))
    shutil.copytree(published, tmp_path / "mine")

    for _ in range(2):  # it is not kept: it may be known the next time
        document = compared(tmp_path / "mine", {"aaaaaaaaaaa": "p1:00"})

        assert document is not None
        assert document["counts"] == {"same": 0, "alike": 0, "different": 0, "unknown": 3, "lacking": 0}
        assert "aaaaaaaaaaa_000007_000009.mp4: cannot be compared: it took too long" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (Failed(Cause.RAISED, "TypeError: no", "Traceback"), FaultError),
        (OSError(errno.EIO, "Input/output error"), FaultError),
        (OSError(errno.ENOSPC, "No space left"), StoppedError),
        (MediaError("cannot be decoded"), None),
    ],
)
def test_a_bug_and_a_failing_disk_are_not_unknown(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: object, error: type[Exception] | None
) -> None:
    def describe(path: Path, *, timeout_seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert isinstance(found, Exception)
        raise found

    monkeypatch.setattr(likeness, "describe", describe)
    monkeypatch.setattr(likeness, "from_row", lambda _row: None)
    if isinstance(found, Failed):
        monkeypatch.setattr(executors, "start", lambda *_, **__: Inline(lambda _task: found))
    shutil.copytree(published, tmp_path / "mine")

    with pytest.raises(error) if error else contextlib.nullcontext():
        document = compared(tmp_path / "mine", {"aaaaaaaaaaa": "p1:00"}, evaluate=comparison.attempt)
        assert document is not None
        assert document["counts"]["unknown"] == 3


def test_a_clip_that_cannot_be_read_is_not_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool says that it cannot decode the clip, because the disk fails under it."""

    def failing(*_: object, **__: object) -> None:
        raise MediaError("Invalid data found")

    def unread(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(likeness, "from_row", lambda _row: None)
    monkeypatch.setattr(likeness, "describe", failing)
    monkeypatch.setattr(ffmpeg, "read_through", unread)
    task = comparison.Task(("",) * len(comparison.COLUMNS), tmp_path / "a.mp4", "0" * 64, 5)

    found = comparison.attempt(task)

    assert isinstance(found, Refused)
    assert found.error is FaultError


def test_a_published_row_that_says_too_little_is_undecided(tmp_path: Path) -> None:
    task = comparison.Task(("",) * len(comparison.COLUMNS), tmp_path / "a.mp4", "0" * 64, 5)

    assert isinstance(comparison.attempt(task), comparison.Undecided)


def test_no_more_clips_are_compared_at_once_than_there_are_cores(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose --workers are a cluster's."""
    asked: list[int] = []

    def start(_name: str, function: Any, *, workers: int, **_: object) -> Inline:
        asked.append(workers)
        return Inline(function)

    monkeypatch.setattr(executors, "start", start)
    shutil.copytree(published, tmp_path / "mine")

    compared(tmp_path / "mine", {"aaaaaaaaaaa": "p1:00"}, workers=4096)

    assert asked == [cores.usable()]


def never(_task: comparison.Task) -> comparison.Verdict:
    raise AssertionError("it is known")


@pytest.mark.parametrize(
    "change", [None, '{"verdicts"', "[]", '{"schema": 0, "verdicts": {}}', '{"schema": 1, "bounds": {}}', "\0"]
)
def test_verdicts_are_kept_unless_their_file_is_damaged_or_of_other_bounds(
    published: Path, tmp_path: Path, change: str | None
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(published, folder)
    hashes = {"aaaaaaaaaaa": "p1:00", "bbbbbbbbbbb": "p1:ff"}
    first = compared(folder, hashes)
    kept = folder / "out/compared.json"
    before = kept.read_bytes()
    if change is not None:
        kept.write_text(change)

    assert compared(folder, {}, evaluate=never if change is None else judge_by_hash) == first
    assert kept.read_bytes() == before


def test_a_verdict_is_of_these_bytes_and_this_row_alone(tmp_path: Path) -> None:
    row = ("k", "s", "10.0", "250", "-20", "p1:00", "s1:00")
    names = {
        comparison.Task(cells, tmp_path, sha256, 5).name
        for cells in (row, (*row[:5], "p1:01", "s1:00"), (*row[:5], "p1:00s", "1:00"))
        for sha256 in ("0", "1")
    }

    assert len(names) == 6


def test_what_was_judged_before_a_stop_is_kept_and_what_nobody_asks_for_goes(tmp_path: Path) -> None:
    kept = verdicts.Kept(tmp_path)
    kept.put("a", "alike")
    kept.put("b", "different")
    kept.save()

    again = verdicts.Kept(tmp_path)
    assert (again.get("a"), again.get("c")) == ("alike", None)
    again.save()
    assert verdicts.Kept(tmp_path).get("b") == "different"
    again.forget_others()
    again.save()
    assert verdicts.Kept(tmp_path).get("b") is None


def test_a_list_of_strangers_has_nothing_to_compare(videos: Path, tmp_path: Path) -> None:
    call("--clips", write(tmp_path / "list.csv", ROWS[:1]), out=tmp_path / "out", source=videos)

    assert "compared" not in report(tmp_path / "out")


def test_without_out_a_build_is_called_after_its_list(
    published: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--source", f"local:{videos}", "--workers", "1", "--limit", "1"]

    build.main(["--clips", str(published), *words])
    build.main(["--clips", str(write(tmp_path / "lists/kinds.csv", ROWS)), *words])

    assert re.search(
        r"^class list: kinds, \d labels? \(the labels of kinds\.csv, sorted\)$", capsys.readouterr().out, re.M
    )

    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["kinds", "mine"]
    found = report(tmp_path / "data/mine")
    assert found["annotated"] == 2  # one a split
    assert "--limit" in list_report.text(found["lists"])


def test_another_class_list_in_the_same_folder_is_refused(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    call("--clips", write(tmp_path / "one.csv", ROWS), out=out, source=videos)

    assert call("--clips", write(tmp_path / "two.csv", ["curling,aaaaaaaaaaa,7,9,val"]), out=out, source=videos) == 2
    assert "contains a build of other classes" in capsys.readouterr().err


def test_another_build_s_manifest_is_not_replaced(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same classes, so that nothing else tells them apart."""
    out, classes = tmp_path / "out", tmp_path / "classes.txt"
    classes.write_text("=tap dancing\narchery\n")
    (tmp_path / "out_2").mkdir()
    words = ["--classes", classes, "--annotations", write(tmp_path / "annotations.csv", ROWS)]
    call(*words, out=out, source=videos)
    before = (out / "manifest.parquet").read_bytes()
    fewer = write(tmp_path / "fewer.csv", ROWS[1:])
    capsys.readouterr()

    assert call("--clips", fewer, out=out, source=videos) == 2
    said = capsys.readouterr().err
    assert "out: contains another build, with 1 clip not requested now (such as aaaaaaaaaaa_000007_000009)" in said
    assert f"such as --out {tmp_path / 'out_3'}, or delete {out / 'manifest.parquet'} if it is not needed" in said
    assert (out / "manifest.parquet").read_bytes() == before
    kept = write(tmp_path / "kept.csv", ROWS[:3])  # the fourth is not ok, and still a row of that build
    assert call("--clips", kept, "--classes", classes, out=out, source=videos) == 2
    assert "with 1 clip not requested now (such as ddddddddddd_000003_000005)" in capsys.readouterr().err
    assert (out / "manifest.parquet").read_bytes() == before
    (out / "manifest.parquet").unlink()
    assert call("--clips", fewer, out=out, source=videos) == 1
    sound = (out / "manifest.parquet").read_bytes()
    footer = int.from_bytes(sound[-8:-4], "little") + 8
    (out / "manifest.parquet").write_bytes(sound[:4] + bytes(len(sound) - 4 - footer) + sound[-footer:])
    assert call("--clips", kept, "--classes", classes, out=out, source=videos) == 0


def test_a_build_over_its_own_folder_says_which_clips_leave_its_manifest(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so at its start and at its end; the options of before bring the clips back without making them again."""
    out, classes = tmp_path / "out", tmp_path / "classes.txt"
    classes.write_text("=tap dancing\narchery\n")
    words = ["--classes", classes, "--annotations", write(tmp_path / "annotations.csv", ROWS)]
    call(*words, out=out, source=videos)
    line = f"{out}: the new manifest leaves out 2 of the 4 clips of the one before, which are not requested now"
    line += " (their files stay); the --annotations, --splits and limits of before bring them back"
    assert line not in capsys.readouterr().out

    assert call(*words, "--splits", "train", out=out, source=videos) == 0

    before, after = capsys.readouterr().out.split("2 of 2 annotated clips ok")
    assert line in before
    assert line in after
    assert report(out)["left_out"] == {"clips": 2, "of": 4}
    assert call(*words, out=out, source=videos) == 1
    assert line not in capsys.readouterr().out
    assert (report(out)["ok"], report(out)["left_out"]) == (3, {})


def test_a_build_from_a_list_goes_on_where_it_stopped(videos: Path, tmp_path: Path) -> None:
    path, out = write(tmp_path / "list.csv", ROWS[:3]), tmp_path / "out"
    call("--clips", path, out=out, source=videos)
    before = (out / "manifest.csv").read_bytes()

    assert call("--clips", path, out=out, source=videos) == 0

    assert report(out)["this_run"]["clips"] == 0
    assert (out / "manifest.csv").read_bytes() == before
    with Ledger(out / "ledger.sqlite", only_read=True) as ledger:
        assert len(list(ledger.latest())) == 3


def test_a_build_s_own_manifest_is_a_list(folder: "Folder", tmp_path: Path) -> None:
    words = ["--classes", folder.classes, "--annotations", folder.annotations]
    call(*words, out=tmp_path / "first", source=folder.videos)
    ok = {key for key, status in folder.expected.items() if status == "ok"}

    assert call("--clips", tmp_path / "first/manifest.csv", out=tmp_path / "second", source=folder.videos) == 0

    assert {key for key, *_ in rows(tmp_path / "second")} == ok
