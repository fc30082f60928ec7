"""ks-publish diff: every planted difference is named once, and what two sets share can be built."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.clip import Status
from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.publishing import check, contents, likeness

from .builds import LABELS, clip, hashes, outcome, outcomes, published, sha256, write


def compared(a: Path, b: Path, capsys: pytest.CaptureFixture[str], *more: str, code: int = 1) -> dict[str, Any]:
    capsys.readouterr()
    assert publish.main(["diff", str(a), str(b), "--json", *more]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_set_is_the_same_as_itself_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = published(tmp_path, outcomes())
    build = tmp_path / "build/manifest.parquet"

    for other in (out, build, build.with_suffix(".csv")):
        found = compared(out, other, capsys, code=0)
        assert (found["same"], found["common"], found["same_content"]) == (True, 16, 16)
        assert found["a"]["selection"] == found["b"]["selection"] == contents.read_fingerprints(out).selection
        assert found["by_class"] == {}
    assert publish.main(["diff", str(out), str(build)]) == 0
    assert "no difference" in capsys.readouterr().out


def test_a_build_s_folder_stands_for_its_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = published(tmp_path, outcomes())
    (tmp_path / "empty").mkdir()

    for places in ((out, tmp_path / "build"), (tmp_path / "build", out)):
        found = compared(*places, capsys, code=0)
        assert (found["same"], found["same_content"]) == (True, 16)
        assert {(found[each]["name"], found[each]["kind"]) for each in "ab"} == {
            ("out", "published"),
            ("build", "manifest"),
        }
    assert publish.main(["diff", str(out), str(tmp_path / "empty")]) == 2
    assert "empty: is a folder without manifest.parquet, and not a published one; give a" in capsys.readouterr().err


def test_a_published_folder_that_lacks_a_split_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = published(tmp_path, outcomes())
    (out / "splits/train.csv").unlink()

    for places in ((out, tmp_path / "build"), (tmp_path / "build", out)):
        assert publish.main(["diff", *map(str, places)]) == 2
        told = "out: has the splits test, val, but by its fingerprints.json test, train, val; get the folder again"
        assert told in capsys.readouterr().err


def test_a_list_has_no_checksums_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = published(tmp_path, outcomes())
    paper = listed(tmp_path / "paper.csv", f"key\n{clip(1).key}\n")

    assert compared(out, paper, capsys)["same_content"] is None
    assert publish.main(["diff", str(out), str(paper)]) == 1
    assert "; with the same bytes: not known (a list has no checksums)\n" in capsys.readouterr().out


def test_each_difference_is_named_once_by_class_and_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made: dict[int, Any] = dict(enumerate(outcomes()))
    a = write(tmp_path / "a", list(made.values()))
    changes = {
        1: None,
        2: outcome(clip(2), Status.REMOVED),
        3: outcome(clip(3, label=LABELS[1])),
        4: outcome(clip(4, split="test")),
        6: outcome(clip(6), sha256="0" * 64),
        5: outcome(clip(5)),  # was private
        30: outcome(clip(30)),
    }
    b = write(tmp_path / "b", [each for each in {**made, **changes}.values() if each])

    found = compared(a, b, capsys)

    assert [(each["key"], each.get("status_there")) for each in found["only_in_a"]] == [
        (clip(2).key, "removed"),
        (clip(1).key, None),
    ]
    assert [(each["key"], each.get("status_there")) for each in found["only_in_b"]] == [
        (clip(5).key, "private"),
        (clip(30).key, None),
    ]
    assert found["label"] == [{"key": clip(3).key, "a": LABELS[0], "b": LABELS[1]}]
    assert found["split"] == [{"key": clip(4).key, "a": "val", "b": "test"}]
    assert [(each["key"], each["likeness"]) for each in found["content"]] == [(clip(6).key, "unknown")]
    assert found["by_class"]["val"] == {LABELS[1]: {"only_in_a": 1, "split": 1}} | {
        label: counts for label, counts in found["by_class"]["val"].items() if label != LABELS[1]
    }
    assert found["common"] == 16 - 2 - 2
    assert publish.main(["diff", str(a), str(b)]) == 1
    told = capsys.readouterr().out
    assert "only in a: 2" in told
    assert "another label: 1" in told
    assert "other bytes: 1 (1 unknown)" in told


def test_other_bytes_are_alike_or_different_by_their_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [outcome(clip(n)) for n in range(3)]
    again = [outcome(clip(n), sha256=sha256(f"again {n}")) for n in range(3)]
    of = {sha256(clip(n).key): hashes(n) for n in range(3)}
    of |= {sha256("again 0"): hashes(0, flips=9), sha256("again 1"): hashes(9), sha256("again 2"): ("", "")}
    monkeypatch.setattr(likeness, "compute", lambda wanted, **_: ({each: of[each] for each in wanted}, {}))
    for name, clips in (("a", made), ("b", again)):
        path = write(tmp_path / name, clips)
        assert publish.main(["--manifest", str(path), "--out", str(tmp_path / name / "out")]) == 0

    found = compared(tmp_path / "a/out", tmp_path / "b/out", capsys)

    assert {each["key"]: each["likeness"] for each in found["content"]} == {
        clip(0).key: "alike",
        clip(1).key: "different",
        clip(2).key: "unknown",
    }
    assert [each["broken"] for each in found["content"]] == [[], ["picture", "motion"], []]
    assert found["a"]["selection"] == found["b"]["selection"]
    assert found["a"]["content"] != found["b"]["content"]

    out = tmp_path / "common"
    assert (found["common"], found["left_out_of_common"]) == (2, 1)
    assert publish.main(["diff", str(tmp_path / "a/out"), str(tmp_path / "b/out"), "--out", str(out)]) == 1
    told = "in both, with the same label and split: 2 (without 1 known to differ in picture or sound); with the same bytes: 0\n"
    assert told in capsys.readouterr().out
    assert {str(row["key"]) for row in contents.rows_of(out)} == {clip(0).key, clip(2).key}
    card = (out / "README.md").read_text()
    assert "\n- with other bytes in the two, alike or not compared: 2\n" in card
    assert "\n- left out, known to differ in picture or sound: 1\n" in card


def test_a_manifest_of_other_bytes_is_told_how_it_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = published(tmp_path, outcomes(4))
    b = write(tmp_path / "b", [outcome(clip(n), sha256=sha256(f"again {n}")) for n in range(1, 4)])

    assert publish.main(["diff", str(a), str(b)]) == 1
    assert "a manifest has no hashes to compare changed bytes: publish it" in capsys.readouterr().out


def test_the_common_split_is_what_both_say_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = published(tmp_path, outcomes())
    other = [each for each in outcomes() if each.clip not in (clip(1), clip(3))]
    b = write(tmp_path / "b", [*other, outcome(clip(3, label=LABELS[1])), outcome(clip(30))])
    out = tmp_path / "common"

    assert publish.main(["diff", str(a), str(b), "--out", str(out)]) == 1

    rebuild = "ks-build --clips {} --source local:DIR --out data/common"
    whole = "DIR has the videos; whole videos: add --local.trimmed no; files that are the clips themselves: --local.trimmed yes"
    assert f"rebuild it with: {rebuild.format(out)}    # {whole}\n" in capsys.readouterr().out
    card = (out / "README.md").read_text()
    assert f"`{rebuild.format('FOLDER')}` ({whole})" in card
    assert ("other bytes" in card, "left out" in card) == (False, False)
    keys = {str(row["key"]) for row in contents.rows_of(out)}
    assert keys == {each.clip.key for each in other if each.media}
    assert list(check.check(out, with_croissant=False)) == []
    assert compared(out, out, capsys, code=0)["common"] == len(keys)
    assert publish.main(["diff", str(a), str(b), "--out", str(out)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_without_a_common_clip_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = published(tmp_path, outcomes(4))
    b = write(tmp_path / "b", [outcome(clip(30))])

    assert publish.main(["diff", str(a), str(b), "--out", str(tmp_path / "common")]) == 1

    shown, told = capsys.readouterr()
    assert told == f"no common clips; nothing written to {tmp_path}/common\n"
    assert "rebuild it with" not in shown
    assert not (tmp_path / "common").exists()


def test_what_is_no_set_is_a_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = published(tmp_path, outcomes())
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.csv").write_text("a,b\n1,2\n")
    for words in ([out], [out, tmp_path / "empty"], [out, tmp_path / "none.csv"], [out, tmp_path / "text.csv"], []):
        assert publish.main(["diff", *map(str, words)]) == 2
        assert "error: " in capsys.readouterr().err


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A manifest of four ok clips and a private one, all in val."""
    made = [outcome(clip(n, split="val"), Status.PRIVATE if n == 3 else Status.OK) for n in range(5)]
    return write(tmp_path / "full", made)


def listed(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_list_says_what_it_says_and_no_more(full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OGM-GE's test list: video and start, and a class index; its name says the split. Whatever it lacks is no difference."""
    indices = {label: place for place, label in enumerate(sorted(LABELS))}
    lines = [f"{clip(n).youtube_id}_{n},10,{indices[clip(n).label]}" for n in (0, 1, 3)]
    few = listed(tmp_path / "val.txt", "\n".join([*lines, "elsewhere11_7,10,0"]) + "\n")

    found = compared(full, few, capsys)
    assert [each["key"] for each in found["only_in_a"]] == [clip(2).key, clip(4).key]
    assert [(each["key"], each.get("status_there")) for each in found["only_in_b"]] == [
        (clip(3).key, "private"),
        ("elsewhere11_000007", None),
    ]
    assert (found["label"], found["split"], found["content"]) == ([], [], [])
    assert (found["common"], found["b"]["kind"], found["b"]["content"]) == (2, "list", "")
    out = tmp_path / "common"
    compared(few, full, capsys, "--out", str(out))
    assert {row["key"] for row in contents.rows_of(out)} == {clip(0).key, clip(1).key}
    assert list(check.check(out, with_croissant=False)) == []


def test_a_list_with_other_labels_or_splits_differs(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{LABELS[0]},{clip(n).youtube_id},{n},{n + 10},{split}" for n, split in ((0, "test"), (1, "validate"))]
    header = "label,youtube_id,time_start,time_end,split"
    theirs = listed(tmp_path / "theirs.csv", "\n".join([header, *rows]) + "\n")

    found = compared(full, theirs, capsys)
    assert [(each["key"], each["a"], each["b"]) for each in found["split"]] == [(clip(0).key, "val", "test")]
    assert [(each["key"], each["b"]) for each in found["label"]] == [(clip(1).key, LABELS[0])]
    assert compared(theirs, theirs, capsys, code=0)["b"]["selection"] != ""

    again = f"{LABELS[1]},{clip(0).youtube_id},0,10,test\n"
    assert publish.main(["diff", str(full), str(listed(theirs, theirs.read_text() + again))]) == 2
    assert "is on the lines 2 and 4" in capsys.readouterr().err


def test_two_lists_alone_are_compared_by_what_they_call_their_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = listed(tmp_path / "val.txt", "abcdefghij0_000001_000011,10,0\nabcdefghij1_000002_000012,10,1\n")
    other = listed(tmp_path / "val2.txt", "abcdefghij0_000001_000011,10,0\nabcdefghij2_000002_000012,10,1\n")

    found = compared(one, other, capsys)
    assert [each["key"] for each in found["only_in_a"]] == ["abcdefghij1_000002_000012"]
    assert found["a"]["selection"] == ""
    assert publish.main(["diff", str(one), str(other), "--out", str(tmp_path / "out")]) == 2
    assert "have too few fields" in capsys.readouterr().err


def test_a_hostile_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = published(tmp_path, outcomes())
    shutil.copytree(out, tmp_path / "evil")
    path = contents.csv_path(tmp_path / "evil", "val")
    path.write_bytes(path.read_bytes().replace(clip(4).key.encode(), b"../../etc/passwd"))
    assert publish.main(["diff", str(out), str(tmp_path / "evil")]) == 2
    assert "is not that of its youtube_id" in capsys.readouterr().err
