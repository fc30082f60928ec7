"""Documents of a set that was made from lists name these lists, and the clips that are not the publisher's."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from kinetics_sounds import fingerprints
from kinetics_sounds.classes import from_published
from kinetics_sounds.clip import Outcome
from kinetics_sounds.pipelines import list_origin, publish
from kinetics_sounds.pipelines.publishing import check
from kinetics_sounds.pipelines.publishing.made_from import MadeFrom, card_lines

from .builds import clip, outcome, outcomes, published, write
from .builds import contents as bytes_of

K32 = {
    "name": "k32",
    "version": "1.2.0",
    "creator": "A. Author",
    "url": "https://example.org/k32",
    "license": "https://creativecommons.org/licenses/by-sa/4.0/",
}
TOLD = "the lists of k32 1.2.0 by A. Author (https://example.org/k32), under https://creativecommons.org/licenses/by-sa/4.0/"


def listed(path: str, said: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"file": path, "format": "published" if said else "kinetics", "split": "train", "published": said}


def report(made: Sequence[Outcome], *files: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The report of a build of these clips from these lists."""
    ok = [(each.clip.key, each.clip.label, each.clip.split) for each in made if each.media]
    return {
        "selection": fingerprints.selection(ok),
        "lists": {"files": list(files), "splits": {"train": {"rows": 20}}},
        "compared": {"clips": {}},
    } | more


def publish_with(folder: Path, made: Sequence[Outcome], document: object, *more: str, note: str = "") -> Path:
    """The published folder of these, beside whose manifest this report lies."""
    (folder / "build").mkdir(parents=True)
    (folder / "build/report.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return published(folder, made, "--date", "2026-01-02", *more, note=note)


def fingerprints_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "fingerprints.json").read_text())
    return found


def card_of(out: Path) -> str:
    return (out / "README.md").read_text().replace("\\", "")


def test_all_documents_name_the_published_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [listed(f"/home/me/theirs/splits/{split}.csv", K32) for split in ("train", "val")]
    out = publish_with(tmp_path, outcomes(), report(outcomes(), *files))

    assert f"\nmade from: {TOLD}; README.md and LICENSE.md say so\n" in capsys.readouterr().out
    assert f"\n## Made from\n\nThe rows come from {TOLD}.\n\n## Coverage\n" in card_of(out)
    assert f"Made from {TOLD}: " in (out / "LICENSE.md").read_text().replace("\\", "")
    assert f"The rows of {TOLD}, that are" in (out / "DATASHEET.md").read_text().replace("\\", "")
    citation = yaml.safe_load((out / "CITATION.cff").read_text())
    assert citation["message"].endswith("and the works that they come from.")
    assert citation["abstract"].endswith(f"; selection {fingerprints_of(out)['selection']}. Made from {TOLD}.")
    assert citation["references"] == [
        {
            "type": "data",
            "title": "k32",
            "authors": [{"name": "A. Author"}],
            "version": "1.2.0",
            "url": K32["url"],
            "license-url": K32["license"],
        }
    ]
    croissant = json.loads((out / "croissant.json").read_text())
    assert croissant["prov:wasDerivedFrom"] == [K32["url"]]
    assert croissant["creditText"] == TOLD
    assert croissant["rai:dataCollection"].endswith(f" Made from {TOLD}.")
    assert "/home/me" not in str(bytes_of(out))


@pytest.mark.filterwarnings("ignore")  # of mlcroissant's own
def test_mlcroissant_reads_what_it_was_made_from(tmp_path: Path) -> None:
    import mlcroissant

    files = [listed("a.csv", K32), listed("b.csv", K32 | {"name": "k31", "url": "https://example.org/k31"})]
    out = publish_with(tmp_path, outcomes(), report(outcomes(), *files))

    issues = mlcroissant.Dataset(jsonld=str(out / "croissant.json")).metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())
    assert list(check.check(out, with_croissant=True)) == []


def test_of_another_list_only_the_files_name_is_told(tmp_path: Path) -> None:
    files = [listed("/home/me/paper/my_train.txt"), listed("my_test.txt")]
    out = publish_with(tmp_path, outcomes(), report(outcomes(), *files))

    assert "The rows come from the lists my_train.txt, my_test.txt." in card_of(out)
    assert "references" not in yaml.safe_load((out / "CITATION.cff").read_text())
    assert "prov:wasDerivedFrom" not in json.loads((out / "croissant.json").read_text())
    assert "/home" not in str(bytes_of(out))


def test_hostile_texts_of_somebodys_lists_do_nothing_in_the_documents(tmp_path: Path) -> None:
    hostile = {
        "name": "<script>alert(1)</script>",
        "creator": "[x](http://evil.example) \u202e @someone",
        "url": "javascript:alert(1)",
        "version": "1\n# 2",
    }
    out = publish_with(tmp_path, outcomes(), report(outcomes(), listed("![](x.png).csv"), listed("a", hostile)))

    for name in ("README.md", "LICENSE.md", "DATASHEET.md", "CITATION.cff", "croissant.json"):
        text = (out / name).read_text("utf-8")
        assert ("\u202e" in text, "javascript" in text, "\n# 2" in text) == (False, False, False)
        assert not name.endswith(".md") or ("<script" not in text and "[x](" not in text and "![]" not in text)
    [cited] = yaml.safe_load((out / "CITATION.cff").read_text("utf-8"))["references"]
    assert cited["title"] == hostile["name"]
    assert list(check.check(out, with_croissant=False)) == []


def test_clips_that_differ_are_counted_among_those_that_are_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = outcomes()
    keys = [clip(number).key for number in (1, 2, 3, 4, 6)]  # 5 is private
    compared = dict.fromkeys([*keys[:4], clip(5).key, "gone_000000_000010"], "different: sound") | {keys[4]: "alike"}
    document = report(made, listed("a.csv", K32), compared={"clips": compared})

    out = publish_with(tmp_path / "a", made, document)

    assert "\n4 of the clips differ in picture or sound from the publisher's clip of the same key: results" in card_of(
        out
    )
    named = ", ".join(f"`{key}`" for key in keys[:3])
    assert f" results on the two sets may differ: {named} and 1 more." in card_of(tmp_path / "a/out")
    assert f"results on the two sets may differ: {', '.join(keys[:3])} and 1 more\n" in capsys.readouterr().out


def test_the_card_names_a_command_for_clips_that_differ_only_where_there_are_hashes() -> None:
    lists = MadeFrom(files=["a.csv"], different=["b"])

    assert [card_lines(lists, hashed=hashed)[-1].endswith(" folder names them.") for hashed in (True, False)] == [
        True,
        False,
    ]


def test_rows_that_the_publisher_did_not_have_are_counted(tmp_path: Path) -> None:
    document = report(outcomes(), listed("a.csv", K32))
    document["lists"]["splits"] = {
        "train": {"rows": 9, "never_published": 2},
        "val": {"never_published": 8},
        "test": {},
    }

    told = "10 rows without a clip at the publisher were not requested, and were not counted below.\n"
    assert told in card_of(publish_with(tmp_path, outcomes(), document))


def test_clips_of_the_lists_that_are_missing_here_are_counted_among_the_rows(tmp_path: Path) -> None:
    document = report(outcomes(), listed("a.csv", K32))
    document["lists"]["lacking"] = {clip(0).key: "private", clip(5).key: "private", "left_out_000000_000010": "removed"}

    told = " 2 clips of the lists are missing here: see the column `status`.\n"
    assert told in card_of(publish_with(tmp_path / "a", outcomes(), document))
    assert "missing here" not in card_of(
        publish_with(tmp_path / "b", outcomes(), report(outcomes(), listed("a.csv", K32)))
    )


def test_a_set_with_the_name_of_the_one_it_was_made_from_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = report(outcomes(), listed("a.csv", K32))
    publish_with(tmp_path / "a", outcomes(), document, "--name", "k32")
    assert "\nname: k32 (--name chooses another)\nmade from: " in capsys.readouterr().out

    publish_with(tmp_path / "b", outcomes(), document, "--name", "mine")
    assert "name chooses" not in capsys.readouterr().out


def test_a_filtered_copy_is_made_from_the_same_lists(tmp_path: Path) -> None:
    made = outcomes()
    different = {clip(1).key: "different: sound", clip(2).key: "different: sound"}
    build = write(tmp_path / "build", made).parent
    (build / "report.json").write_text(json.dumps(report(made, listed("a.csv", K32), compared={"clips": different})))
    few = write(tmp_path / "few", [each for each in made if each.clip.key != clip(2).key])
    shutil.move(few, build / "few.parquet")

    out = tmp_path / "out"
    assert publish.main(["--manifest", str(build / "few.parquet"), "--out", str(out), "--no_hashes"]) == 0

    assert f"The rows come from {TOLD}." in card_of(out)
    assert "\n1 of the clips differs in" in card_of(out)


def test_a_copy_with_another_label_is_not_known_to_be_made_from_the_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = outcomes()
    build = write(tmp_path / "build", made).parent
    (build / "report.json").write_text(json.dumps(report(made, listed("a.csv", K32))))
    few = write(tmp_path / "few", [outcome(clip(1, label="playing drums"))])
    assert clip(1).label == "tapping pen"
    shutil.move(few, build / "few.parquet")

    assert publish.main(["--manifest", str(build / "few.parquet"), "--out", str(tmp_path / "out"), "--no_hashes"]) == 0

    assert f"{build}/report.json: is of other clips than the manifest, so the lists" in capsys.readouterr().err
    assert "Made from" not in card_of(tmp_path / "out")


OLD = [{"file": "a.csv", "format": "published", "split": "train"}]
"""The files of a report before it named the folders that they are of."""


DAMAGED, OTHER = "is damaged", "is of other clips than the manifest"


@pytest.mark.parametrize(
    ("document", "listed_why", "why"),
    [
        (None, "", "is missing"),
        ("", "", "cannot be read (Expecting value"),
        ("{", "", "cannot be read (Expecting property"),
        ("[" * 100_000, "", "cannot be read (it is nested too deeply)"),
        ("[]", "", "is not a table"),
        ({}, "", OTHER),
        ({"selection": 1, "lists": {}}, DAMAGED, DAMAGED),
        (report(outcomes(22), listed("a.csv", K32)), OTHER, OTHER),
        (report(outcomes(), *OLD), "was written by an older version", "was written by an older version"),
        (report(outcomes(), listed("a.csv", K32), compared=7), DAMAGED, DAMAGED),
        (report(outcomes(), listed("a.csv", K32), compared={"clips": {clip(1).key: 7}}), DAMAGED, DAMAGED),
        (report(outcomes(), {"file": 7, "published": None}), DAMAGED, DAMAGED),
        (report(outcomes(), lists={"files": [], "splits": {}, "lacking": 7}), DAMAGED, DAMAGED),
        (report(outcomes(), {"file": "a", "published": [1]}), DAMAGED, DAMAGED),
        ({key: value for key, value in report(outcomes()).items() if key != "lists"}, "", ""),
    ],
    ids=lambda each: str(each)[-60:],
)
def test_a_report_that_cannot_be_used_changes_nothing_and_is_told(
    document: object, listed_why: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`why`: of a build whose classes are a published folder's; `listed_why`: of any other, which may be from annotations."""
    for note, told in (("", listed_why), (from_published("k32"), why)):
        folder = tmp_path / ("noted" if note else "plain")
        without = published(folder / "without", outcomes(), "--date", "2026-01-02", note=note)
        capsys.readouterr()
        if document is None:
            out = published(folder / "with", outcomes(), "--date", "2026-01-02", note=note)
        else:
            out = publish_with(folder / "with", outcomes(), document, note=note)

        said = capsys.readouterr().err
        assert (f"/build/report.json: {told}" in said, "so the lists" in said) == (True, True) if told else said == ""
        assert bytes_of(out) == bytes_of(without)


def test_lists_that_a_version_names_are_not_lost_with_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = publish_with(tmp_path, outcomes(), report(outcomes(), listed("my_train.txt")))
    before = bytes_of(out)
    (tmp_path / "build/report.json").unlink()

    assert published(tmp_path, outcomes(), code=2) == out

    assert (
        f"{out}: version 1.0.0 names what it was made from (the list my_train.txt), and this one would not: "
        f"{tmp_path}/build/report.json names no lists; run the same ks-build again, or choose another --out"
    ) in capsys.readouterr().err
    assert bytes_of(out) == before


BY, BY_SA = "https://creativecommons.org/licenses/by/4.0/", K32["license"]


@pytest.mark.parametrize(
    ("licenses", "options", "expected", "told"),
    [
        ([BY_SA], [], BY_SA, ""),
        ([BY_SA, BY_SA], [], BY_SA, ""),
        ([BY_SA, BY], [], BY, ""),
        ([BY_SA, None], [], BY, ""),
        (["https://example.org/terms"], [], BY, ""),
        (
            [BY_SA],
            ["--license", "CC-BY-4.0"],
            BY,
            "--license: is CC-BY-4.0, but the lists that the build was made from are ",
        ),
    ],
    ids=str,
)
def test_the_license_is_that_of_the_lists_where_they_have_one(
    licenses: list[str | None],
    options: list[str],
    expected: str,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = [K32 | {"name": f"k{number}", "license": each or ""} for number, each in enumerate(licenses)]
    out = publish_with(tmp_path, outcomes(), report(outcomes(), *(listed("a.csv", each) for each in said)), *options)

    assert json.loads((out / "croissant.json").read_text())["license"] == expected
    assert capsys.readouterr().err.startswith(told)
    terms = (out / "LICENSE.md").read_text()
    assert (
        "\nThe lists, tables and documents of this folder, as far as the publisher of this folder made them: " in terms
    )
    assert "What the publisher of this folder made is under [" in card_of(out)


def test_an_earlier_version_of_the_set_itself_is_not_told_but_what_it_was_made_from_is(tmp_path: Path) -> None:
    own = K32 | {"name": "out", "creator": "Me", "made_from": f"{TOLD}; the list a.csv"}
    theirs = own | {"creator": "Other"}
    again = ("--name", "out", "--creator", "Me")

    out = publish_with(tmp_path / "own", outcomes(), report(outcomes(), listed("a.csv", own)), *again)
    other = publish_with(tmp_path / "other", outcomes(), report(outcomes(), listed("a.csv", theirs)), *again)

    assert f"The rows come from {TOLD}; the list a.csv." in card_of(out)
    assert "prov:wasDerivedFrom" not in json.loads((out / "croissant.json").read_text())
    assert f", under {BY_SA} (made from {TOLD}; the list a.csv)." in card_of(other)


def test_an_anonymous_set_of_the_same_name_is_not_taken_for_an_earlier_version(tmp_path: Path) -> None:
    theirs = K32 | {"name": "out", "creator": "anonymous"}

    out = publish_with(tmp_path / "b", outcomes(), report(outcomes(), listed("a.csv", theirs)), "--name", "out")

    assert "by anonymous" in card_of(out)


def test_a_chain_of_sets_names_all_of_them(tmp_path: Path) -> None:
    """The second set is made from the first one's lists, and the third from the second's."""
    second = publish_with(
        tmp_path / "b",
        outcomes(),
        report(outcomes(), listed("a.csv", K32)),
        "--name",
        "second",
        "--creator",
        "B. Second",
    )
    said = list_origin.of_folder(second)
    third = publish_with(tmp_path / "c", outcomes(), report(outcomes(), listed("b.csv", said)))

    told = f"the lists of second 1.0.0 by B. Second, under {BY_SA} (made from {TOLD})"
    for name in ("README.md", "LICENSE.md", "CITATION.cff", "croissant.json", "DATASHEET.md"):
        assert told in (third / name).read_text().replace("\\", "")


def test_an_interrupted_comparison_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = report(outcomes(), listed("a.csv", K32))
    del document["compared"]
    publish_with(tmp_path / "a", outcomes(), document)
    told = "/build/report.json: the clips were not compared with the published ones; run the same ks-build again\n"
    assert told in capsys.readouterr().err

    publish_with(tmp_path / "b", outcomes(), document | report(outcomes(), listed("mine.csv")))
    publish_with(tmp_path / "c", outcomes(), report(outcomes(), listed("a.csv", K32)))
    assert capsys.readouterr().err == ""


def test_the_result_in_json_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = report(outcomes(), listed("a.csv", K32), compared={"clips": {clip(1).key: "different: sound"}})
    publish_with(tmp_path, outcomes(), document, "--json")

    found = json.loads(capsys.readouterr().out)
    assert (found["made_from"], found["different_from_lists"]) == (TOLD, 1)
