"""Scores of a run beside a build or shard set that has other clips now."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest
from playwright.sync_api import Browser, expect

from kinetics_sounds import fingerprints
from kinetics_sounds.clip import Clip
from kinetics_sounds.pipelines import view
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import SkippedClip, SplitFacts
from kinetics_sounds.shards.writer import Sample, ShardWriter

from ...shards import sets
from ..publishing import builds
from . import made, test_runs
from .test_browser import start

LABEL = builds.LABELS[0]
TEST = [builds.clip(number, label=LABEL, split="test") for number in range(4)]
TRAIN = [builds.clip(number, label=LABEL, split="train") for number in range(4, 8)]


def selection(clips: Sequence[Clip]) -> str:
    return fingerprints.selection((each.key, each.label, each.split) for each in clips)


def shards(folder: Path, clips: Sequence[Clip], *, left: Sequence[Clip] = ()) -> Path:
    """A shard set of the split `test`, without some clips that could not be packed."""
    with ShardWriter(layout.tar_path(folder, "test", 0), recipe="a recipe") as writer:
        for each in clips:
            meta = {"key": each.key, "label": each.label}
            writer.write(Sample(key=each.key, label_index=0, parts={layout.META: json.dumps(meta).encode()}))
        for each in left:
            writer.leave(SkippedClip(key=each.key, status="no_audio", detail="is mute"))
        tar = writer.close()
    facts = SplitFacts(
        shards=1, samples=len(clips), bytes=tar.bytes, left=len(left), fingerprint="", selection=selection(clips)
    )
    sets.describe(folder, classes="few", labels=builds.LABELS, parts=tar.parts, splits={"test": facts})
    return folder


def run(folder: Path, of: Path | str, clips: Sequence[Clip], *, split: str = "test") -> Path:
    """A run with a result of these clips."""
    test_runs.run(folder)
    path = folder / "eval/linear/results.json"
    told = json.loads(path.read_text())
    told |= {"shards": str(of), "on_split": split, "selection": selection(clips), "samples": len(clips)}
    path.write_text(json.dumps(told))
    return folder


def notes(place: Path, *ran: Path) -> list[str]:
    """What the page says of scores that are of other clips."""
    page = place.parent / "page.html"
    assert view.main([str(place), *(f"--run={each}" for each in ran), "--embed=0", f"--out={page}"]) == 0
    told: list[str] = made.document(page)["notes"]
    return told


def moved() -> list[Clip]:
    """All clips, the first of the test clips in train."""
    return [dataclasses.replace(TEST[0], split="train"), *TEST[1:], *TRAIN]


def test_a_build_that_changed_after_the_evaluation_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build = tmp_path / "mine"
    ran = run(tmp_path / "run", shards(build / "shards", TEST), TEST)
    builds.write(build, [builds.outcome(each) for each in (*TEST, *TRAIN)])
    assert notes(build, ran) == []
    assert caplog.text == ""

    builds.write(build, [builds.outcome(each) for each in moved()])

    line = f"scores are of another selection than {build}: 4 test clips, now 3"
    assert notes(build, ran) == [line]
    assert line in caplog.text
    assert notes(build / "shards", ran) == []
    two = run(tmp_path / "two", build / "shards", moved()[1:4])
    assert notes(build, ran, two) == [f"{ran}: {line}"]


def test_as_many_others_are_told(tmp_path: Path) -> None:
    build = tmp_path / "mine"
    ran = run(tmp_path / "run", build / "shards", TEST)
    builds.write(build, [builds.outcome(dataclasses.replace(each, label=builds.LABELS[1])) for each in TEST])

    [line] = notes(build, ran)
    assert line.endswith("mine: 4 test clips, as many now, with other keys or labels")


def test_clips_that_ks_shard_left_out_are_no_difference(tmp_path: Path) -> None:
    build = tmp_path / "mine"
    ran = run(tmp_path / "run", shards(build / "shards", TEST[1:], left=TEST[:1]), TEST[1:])
    builds.write(build, [builds.outcome(each) for each in (*TEST, *TRAIN)])

    assert notes(build, ran) == []
    assert notes(build / "shards", ran) == []


def test_a_shard_set_that_was_packed_again_is_told(tmp_path: Path) -> None:
    place = shards(tmp_path / "mine/shards", TEST)
    ran = run(tmp_path / "run", place, TEST)
    shutil.rmtree(place)
    shards(place, TEST[:2])

    assert notes(place, ran) == [f"scores are of another selection than {place}: 4 test clips, now 2"]


def test_another_shard_set_of_the_same_build_is_compared(tmp_path: Path) -> None:
    build = tmp_path / "mine"
    ran = run(tmp_path / "run", shards(build / "shards", TEST), TEST)
    second = shards(build / "shards_2", TEST[1:])
    assert notes(second, ran) == []

    builds.write(build, [builds.outcome(each) for each in moved()])

    assert notes(second, ran) == [f"scores are of another selection than {second}: 4 test clips, now 3"]


@pytest.mark.parametrize(
    ("of", "split"), [("other/shards", "test"), ("mine/shards", "fold1_test"), ("s3://a/b", "test")]
)
def test_what_cannot_be_compared_is_not_told(tmp_path: Path, of: str, split: str) -> None:
    """Shards of another place or at a URL, and splits of folds."""
    build = tmp_path / "mine"
    builds.write(build, [builds.outcome(each) for each in moved()])

    assert notes(build, run(tmp_path / "run", of.replace("mine", str(build)), TEST, split=split)) == []


def test_a_build_that_only_moved_is_not_told_to_differ(tmp_path: Path) -> None:
    """Without a word on clips that ks-shard left out, though the shards are no longer at the recorded place."""
    build = tmp_path / "mine"
    ran = run(tmp_path / "run", shards(build / "shards", TEST[1:], left=TEST[:1]), TEST[1:])
    builds.write(build, [builds.outcome(each) for each in (*TEST, *TRAIN)])

    assert notes(build.rename(tmp_path / "moved"), ran) == []


def test_a_training_split_that_alone_changed_is_told(tmp_path: Path) -> None:
    build = tmp_path / "mine"
    ran = run(tmp_path / "run", build / "shards", TEST)
    facts = json.loads((ran / "run.json").read_text())
    used = {"shards": str(build / "shards"), "selection": selection(TRAIN), "data": {"samples": len(TRAIN)}}
    (ran / "run.json").write_text(json.dumps(facts | used))
    builds.write(build, [builds.outcome(each) for each in (*TEST, *TRAIN)])
    assert notes(build, ran) == []

    builds.write(build, [builds.outcome(each) for each in (*TEST, *TRAIN[1:])])

    assert notes(build, ran) == [f"the run was trained on another selection than {build}: 4 train clips, now 3"]


@pytest.mark.slow
def test_the_line_stands_below_the_scores(browser: Browser, tmp_path: Path) -> None:
    build = tmp_path / "mine"
    ran = run(tmp_path / "run", build / "shards", TEST)
    builds.write(build, [builds.outcome(each) for each in moved()])
    assert notes(build, ran)

    opened = start(browser, tmp_path / "page.html")

    line = opened.page.get_by_role("banner").get_by_role("region", name="main results").first.locator("xpath=../p[1]")
    expect(line).to_have_text(f"scores are of another selection than {build}: 4 test clips, now 3")
    assert opened.alarms == []
    opened.page.context.close()


def test_a_split_that_many_runs_used_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = tmp_path / "mine"
    ran = [run(tmp_path / name, build / name, TEST) for name in ("one", "two", "three")]
    builds.write(build, [builds.outcome(each) for each in moved()])
    counted = Mock(wraps=fingerprints.selection)
    monkeypatch.setattr(fingerprints, "selection", counted)

    assert len(notes(build, *ran)) == 3
    assert counted.call_count == 1


def test_a_name_that_is_no_path_does_not_stop_the_page(tmp_path: Path) -> None:
    build = tmp_path / "mine"
    builds.write(build, [builds.outcome(each) for each in moved()])

    assert len(notes(build, run(tmp_path / "run", f"{build}/\0", TEST))) == 1
