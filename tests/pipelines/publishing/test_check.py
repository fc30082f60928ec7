"""ks-publish check: whatever is planted in a published folder is found and named."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from kinetics_sounds.clip import Status
from kinetics_sounds.extras import pip_install
from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.publishing import check, contents, croissant, likeness, tables
from kinetics_sounds.pipelines.publishing.check import Finding

from .builds import changed, clip, hashes, outcome, outcomes, published, sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return published(tmp_path, outcomes())


def found(folder: Path) -> list[Finding]:
    return list(check.check(folder, with_croissant=False))


def kinds(folder: Path) -> set[str]:
    return {each.kind for each in found(folder)}


def sealed(folder: Path) -> None:
    """SHA256SUMS anew: whoever changed the folder may have."""
    names = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != contents.SUMS]
    sums = {path.relative_to(folder).as_posix(): sha256_of(path) for path in names}
    (folder / contents.SUMS).write_bytes(contents.sums_text(sums))


def sha256_of(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def rewritten(folder: Path, change: Any) -> None:
    """The rows changed in CSV, Parquet and checksums alike: only what they say of each other can tell."""
    for split in contents.splits_of(folder):
        path = contents.csv_path(folder, split)
        tables.write(path, [change(dict(row)) for row in tables.read_csv(path)])
    sealed(folder)


def test_a_sound_folder_is_clean(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish.main(["check", str(folder), "--no_croissant"]) == 0
    assert capsys.readouterr().out == f"{folder}: no findings\n"


def test_findings_are_named_and_the_code_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "extra.txt").write_text("x")
    (folder / ".gitattributes").write_text("the Hub's own")

    assert publish.main(["check", str(folder), "--no_croissant"]) == 1
    assert "extra: extra.txt: is not in SHA256SUMS" in capsys.readouterr().out
    assert publish.main(["check", str(folder), "--no_croissant", "--json"]) == 1
    [one] = json.loads(capsys.readouterr().out)["findings"]
    assert (one["kind"], one["place"]) == ("extra", "extra.txt")


@pytest.mark.parametrize("words", [[], ["nowhere"], ["--json"]])
def test_what_is_no_folder_is_a_misuse(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert publish.main(["check", *words]) == 2
    (tmp_path / "empty").mkdir()
    assert publish.main(["check", "empty"]) == 2
    assert "error" in capsys.readouterr().err


def test_a_byte_of_any_file_is_found(folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        before = path.read_bytes()
        for place in (0, len(before) // 2, len(before) - 1):
            path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
            assert found(folder), (path, place)
        path.write_bytes(before)
    assert found(folder) == []


def test_a_missing_file_and_a_link_are_found(folder: Path) -> None:
    (folder / "LICENSE.md").unlink()
    assert [(each.kind, each.place) for each in found(folder)] == [("missing", "LICENSE.md")]
    (folder / "LICENSE.md").symlink_to("/etc/passwd")
    assert [(each.kind, each.what) for each in found(folder)] == [("changed", "is not a plain file")]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"label": "tapping pens"}, "fingerprint"),
        ({"sha256": "0" * 64}, "fingerprint"),
        ({"label_index": 0}, "classes"),
        ({"split": "train"}, "table"),
        ({"key": "other_000004_000014"}, "table"),
        ({"status": "eaten"}, "table"),
        ({"status": "private"}, "table"),  # with measures of a clip
        ({"sha256": None}, "table"),
        ({"sha256": "../../x"}, "table"),
        ({"picture_hash": "<script>"}, "table"),
        ({"audio_channel": "=cmd()"}, "table"),
        ({"time_start": -1}, "table"),
        ({"fps": float("nan")}, "table"),
    ],
    ids=lambda value: str(value),
)
def test_a_row_that_says_otherwise_is_found(folder: Path, change: dict[str, Any], kind: str) -> None:
    """Of a clip in val, with checksums that fit."""
    key = clip(4).key
    split = clip(4).split
    path = contents.csv_path(folder, split)
    rows = [dict(row) | (change if row["key"] == key else {}) for row in tables.read_csv(path)]
    tables.write(path, rows)
    sealed(folder)

    assert kind in kinds(folder)


def test_parquet_that_says_otherwise_than_the_csv_is_found(folder: Path) -> None:
    path = folder / "splits/val.parquet"
    table = pyarrow.parquet.read_table(path)
    rows = [row | ({"width": 49} if row["key"] == clip(4).key else {}) for row in table.to_pylist()]
    other = pyarrow.Table.from_pylist(rows, schema=table.schema)
    for wrong, said in ((other, "in width"), (table.slice(1), "row 1"), (table.drop_columns(["fps"]), "other columns")):
        pyarrow.parquet.write_table(wrong, path)
        sealed(folder)
        [finding] = found(folder)
        assert (finding.kind, finding.place) == ("table", "splits/val.parquet")
        assert said in finding.what
    path.write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    sealed(folder)
    assert kinds(folder) == {"table"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"label,youtube_id", b"youtube_id,label"),
        (b",ok,", b",ok"),
        (b",False,", b",no,"),
        (b",48,", b",4e8,"),
        (b"\n", b"\n" + b"x" * 70_000 + b"\n"),
        (b"tapping", b"\xff\xfe"),
        (b"-20.5", b"nan"),
        (b"1004", b"9" * 30),
    ],
    ids=str,
)
def test_a_csv_that_is_none_is_named(folder: Path, old: bytes, new: bytes) -> None:
    path = contents.csv_path(folder, clip(4).split)
    with changed(path, old, new):
        sealed(folder)
        assert [each.place for each in found(folder) if each.kind == "table"] != []
        assert publish.main(["check", str(folder), "--no_croissant"]) == 1


class TestLeaks:
    def test_a_video_in_two_splits(self, folder: Path) -> None:
        def move(row: dict[str, Any]) -> dict[str, Any]:
            if row["key"] == clip(8).key:
                assert row["split"] == "val"
                name = clip(4).youtube_id
                return row | {"youtube_id": name, "key": f"{name}_000008_000018"}
            return row

        assert clip(4).split == "val"
        rewritten(folder, move)
        assert "video_leak" not in kinds(folder)  # of one split

        rewritten(folder, lambda row: row)
        rows = [dict(row) for row in contents.rows_of(folder)]
        name = clip(4).youtube_id
        moved = [row | {"split": "test"} if row["key"] == f"{name}_000008_000018" else row for row in rows]
        [leak] = [each for each in check.leaks(moved) if each.kind == "video_leak"]
        assert (leak.place, leak.what) == (name, "the video is in test and val")

    def test_a_clip_that_is_not_there_and_files_of_a_data_set_leak_nothing(self) -> None:
        def row(number: int, split: str, **other: str) -> dict[str, Any]:
            made = {"key": str(number), "youtube_id": "a", "split": split, "status": "ok", "sha256": str(number)}
            return made | {"hash_picture": None} | other

        one, two = row(1, "train"), row(2, "test")
        assert [each.keys for each in check.leaks([one, two])] == [("1", "2")]
        assert [each.keys for each in check.leaks([one | {"status": ""}, two | {"status": ""}])] == [("1", "2")]
        assert list(check.leaks([one, two | {"status": "private"}])) == []
        assert list(check.leaks([one | {"youtube_id": ""}, two | {"youtube_id": ""}])) == []

    def test_the_same_bytes_under_two_keys(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        made = [*outcomes(), outcome(clip(30), sha256=sha256(clip(4).key))]
        out = published(tmp_path, made)

        [finding] = found(out)
        assert finding.kind == "same_content"
        assert (finding.place, finding.keys) == (clip(4).key, (clip(4).key, clip(30).key))
        labels = f"{clip(4).label!r} and {clip(30).label!r}"
        assert clip(4).label != clip(30).label
        assert finding.what == f"in {clip(4).split}; the same bytes in {clip(30).split}, labelled {labels}"
        assert publish.main(["check", str(out), "--no_croissant"]) == 1
        assert f"{finding.place}: {finding.what}: {clip(30).key}\n" in capsys.readouterr().out

    def test_a_new_encoding_in_another_split(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the hashes alone: a few bits are others, and so are all bytes. In the same split it is no leak."""
        made = [outcome(clip(n, split="train" if n else "test"), audio_rms_db=-20.0 - n / 9) for n in range(6)]
        of = {0: hashes(7), 1: hashes(7, flips=9), 2: hashes(2), 3: hashes(2, flips=9)}
        known = {sha256(clip(n).key): of.get(n, hashes(50 + n)) for n in range(6)}
        monkeypatch.setattr(likeness, "compute", lambda wanted, **_: ({each: known[each] for each in wanted}, {}))
        out = published(tmp_path, made)
        assert found(out) == []

        build = tmp_path / "build/manifest.parquet"
        assert publish.main(["--manifest", str(build), "--out", str(out)]) == 0
        [finding] = found(out)
        assert finding.kind == "alike"
        assert set(finding.keys) == {clip(0).key, clip(1).key}
        place, other = ("test", "train") if finding.place == clip(0).key else ("train", "test")
        assert finding.what == f"in {place}; a re-encoded copy in {other}"

    def test_time_does_not_grow_with_the_square(self) -> None:
        def seconds(count: int) -> float:
            rows = [
                tables.row_of(outcome(clip(n)), n % 3, hashes(n if n % 2 else 0)) for n in range(count)
            ]  # half of them the same
            began = time.perf_counter()
            list(check.bounded(check.leaks(rows)))
            return time.perf_counter() - began

        seconds(100)
        few, many = seconds(500), seconds(4000)
        assert many < 8 * 6 * max(few, 0.02)


def test_of_very_many_findings_some_are_named() -> None:
    many = [Finding("extra", str(n), "") for n in range(check.MOST_FINDINGS + 5)]
    assert [each.what for each in check.bounded(many)][-1] == "and 5 more"


@pytest.mark.parametrize(
    "line", ["x" * 64 + "  a", "0" * 64 + "  ../a", "0" * 64 + "  /etc/passwd", "0" * 64 + " a", "0" * 64 + "  a//b"]
)
def test_sums_that_lead_out_of_the_folder_are_refused(folder: Path, line: str) -> None:
    (folder / contents.SUMS).write_text(f"{line}\n")
    assert "sums" in kinds(folder)


def test_what_a_stranger_calls_a_file_writes_no_line_of_the_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a\nclean: \x1b[2J\u202e").write_text("x")
    assert publish.main(["check", str(folder), "--no_croissant"]) == 1
    told = capsys.readouterr().out
    assert not {"\x1b", "\u202e"} & set(told)
    assert len(told.splitlines()) == 2


@pytest.mark.filterwarnings("ignore")  # of mlcroissant's own
class TestCroissant:
    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return published(tmp_path_factory.mktemp("croissant"), [*outcomes(), outcome(clip(40), Status.PRIVATE)])

    def test_its_records_are_loaded_and_counted(self, whole: Path) -> None:
        assert list(check.check(whole, with_croissant=True)) == []
        counts = {
            split: len(list(tables.read_csv(contents.csv_path(whole, split)))) for split in ("train", "val", "test")
        }
        assert croissant.count(whole) == counts

    def test_records_have_the_types_of_the_columns(self, whole: Path) -> None:
        loaded = {record["clips/key"].decode(): record for record in croissant.records(whole)}
        record = loaded[clip(4).key]
        assert record["clips/bytes"] == 1004
        assert record["clips/fps"] == 29.97
        assert record["clips/silent"] is False or record["clips/silent"] == False  # noqa: E712 - numpy's own
        assert record["clips/split"] == b"val"
        assert loaded[clip(5).key]["clips/sha256"] is None

    def test_records_can_be_filtered_by_split(self, whole: Path) -> None:
        import mlcroissant

        dataset = mlcroissant.Dataset(jsonld=str(whole / "croissant.json"))
        records = list(dataset.records("clips", filters={"clips/split": "val"}))
        assert {record["clips/key"].decode() for record in records} == {
            str(row["key"]) for row in tables.read_csv(whole / "splits/val.csv")
        }

    def test_it_is_valid_without_a_warning(self, whole: Path) -> None:
        import mlcroissant

        issues = mlcroissant.Dataset(jsonld=str(whole / "croissant.json")).metadata.ctx.issues
        assert (issues.errors, issues.warnings) == (set(), set())

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b'"contentUrl": "splits/val.csv"', b'"contentUrl": "http://127.0.0.1:9/val.csv"'),
            (b'"contentUrl": "splits/val.csv"', b'"contentUrl": "../../etc/passwd"'),
            (b'"includes": "splits/*.csv"', b'"includes": "**/*"'),
            (b'"https://schema.org/"', b'"http://127.0.0.1:9/"'),
            (b"(train|val|test)", b"(t(r)*)*"),
            (b'"@type": "cr:FileSet"', b'"@type": "cr:FileSet", "containedIn": {"@id": "http://127.0.0.1:9/a.zip"}'),
            (b'"isLiveDataset": ', b'"sc:distribution": {"contentUrl": "http://127.0.0.1:9"}, "isLiveDataset": '),
            (b'"creator": {', b'"creator": {"@context": "http://127.0.0.1:9", '),
            (b"{", b"["),
        ],
        ids=str,
    )
    def test_a_stranger_s_document_is_not_given_to_mlcroissant(
        self, old: bytes, new: bytes, whole: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import mlcroissant

        monkeypatch.setattr(mlcroissant, "Dataset", None)  # a call would be a TypeError
        with changed(whole / "croissant.json", old, new):
            found = [each for each in check.check(whole, with_croissant=True) if each.kind == "croissant"]
        assert len(found) == 1

    def test_a_checksum_in_it_that_is_another_is_found(self, whole: Path) -> None:
        digest = sha256_of(whole / "splits/val.csv").encode()
        with changed(whole / "croissant.json", digest, b"0" * 64):
            found = [each.what for each in check.check(whole, with_croissant=True) if each.kind == "croissant"]
        assert found == ["has another SHA-256 of splits/val.csv than the file"]

    def test_that_mlcroissant_is_not_installed_is_no_finding_of_the_folder(
        self, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "mlcroissant", None)
        told = f"the records of croissant.json: mlcroissant is not installed: {pip_install('publish')}"

        assert publish.main(["check", str(whole)]) == 0
        assert capsys.readouterr().out == f"not checked: {told}\n{whole}: no findings\n"
        assert publish.main(["check", str(whole), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["not_checked"] == [told]
        assert publish.main(["check", str(whole), "--no_croissant"]) == 0
        assert capsys.readouterr().out == f"{whole}: no findings\n"

    def test_without_mlcroissant_the_rest_of_the_croissant_is_checked(
        self, whole: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "mlcroissant", None)
        with changed(whole / "croissant.json", b"splits/val.csv", b"splits/xal.csv"):
            assert "croissant" in {each.kind for each in check.check(whole, with_croissant=True)}


def test_a_folder_without_its_splits_is_told(folder: Path) -> None:
    shutil.rmtree(folder / "splits")
    assert {"missing", "table"} <= kinds(folder)
