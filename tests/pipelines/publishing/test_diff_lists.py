"""ks-publish diff of lists: rows that cannot be read are named, and what two lists share is a list again."""

import json
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import fingerprints, lists
from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.publishing import check, contents, tables
from kinetics_sounds.pipelines.publishing.check import Finding

from .builds import LABELS, clip, outcome, published, sha256
from .builds import contents as bytes_of
from .test_diff import compared, listed

HEADER = "label,youtube_id,time_start,time_end,split"


def row(number: int, *, label: str = LABELS[0], split: str = "val") -> str:
    label = label if label in LABELS else '"' + label.replace('"', '""') + '"'
    return f"{label},{clip(number).youtube_id},{number},{number + 10},{split}"


def lines(*rows: str) -> str:
    return "\n".join([HEADER, *rows, ""])


def found(folder: Path) -> list[Finding]:
    return list(check.check(folder, with_croissant=False))


@pytest.fixture
def common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Of two lists that share three clips."""
    ours = [row(1), row(2, split="train"), row(3, label='=cmd(), "x"'), row(4)]
    one, other = (listed(tmp_path / f"{name}.csv", lines(*rows)) for name, rows in (("a", ours), ("b", ours[:3])))
    compared(one, other, capsys, "--out", str(tmp_path / "common"))
    return tmp_path / "common"


def test_rows_that_cannot_be_read_are_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = listed(tmp_path / "good.csv", lines(row(1), row(2)))
    bad = listed(tmp_path / "bad.csv", lines(row(1), "a,not an id,1,11,val", row(2), "b,abcdefghijk,9,3,val"))

    told = compared(good, bad, capsys)
    assert (told["same"], told["common"], told["unread_in_a"]) == (False, 2, [])
    assert [each.split(": ")[0] for each in told["unread_in_b"]] == ["bad.csv:3", "bad.csv:5"]
    assert publish.main(["diff", str(bad), str(good)]) == 1
    out = capsys.readouterr().out
    assert "rows of a that cannot be read: 2\n  bad.csv:3: 'not an id': " in out
    assert "no difference" not in out


def test_what_two_lists_share_is_lists_that_claim_no_bytes(common: Path) -> None:
    assert set(bytes_of(common)) == {"README.md", "SHA256SUMS", "classes.txt", "splits/train.csv", "splits/val.csv"}
    assert (common / "splits/train.csv").read_text() == lines(row(2, split="train"))
    card = (common / "README.md").read_text()
    rows = [(clip(2).key, LABELS[0], "train"), (clip(1).key, LABELS[0], "val"), (clip(3).key, '=cmd(), "x"', "val")]
    assert f"- selection, if all of them are available: {fingerprints.selection(rows)}" in card
    assert "content: not known" in card
    assert found(common) == []
    assert publish.main(["check", str(common)]) == 0


def test_ks_build_reads_it_and_so_does_diff(common: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [each for path in lists.find(str(common)) for each in lists.read(lists.recognise(path))]
    assert sorted((each.youtube_id, each.time_start, each.time_end, each.labels, each.split) for each in entries) == [
        (clip(1).youtube_id, 1, 11, (LABELS[0],), "val"),
        (clip(2).youtube_id, 2, 12, (LABELS[0],), "train"),
        (clip(3).youtube_id, 3, 13, ('=cmd(), "x"',), "val"),
    ]
    told = compared(common, common, capsys, code=0)
    assert (told["common"], told["a"]["kind"], told["a"]["content"]) == (3, "list", "")


@pytest.mark.parametrize(
    ("name", "old", "new", "kind"),
    [
        ("splits/val.csv", b",val", b",test", "table"),
        ("splits/val.csv", b"-id_0000001,1,", b"-id_0000001,,", "table"),
        ("splits/val.csv", b"-id_0000001", b"-id 0000001", "table"),
        ("splits/val.csv", b"-id_0000001", b"-id_0000002", "video_leak"),
        ("classes.txt", LABELS[0].encode(), b"another", "classes"),
    ],
)
def test_what_is_planted_in_it_is_found(common: Path, name: str, old: bytes, new: bytes, kind: str) -> None:
    data = (common / name).read_bytes()
    assert old in data
    (common / name).write_bytes(data.replace(old, new, 1))
    assert {each.kind for each in found(common)} == {"changed", kind}


def test_a_published_folder_that_lost_its_fingerprints_is_no_list(tmp_path: Path) -> None:
    out = published(tmp_path, [outcome(clip(1))])
    (out / "fingerprints.json").unlink()
    assert "missing" in {each.kind for each in found(out)}


def test_a_label_that_no_list_can_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = listed(tmp_path / "a.csv", lines(row(1, label="a # b")))
    assert publish.main(["diff", str(one), str(one), "--out", str(tmp_path / "out")]) == 2
    assert "so no list can contain it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bytes_that_are_not_known_are_in_no_fingerprint() -> None:
    known: Any = dict.fromkeys(tables.COLUMNS) | {"key": "k", "label": "l", "split": "val", "status": "ok"}
    both = tables.both_fingerprints([known, known | {"key": "m", "sha256": sha256("m")}])
    assert both == {"selection": fingerprints.selection([("k", "l", "val"), ("m", "l", "val")]), "content": ""}
    assert json.dumps(both).count("None") == 0
    assert tuple(HEADER.split(",")) == contents.LISTED
