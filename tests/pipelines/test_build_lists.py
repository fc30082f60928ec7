"""ks-build --clips: exactly what a list names is built, and every row has its end told."""

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kinetics_sounds import files, fingerprints, manifest
from kinetics_sounds.ledger import Ledger
from kinetics_sounds.pipelines import build, executors
from kinetics_sounds.pipelines.executors import Failed
from kinetics_sounds.pipelines.fetching import comparison, list_report
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
    assert found["files"] == [{"file": str(paper), "format": "ogm_ge", "split": "test"}]
    assert [text.partition(": ")[2][:13] for text in found["named"]["ambiguous"]] == ["'bbbbbbbbbbb_"]
    shown = capsys.readouterr().out
    assert "test: 5 rows of the lists, 3 in the annotations, 3 clips asked for, 2 ok, 0 vanished, 1 not had" in shown
    assert "list: " in shown
    assert "split test, after the file's name" in shown


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
    assert "rows of clips that the publisher never had: 1" in shown
    assert "clips beside the published ones: 3 same, 0 different" in shown


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
    assert "the selection is not that of the lists: 1 of the clips asked for are lacking" in shown
    assert "  unknown: bbbbbbbbbbb_000000_000002" in shown


def judge_by_hash(task: comparison.Task) -> comparison.Verdict:
    """What the published row's hash says; stands in for a look at the file."""
    assert task.path.is_absolute()
    assert task.timeout_seconds == 5
    return "alike" if task.row["picture_hash"] == "p1:00" else "different"


def compared(published: Path, hashes: dict[str, str], *, stop: bool = False) -> dict[str, Any] | None:
    """The published folder beside a build in which all clips have other bytes; hashes of its rows by their ids."""
    for path in (published / "splits").glob("*.csv"):
        head, *lines = path.read_text().splitlines()
        told = [f"{line},{next((h for youtube_id, h in hashes.items() if youtube_id in line), '')}" for line in lines]
        path.write_text("\n".join([f"{head},picture_hash", *told, ""]))
    found = build._lists(build.Settings(clips=(str(published),)))
    plan = plan_lists(found, None, Asked(splits=("train", "val")), annotation_lists=list, always=False)
    became = list_report.Became()
    became.built.update({clip.key: ("0" * 64, f"{clip.key}.mp4") for clip in plan.clips})
    how = comparison.How(judge=judge_by_hash, workers=1, timeout_seconds=5)
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

    document = compared(tmp_path / "mine", {"aaaaaaaaaaa": "p1:00"})

    assert document is not None
    assert document["counts"] == {"same": 0, "alike": 0, "different": 0, "unknown": 3, "lacking": 0}
    assert "aaaaaaaaaaa_000007_000009.mp4: cannot be compared: it took too long" in caplog.text


def test_a_list_of_strangers_has_nothing_to_compare(videos: Path, tmp_path: Path) -> None:
    call("--clips", write(tmp_path / "list.csv", ROWS[:1]), out=tmp_path / "out", source=videos)

    assert "compared" not in report(tmp_path / "out")


def test_without_out_a_build_is_called_after_its_list(
    published: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--source", f"local:{videos}", "--workers", "1", "--limit", "1"]

    build.main(["--clips", str(published), *words])
    build.main(["--clips", str(write(tmp_path / "lists/kinds.csv", ROWS)), *words])

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
    assert "holds a build of other classes" in capsys.readouterr().err


def test_a_build_from_a_list_goes_on_where_it_stopped(videos: Path, tmp_path: Path) -> None:
    path, out = write(tmp_path / "list.csv", ROWS[:3]), tmp_path / "out"
    call("--clips", path, out=out, source=videos)
    before = (out / "manifest.csv").read_bytes()

    assert call("--clips", path, out=out, source=videos) == 0

    assert report(out)["this_run"]["clips"] == 0
    assert (out / "manifest.csv").read_bytes() == before
    with Ledger(out / "ledger.sqlite", only_read=True) as ledger:
        assert len(list(ledger.words())) == 3


def test_a_build_s_own_manifest_is_a_list(folder: "Folder", tmp_path: Path) -> None:
    words = ["--classes", folder.classes, "--annotations", folder.annotations]
    call(*words, out=tmp_path / "first", source=folder.videos)
    ok = {key for key, status in folder.expected.items() if status == "ok"}

    assert call("--clips", tmp_path / "first/manifest.csv", out=tmp_path / "second", source=folder.videos) == 0

    assert {key for key, *_ in rows(tmp_path / "second")} == ok
