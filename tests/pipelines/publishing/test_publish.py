"""ks-publish: what it writes, that it writes it again only where something changed, and what it never tells."""

import csv
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from kinetics_sounds import fingerprints, manifest
from kinetics_sounds.clip import Status
from kinetics_sounds.errors import KineticsSoundsError
from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.publishing import check, contents, likeness, swap, tables
from kinetics_sounds.shards import index, layout

from ...canaries import WORD, told
from ...hub_server import Hub
from ...shards.sets import make
from ..conftest import inline, video
from .builds import LABELS, clip, hashes, outcome, outcomes, published, sha256, write
from .builds import contents as bytes_of

COLUMNS = [
    *("label", "youtube_id", "time_start", "time_end", "split", "key", "status", "label_index", "bytes", "sha256"),
    *("duration_seconds", "fps", "width", "height", "num_frames", "audio_rate", "audio_channels", "audio_rms_db"),
    *(
        "audio_offset_seconds",
        "silent",
        "still",
        "rotation",
        "decode_errors",
        "audio_channel",
        "picture_hash",
        "sound_hash",
    ),
]
FILES = {
    *("README.md", "classes.txt", "fingerprints.json", "SHA256SUMS", "croissant.json"),
    *("CITATION.cff", "DATASHEET.md", "LICENSE.md", "CHANGES.md"),
    *(f"splits/{split}.{kind}" for split in ("train", "val", "test") for kind in ("csv", "parquet")),
}


def rows_of(folder: Path, split: str) -> list[dict[str, str]]:
    with contents.csv_path(folder, split).open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def version_of(folder: Path) -> str:
    return str(contents.read_fingerprints(folder).version)


class TestFolder:
    def test_it_holds_all_that_a_reader_needs(self, tmp_path: Path) -> None:
        out = published(tmp_path, outcomes())

        assert set(bytes_of(out)) == FILES
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        assert list(rows_of(out, "train")[0]) == list(tables.COLUMNS) == COLUMNS

    def test_every_annotated_row_is_in_its_split_with_what_became_of_it(self, tmp_path: Path) -> None:
        made = outcomes()
        out = published(tmp_path, made)

        found = {row["key"]: row for split in ("train", "val", "test") for row in rows_of(out, split)}
        assert {key: (row["split"], row["status"], row["label"]) for key, row in found.items()} == {
            each.clip.key: (each.clip.split, each.status.value, each.clip.label) for each in made
        }
        row = found[clip(4).key]
        assert (row["sha256"], row["bytes"], row["fps"], row["silent"]) == (
            sha256(clip(4).key),
            "1004",
            "29.97",
            "False",
        )
        assert (row["label_index"], row["youtube_id"]) == ("1", "-id_0000004")
        lost = found[clip(5).key]
        assert {name for name, cell in lost.items() if cell} == set(COLUMNS[:8])

    def test_parquet_says_the_same_with_types(self, tmp_path: Path) -> None:
        out = published(tmp_path, outcomes())

        table = pyarrow.parquet.read_table(out / "splits/val.parquet")
        assert table.schema.names == COLUMNS
        assert (table.schema.field("silent").type, table.schema.field("bytes").type) == ("bool", "int64")
        assert list(tables.read_parquet(out / "splits/val.parquet")) == list(tables.read_csv(out / "splits/val.csv"))

    def test_its_fingerprints_are_those_of_the_ok_clips(self, tmp_path: Path) -> None:
        made = outcomes()
        out = published(tmp_path, made)

        ok = [(each.clip, each.media) for each in made if each.media]
        rows = [(clip.key, clip.label, clip.split, media.sha256) for clip, media in ok]
        document = json.loads((out / "fingerprints.json").read_text())
        assert set(document) == {"name", "version", "classes", "schema", "selection", "content", "splits"}
        assert document["selection"] == fingerprints.selection(row[:3] for row in rows)
        assert document["content"] == fingerprints.content(rows)
        val = [row for row in rows if row[2] == "val"]
        assert document["splits"]["val"] == {
            "clips": len(val),
            "selection": fingerprints.selection(row[:3] for row in val),
            "content": fingerprints.content(val),
        }

    @pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")
    @pytest.mark.parametrize("labels", [LABELS, ('drums, "loud"', "=cmd()", "'tis")], ids=["plain", "odd"])
    def test_its_own_lines_of_shell_find_its_checksums_and_fingerprints(self, labels: Any, tmp_path: Path) -> None:
        made = [outcome(clip(n, label=labels[n % 3])) for n in range(9)]
        out = published(tmp_path, made, labels=labels)
        said = contents.read_fingerprints(out)

        card = (out / "README.md").read_text()
        lines = [line for line in card.splitlines() if line.endswith("| LC_ALL=C sort | sha256sum")]
        assert [line[:3] for line in lines] == (["awk"] * 2 if labels is LABELS else ["pyt"] * 2)
        lines = [line.replace("python3", sys.executable, 1) for line in lines]
        found = [subprocess.check_output(line, shell=True, cwd=out, text=True).split()[0] for line in lines]
        assert found == [said.selection, said.content]
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out, check=True)

    def test_a_split_without_rows_has_no_file(self, tmp_path: Path) -> None:
        out = published(tmp_path, [outcome(clip(1, split="val"))])

        assert contents.splits_of(out) == ["val"]
        assert list(contents.read_fingerprints(out).splits) == ["val"]

    def test_json_says_what_was_done(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = published(tmp_path, outcomes(), "--json")

        said = json.loads(capsys.readouterr().out)
        known = contents.read_fingerprints(out)
        assert (said["version"], said["changed"], said["selection"]) == ("1.0.0", True, known.selection)
        assert said["folder"] == str(out)

    def test_without_options_the_only_manifest_is_published(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "data/few", outcomes(), name="my classes")

        assert publish.main(["--no_hashes"]) == 0
        assert (tmp_path / "published/my-classes/README.md").is_file()
        assert "Zenodo" in capsys.readouterr().out

    def test_facts_of_shards_are_told_of_and_their_address_is_not(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Of a set without fingerprints it is said that they are not known."""
        selection = "ab" * 32
        shards = make(
            tmp_path / f"{WORD}-shards", (3,), selection=selection, frames={"codec": "h264", "short_side": 64}
        )
        out = published(tmp_path, outcomes(), "--shards", str(shards))
        card = (out / "README.md").read_text()
        assert "train 3 samples in 1 shard" in card.replace("\\", "")
        assert selection in card
        assert "(not the same keys, labels and splits as these lists)" in card
        assert WORD not in str(bytes_of(out))

        index.write(shards / layout.DATASET, index.Dataset(**{**_fields(shards), "selection": ""}))
        capsys.readouterr()
        published(tmp_path, outcomes(), "--shards", str(shards))
        assert "run ks-shard again" in capsys.readouterr().err
        assert "packed by an older version" in (out / "README.md").read_text()


def _fields(shards: Path) -> dict[str, Any]:
    dataset = index.read_dataset(shards)
    return {name: getattr(dataset, name) for name in type(dataset).__slots__}


class TestAgain:
    def test_where_nothing_changed_nothing_is_written(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        made = outcomes()
        out = published(tmp_path, made, "--date", "2026-01-02", "--creator", "A. Name")
        before = {path: path.stat() for path in [out, *out.rglob("*")]}

        published(tmp_path, made)

        assert "nothing changed" in capsys.readouterr().out
        assert {path: path.stat().st_mtime_ns for path in before} == {p: s.st_mtime_ns for p, s in before.items()}
        assert {path: path.stat().st_ino for path in before} == {path: stat.st_ino for path, stat in before.items()}

    def test_the_same_manifest_gives_the_same_bytes(self, tmp_path: Path) -> None:
        first = published(tmp_path / "a", outcomes(), "--date", "2026-01-02")
        second = published(tmp_path / "b", list(reversed(outcomes())), "--date", "2026-01-02")

        assert bytes_of(first) == bytes_of(second)

    @pytest.mark.parametrize(
        ("changes", "version"),
        [
            ({21: outcome(clip(21))}, "1.1.0"),
            ({5: outcome(clip(5))}, "1.1.0"),  # was private
            ({4: None}, "2.0.0"),
            ({4: outcome(clip(4), Status.REMOVED)}, "2.0.0"),
            ({4: outcome(clip(4, label=LABELS[0]))}, "2.0.0"),
            ({4: outcome(clip(4, split="test"))}, "2.0.0"),
            ({4: outcome(clip(4), sha256="0" * 64)}, "1.0.1"),
            ({5: outcome(clip(5), Status.REMOVED)}, "1.0.1"),
        ],
        ids=["added", "found", "gone", "lost", "label", "split", "bytes", "reason"],
    )
    def test_the_version_says_what_changed(self, changes: dict[int, Any], version: str, tmp_path: Path) -> None:
        made: dict[int, Any] = dict(enumerate(outcomes()))
        out = published(tmp_path, list(made.values()), "--date", "2026-01-02")

        left = [each for each in {**made, **changes}.values() if each is not None]
        published(tmp_path, left, "--date", "2026-01-03")

        assert version_of(out) == version
        text = (out / "CHANGES.md").read_text()
        assert re.findall(r"(?m)^## (.*)$", text) == [f"{version} (2026-01-03)", "1.0.0 (2026-01-02)"]
        assert list(check.check(out, with_croissant=False)) == []

    def test_a_version_may_be_given_where_the_rule_allows_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = published(tmp_path, outcomes(), "--version", "1.2.3")
        before = bytes_of(out)

        for refused in ("1.2.2", "1.2.4", "1.9.9", "1.2.3", "2", "2.0.0-rc1"):
            published(tmp_path, outcomes()[:-1], "--version", refused, code=2)
        assert "records were removed or moved, which needs a MAJOR version; give 2.0.0" in capsys.readouterr().err
        assert bytes_of(out) == before
        published(tmp_path, outcomes()[:-1], "--version", "2.1.0")
        assert version_of(out) == "2.1.0"

    def test_what_was_said_once_stays_said(self, tmp_path: Path) -> None:
        options = ["--creator", "A. Name", "--url", "https://example.org/few", "--license", "CC0-1.0"]
        out = published(tmp_path, outcomes(), *options)
        published(tmp_path, outcomes(21))

        citation = yaml.safe_load((out / "CITATION.cff").read_text())
        assert citation["authors"] == [{"name": "A. Name"}]
        assert (citation["url"], citation["license"], citation["version"]) == (
            "https://example.org/few",
            "CC0-1.0",
            "1.1.0",
        )

    def test_a_document_that_is_missing_is_made_again_in_the_same_version(self, tmp_path: Path) -> None:
        out = published(tmp_path, outcomes())
        before = bytes_of(out)
        for name in ("README.md", "CITATION.cff"):
            (out / name).unlink()
        published(tmp_path, outcomes())
        assert bytes_of(out) == before


class TestOthersFiles:
    def test_a_file_of_somebody_else_s_stays(self, tmp_path: Path) -> None:
        out = published(tmp_path, outcomes())
        (out / "mine").mkdir()
        (out / "mine/notes.txt").write_text("mine")
        (out / "mine/link").symlink_to("notes.txt")
        published(tmp_path, outcomes(21))

        assert version_of(out) == "1.1.0"
        assert (out / "mine/notes.txt").read_text() == "mine"
        assert (out / "mine/link").is_symlink()

    def test_what_was_changed_by_hand_is_not_written_over(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = published(tmp_path, outcomes())
        (out / "README.md").write_text("better")
        published(tmp_path, outcomes(21), code=2)

        assert "README.md was changed" in capsys.readouterr().err
        assert (out / "README.md").read_text() == "better"

    def test_a_folder_of_something_else_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/thesis.tex").write_text("years")
        published(tmp_path, outcomes(), code=2)

        assert "not a published folder" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]

    def test_a_file_in_place_of_the_folder_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "out").write_text("years")
        published(tmp_path, outcomes(), code=2)

        assert capsys.readouterr().err.endswith("/out: is no folder; choose another --out\n")
        assert (tmp_path / "out").read_text() == "years"

    def test_a_file_in_the_way_of_a_new_one_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        made = [outcome(clip(n, split="val")) for n in range(3)]
        out = published(tmp_path, made)
        (out / "splits/train.csv").write_text("mine")
        published(tmp_path, [*made, outcome(clip(3, split="train"))], code=2)

        assert "splits/train.csv was not written by ks-publish" in capsys.readouterr().err
        assert (out / "splits/train.csv").read_text() == "mine"

    def test_another_one_at_work_is_waited_for_by_whoever_runs_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with swap.staging(tmp_path / "out"):
            published(tmp_path, outcomes(), code=2)
        assert "another ks-publish is running in this folder" in capsys.readouterr().err


KILLED = """
import os, signal, sys
from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.publishing import folder, swap
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
moment = sys.argv.pop(1)
if moment == "documents": folder._write_documents = die
if moment == "before": swap._exchanged = die
if moment == "after": swap.discard = die
if moment == "between":
    rename = swap.Path.rename
    swap._exchanged = lambda *_: False
    swap.Path.rename = lambda self, to: (rename(self, to), die())
sys.exit(publish.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["documents", "before", "after", "between"])
def test_a_kill_leaves_the_old_folder_or_the_new_one(moment: str, tmp_path: Path) -> None:
    out = published(tmp_path, outcomes(), "--date", "2026-01-02")
    old = bytes_of(out)
    new = bytes_of(published(tmp_path / "other", outcomes(), "--date", "2026-01-02"))
    assert old == new
    published(tmp_path / "other", outcomes(21), "--date", "2026-01-03")
    new = bytes_of(tmp_path / "other/out")
    (out / "mine.txt").write_text("mine")

    path = write(tmp_path / "build", outcomes(21))
    words = ["--manifest", str(path), "--out", str(out), "--no_hashes", "--date", "2026-01-03"]
    done = subprocess.run([sys.executable, "-c", KILLED, moment, *words], capture_output=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr

    if moment != "between":  # of a file system that cannot exchange two folders; the next run mends it
        found = bytes_of(out)
        assert found.pop("mine.txt") == b"mine"
        assert found in (old, new)
    assert publish.main(words) == 0
    assert bytes_of(out) == new | {"mine.txt": b"mine"}
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


class TestHashes:
    @pytest.fixture
    def build(self, tmp_path: Path) -> Path:
        """Two real clips, and one whose file is no video."""
        made = []
        for number in range(3):
            path = tmp_path / f"build/clips/{number}.mp4"
            video(path, seconds=2, seed=number) if number < 2 else path.write_bytes(b"no video")
            facts: dict[str, Any] = {
                "path": f"clips/{number}.mp4",
                "bytes": path.stat().st_size,
                "sha256": _sha256(path),
            }
            made.append(outcome(clip(number, split="val"), **facts))
        return write(tmp_path / "build", made)

    def test_they_are_computed_once_and_what_has_none_is_named(
        self,
        build: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        inline(monkeypatch)
        caplog.set_level("INFO", "kinetics_sounds")
        out = tmp_path / "out"
        words = ["--manifest", str(build), "--out", str(out), "--workers", "1"]
        assert publish.main(words) == 1
        assert f"no hashes: {clip(2).key}" in capsys.readouterr().err
        assert "ks-publish hashes of distinct files 3/3 " in caplog.text
        rows = {row["key"]: row for row in rows_of(out, "val")}
        assert [bool(rows[clip(n).key]["picture_hash"]) for n in range(3)] == [True, True, False]
        assert rows[clip(0).key]["sound_hash"].startswith("s1:")

        described: list[Path] = []

        def describe(task: likeness.Task) -> str:
            described.append(task.path)
            return "no"

        monkeypatch.setattr(likeness, "describe", describe)
        assert publish.main(words) == 1
        assert described == [build.parent / "clips/2.mp4"]
        assert version_of(out) == "1.0.0"

    def test_a_stopped_run_keeps_what_it_computed(
        self, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inline(monkeypatch)
        described: list[str] = []

        def describe(task: likeness.Task) -> tuple[str, str]:
            described.append(task.path.name)
            if len(described) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return hashes(len(described))

        monkeypatch.setattr(likeness, "describe", describe)
        words = ["--manifest", str(build), "--out", str(tmp_path / "out"), "--workers", "1"]
        assert publish.main(words) == 3
        assert not (tmp_path / "out").exists()
        assert publish.main(words) == 0
        assert sorted(described) == sorted({*described})
        assert rows_of(tmp_path / "out", "val")[0]["picture_hash"].startswith("p1:")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestMedia:
    def test_clips_are_copied_with_a_warning_and_only_where_asked(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "build/clips").mkdir(parents=True)
        made = []
        for number in range(3):
            (tmp_path / f"build/clips/{number}.mp4").write_bytes(b"%d" % number)
            made.append(outcome(clip(number, split="val"), path=f"clips/{number}.mp4", sha256=sha256(str(number))))
        out = published(tmp_path, made, "--media")

        assert "--media: The folder `clips/` contains media. " in capsys.readouterr().err
        assert (out / f"clips/val/{clip(1).key}.mp4").read_bytes() == b"1"
        assert list(check.check(out, with_croissant=False)) == []
        (tmp_path / "build/clips/0.mp4").unlink()  # it is in the folder that is there
        published(tmp_path, [*made, outcome(clip(4), Status.PRIVATE)], "--media")
        assert len(list(out.rglob("*.mp4"))) == 3
        capsys.readouterr()
        published(tmp_path, made, "--creator", "A. Name")
        told = capsys.readouterr().out
        assert "media: 3 clips removed from the folder" in told
        assert "not given yet: --url (its page)" in told
        assert not list(out.rglob("*.mp4"))

        (tmp_path / "build/clips/1.mp4").write_bytes(b"one")
        shutil.rmtree(out)
        published(tmp_path, made[1:], "--media", code=2)
        assert "its SHA-256 differs from the manifest" in capsys.readouterr().err
        assert not out.exists()


class TestAllowList:
    def test_nothing_of_the_machine_is_told(self, tmp_path: Path) -> None:
        made = [
            _with_canaries(outcome(clip(1), path=f"clips/{WORD}.mp4", other_streams=f"{WORD}1", origin=f"/{WORD}2")),
            _with_canaries(outcome(clip(2), format_ids=f"{WORD}3", audio_language=f"{WORD}4", audio_track=f"{WORD}5")),
            _with_canaries(outcome(clip(3), Status.PRIVATE)),
        ]
        build = tmp_path / f"{WORD}-build"
        path = write(build, made)
        shutil.copy(path.with_suffix(".csv"), build / f"{WORD}.csv")  # a copy, whose class list names it
        for manifest_ in (path, build / f"{WORD}.csv"):
            out = tmp_path / manifest_.suffix / "out"
            assert publish.main(["--manifest", str(manifest_), "--out", str(out), "--no_hashes", "--name", "few"]) == 0
            kept = ("classes", f"`{WORD}`", f"# {WORD}:") if manifest_.suffix == ".csv" else ()
            texts = dict(told(out))
            if kept:  # the class list is called like the file that the user gave
                texts = {
                    place: text.replace(f'"classes": "{WORD}"', "").replace(kept[1], "")
                    for place, text in texts.items()
                }
                texts = {place: text.replace(kept[2], "") for place, text in texts.items()}
            assert [place for place, text in texts.items() if WORD in text] == []


def _with_canaries(each: Any) -> Any:
    said = {"detail": f"{WORD}6", "source": f"local:/{WORD}7", "tool_versions": f"{WORD}8"}
    return dataclasses.replace(each, **said)


def test_push_sends_no_secret_that_lies_in_the_folder(hub_server: Hub, tmp_path: Path) -> None:
    published(tmp_path, outcomes(3))
    (tmp_path / "out/.env").write_text(f"HF_TOKEN={WORD}")
    published(tmp_path, outcomes(), "--push", "hf://datasets/ann/few", "--yes")

    assert (tmp_path / "out/.env").is_file()
    assert ".env" not in hub_server.repos["datasets/ann/few"].files


def test_push_sends_the_folder_as_it_was_written(
    hub_server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = "hf://datasets/ann/few"
    out = published(tmp_path, outcomes(), "--push", place, "--yes")
    assert set(hub_server.repos["datasets/ann/few"].commits[-1]) == set(bytes_of(out))
    assert "Zenodo: upload" not in capsys.readouterr().out
    published(tmp_path, outcomes(), "--push", place, "--yes")
    assert "0 files sent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--push", "hf://datasets/ann/few"], "add --yes"),
        (["--push", "hf://ann/few", "--yes"], "give hf://datasets/USER/NAME"),
        (["--push", "s3://bucket/few", "--yes"], "not a location on the Hub"),
        (["--yes"], "add it, or leave them out"),
        (["--name", "../x"], "--name"),
        (["--name", "<b>"], "--name"),
        (["--name", "common"], "--name"),
        (["--license", "mine"], "none of CC-BY-4.0"),
        (["--date", "yesterday"], "--date"),
        (["--date", "2026-02-30"], "--date"),
        (["--url", "javascript:alert(1)"], "--url"),
        (["--url", "https://user:word@example.org/"], "--url"),
        (["--creator", "a\nb"], "--creator"),
        (["--version", "one"], "--version"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_what_cannot_be_is_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(tmp_path, outcomes(3), *options, code=2)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("label", ["a # b", " blank", "sep\u2028arated"])
def test_a_label_that_no_class_list_can_name_is_refused(
    label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(tmp_path, [outcome(clip(1, label=label))], labels=[label], code=2)
    assert "no list can contain it" in capsys.readouterr().err


def test_labels_are_published_in_one_form_of_unicode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = "playing accorde\u0301on"
    out = published(tmp_path / "a", [outcome(clip(1, label=label))], labels=[label])
    assert rows_of(out, "val")[0]["label"] == "playing accord\u00e9on"

    both = [label, "playing accord\u00e9on"]
    published(tmp_path / "b", [outcome(clip(1, label=label))], labels=both, code=2)
    assert "differ only in their Unicode form" in capsys.readouterr().err


def test_a_manifest_without_rows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published(tmp_path, [], code=2)
    assert "nothing to publish" in capsys.readouterr().err


def test_a_refusal_leaves_nothing_behind(tmp_path: Path) -> None:
    published(tmp_path, outcomes())
    published(tmp_path, outcomes(21), "--version", "1.0.0", code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "out"]


def test_where_folders_cannot_be_exchanged_they_are_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "_exchanged", lambda *_: False)
    out = published(tmp_path, outcomes())
    published(tmp_path, outcomes(21))
    assert version_of(out) == "1.1.0"

    rename = Path.rename

    def failing(path: Path, to: Path) -> Path:
        if path.name == "new":
            raise OSError(5, "the disk fails", str(path))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", failing)
    published(tmp_path, outcomes(), code=4)
    assert version_of(out) == "1.1.0"


def test_a_manifest_that_is_none_is_a_misuse(tmp_path: Path) -> None:
    assert publish.main(["--manifest", str(tmp_path / "none.parquet")]) == 2
    with pytest.raises(KineticsSoundsError):
        manifest.read(tmp_path / "none.parquet")
