"""ks-publish over what is there: which version follows, what it asks for, and what is on the disk when."""

import os
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.publishing import check, contents

from .builds import LABELS, clip, outcome, outcomes, published, sha256, write
from .builds import contents as bytes_of
from .test_publish import FILES, version_of


@pytest.mark.parametrize(
    ("labels", "version", "told"),
    [
        (LABELS, "1.0.0", ""),
        ((*LABELS[:3], "zumba"), "1.0.1", ""),
        ((LABELS[0], LABELS[2], LABELS[1]), "2.0.0", f"2 ({LABELS[1]}, {LABELS[2]})"),
        ((LABELS[0], "zumba", *LABELS[1:]), "2.0.0", f"2 ({LABELS[1]}, {LABELS[2]})"),
    ],
    ids=["same", "one more", "exchanged", "one between"],
)
def test_another_index_of_a_label_is_another_meaning(labels: Any, version: str, told: str, tmp_path: Path) -> None:
    out = published(tmp_path, outcomes())
    published(tmp_path, outcomes(), labels=labels)

    assert version_of(out) == version
    lines = [line for line in (out / "CHANGES.md").read_text().splitlines() if "label_index" in line]
    assert lines == ([f"- labels whose label_index changed or disappeared: {told}"] if told else [])
    assert list(check.check(out, with_croissant=False)) == []


def test_what_changed_since_the_version_before_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = outcomes()
    out = published(tmp_path, made)
    said = capsys.readouterr().out
    assert "\nsince " not in said
    assert "\nlicense: CC-BY-4.0 of the lists (--license chooses another)\n" in said

    published(tmp_path, [each for each in made if each.clip.key != clip(1).key] + [outcome(clip(30))])

    assert "since 1.0.0: records added: test 1; records removed: val 1\n" in capsys.readouterr().out
    assert "- records added: test 1\n- records removed: val 1\n" in (out / "CHANGES.md").read_text()


@pytest.mark.parametrize(
    ("first", "then", "kept"),
    [("A. Name", "A. Name", True), ("anonymous", "A. Name", True), ("A. Name", "B. Name", False)],
)
def test_the_page_of_another_creator_is_not_taken_over(
    first: str, then: str, kept: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, license_ = "https://example.org/few", "CC0-1.0"
    published(tmp_path, outcomes(), "--creator", first, "--url", page, "--license", license_)
    capsys.readouterr()

    out = published(tmp_path, outcomes(21), "--creator", then)

    said = capsys.readouterr()
    assert ("not given yet: --url (its page)" in said.out) != kept
    told = f"--creator: is another name than before, so the page {page} is not told; if it is yours, add --url {page}\n"
    assert (told in said.err) != kept
    assert (page in (out / "croissant.json").read_text()) == kept
    assert license_ in (out / "CITATION.cff").read_text()


def test_a_label_that_is_gone_without_a_row_is_told(tmp_path: Path) -> None:
    out = published(tmp_path, outcomes(), labels=(*LABELS, "zumba"))
    published(tmp_path, outcomes())
    assert version_of(out) == "2.0.0"


@pytest.mark.parametrize("name", ["CHANGES.md", "croissant.json", "splits/val.parquet"])
@pytest.mark.parametrize("sums", [False, True])
def test_history_that_is_missing_is_asked_for_and_never_begun_anew(
    name: str, sums: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where its line of SHA256SUMS went with it, if it is one that every folder has."""
    out = published(tmp_path, outcomes())
    whole = (out / name).read_bytes()
    (out / name).unlink()
    lines = (out / "SHA256SUMS").read_text()
    if sums and "/" not in name:
        (out / "SHA256SUMS").write_text("".join(x for x in lines.splitlines(True) if not x.endswith(f" {name}\n")))
    before = bytes_of(out)

    published(tmp_path, outcomes(21), code=2)
    err = capsys.readouterr().err
    assert f"lacks {name}, which the next version needs; restore the published version" in err
    assert bytes_of(out) == before
    (out / name).write_bytes(whole)  # the remedy
    (out / "SHA256SUMS").write_text(lines)
    published(tmp_path, outcomes(21))
    assert (out / "CHANGES.md").read_text().count("## ") == 2


@pytest.mark.parametrize("name", ["CHANGES.md", "croissant.json", "splits/val.csv", "README.md"])
def test_where_the_next_version_needs_an_edited_file_it_is_to_be_restored_at_once(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = published(tmp_path, outcomes())
    (out / name).write_bytes((out / name).read_bytes() + b" ")

    published(tmp_path, outcomes(21), code=2)
    remedy = "move the edited files elsewhere" if name == "README.md" else "restore the published version (from the Hub"
    assert f"out: was edited after ks-publish: {name} was changed; {remedy}" in capsys.readouterr().err


def test_without_checksums_the_remedy_is_another_one_than_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = published(tmp_path, outcomes())
    (out / "SHA256SUMS").unlink()
    published(tmp_path, outcomes(21), code=2)
    assert "restore the published version, or rebuild the folder with another --out" in capsys.readouterr().err


def test_a_checkout_of_the_hub_in_which_nothing_is_yet_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out/.git").mkdir(parents=True)
    (tmp_path / "out/.git/config").write_text("[core]")
    (tmp_path / "out/.gitattributes").write_text("*.parquet filter=lfs")
    out = published(tmp_path, outcomes())

    assert (out / ".git/config").read_text() == "[core]"
    assert set(bytes_of(out)) == FILES | {".git/config", ".gitattributes"}
    assert list(check.check(out, with_croissant=False)) == []


def test_the_root_cannot_be_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, outcomes())
    assert publish.main(["--manifest", str(path), "--out", "/", "--no_hashes"]) == 2
    assert "/: is not a folder that can be replaced; choose another --out" in capsys.readouterr().err


def test_all_bytes_are_on_the_disk_before_the_folder_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the media too, which are copied as they are."""
    (tmp_path / "build/clips").mkdir(parents=True)
    (tmp_path / "build/clips/0.mp4").write_bytes(b"0")
    synced: set[str] = set()
    sync, rename = os.fsync, Path.rename
    here: list[set[str]] = []

    def noted(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        here.append({str(each) for each in path.rglob("*")})
        return rename(path, to)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "rename", renamed)
    published(tmp_path, [outcome(clip(0), path="clips/0.mp4", sha256=sha256("0"))], "--media")
    [names] = here
    assert any(name.endswith(".mp4") for name in names)
    assert names <= synced


def test_another_name_makes_a_second_folder_and_how_to_rename_the_first_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/few").mkdir(parents=True)
    write(tmp_path / "data/few", outcomes())
    assert publish.main(["--no_hashes"]) == 0
    assert "stays as it is" not in capsys.readouterr().err

    assert publish.main(["--no_hashes", "--name", "other"]) == 0

    assert sorted(path.name for path in Path("published").iterdir()) == ["few", "other"]
    assert (
        "published/few: a published set of these classes, stays as it is; to rename that one instead, add --out published/few\n"
    ) in capsys.readouterr().err
    assert publish.main(["--no_hashes", "--name", "other", "--out", "published/few"]) == 0
    assert contents.read_fingerprints(Path("published/few")).name == "other"


def test_a_folder_keeps_its_name_and_another_one_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = published(tmp_path, outcomes(), "--name", "first")
    assert "renamed" not in capsys.readouterr().out

    published(tmp_path, outcomes())  # no --name: not that of the class list, few
    assert contents.read_fingerprints(out).name == "first"
    assert f"nothing changed in {out}" in capsys.readouterr().out

    published(tmp_path, outcomes(), "--name", "other")
    assert contents.read_fingerprints(out).name == "other"
    assert (
        "since 1.0.0: the same clips: documents or columns changed; renamed: first is now other\n"
        in capsys.readouterr().out
    )
    assert "- renamed: first is now other\n" in (out / "CHANGES.md").read_text()

    published(tmp_path, outcomes(8), "--name", "other")
    assert "renamed" not in capsys.readouterr().out
    assert (out / "CHANGES.md").read_text().count("renamed") == 1


@pytest.mark.parametrize(
    ("creator", "again", "note", "told"),
    [
        ("A. Author", ["--creator", "B. Student"], "", "was published by A. Author, not B. Student; for a folder of"),
        ("A. Author", [], "from the published folder few", "is the folder whose lists this build was made from; for a"),
        ("A. Author", ["--creator", "B. Student", "--out", "published/few"], "", ""),
        ("A. Author", ["--creator", "A. Author"], "", ""),
        ("A. Author", ["--creator", "A. Author"], "from the published folder few", ""),
        ("anonymous", ["--creator", "A. Author"], "", ""),
        ("A. Author", ["--creator", "B. Student", "--name", "other"], "", ""),
    ],
    ids=[
        "another creator",
        "made from it",
        "asked for",
        "the same",
        "made from a folder of this name",
        "named now",
        "another folder",
    ],
)
def test_somebody_elses_folder_is_only_written_if_it_is_named(
    creator: str,
    again: list[str],
    note: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/few").mkdir(parents=True)
    write(tmp_path / "data/few", outcomes())
    assert publish.main(["--no_hashes", "--creator", creator]) == 0
    before = bytes_of(Path("published/few"))
    write(tmp_path / "data/few", outcomes(20), note=note)

    assert publish.main(["--no_hashes", *again]) == (2 if told else 0)

    assert told in capsys.readouterr().err
    if told:
        assert bytes_of(Path("published/few")) == before
