"""Rows whose label is not in the class list are counted, and which are a class written otherwise."""

import json
import random
from pathlib import Path

import pytest

from kinetics_sounds import classes
from kinetics_sounds.pipelines import build
from kinetics_sounds.pipelines.fetching.other_labels import alike, told, warning

HEAD = "label,youtube_id,time_start,time_end,split\n"


@pytest.mark.parametrize("label", ["Playing drums", "playing_drums", "playing-drum", " playing  drums "])
def test_a_slip_is_known_by_the_class_that_it_is_like(label: str) -> None:
    assert alike([label], ["dog barking", "playing drums"]) == {label: "playing drums"}


@pytest.mark.parametrize("label", ["cat", "playing drumms", "playing drumsticks", "take 11", "playing the drums set"])
def test_another_class_is_no_slip(label: str) -> None:
    assert alike([label], ["dog", "playing drums", "take 10"]) == {}


def test_a_typo_is_told_where_few_labels_are_left_out() -> None:
    rows = {"dog barkin": 1, "Dog  Barking": 2, "cat": 3, "drumming": 4}

    assert warning(rows, ["dog barking", "clapping"]) == (
        "rows left out, whose labels may be meant to be in the class list: "
        "'dog barkin' (like 'dog barking'), 'Dog  Barking' (like 'dog barking')"
    )
    assert warning({"catt": 1}, ["cat", "dog"]).endswith(": 'catt' (like 'cat')")
    assert warning({"cat": 1, "barking dog": 1, "dog walking": 1}, ["dog barking"]) == ""
    assert warning({f"dog barkin{letter}": 1 for letter in "abcdef"}, ["dog barking"]) == ""


def test_no_label_of_kinetics_is_a_slip_of_another() -> None:
    every = classes.read("k400").labels
    for name in ("k31", "k32", "k100"):
        held = classes.read(name).labels
        assert alike([label for label in every if label not in held], held) == {}
    half = random.Random(1).sample(every, len(every) // 2)
    assert alike([label for label in every if label not in half], half) == {}


def test_some_labels_are_named_and_those_of_a_larger_set_are_counted() -> None:
    def rows(count: int) -> dict[str, int]:
        return {f"label {number}": 1 + number for number in range(count)}

    assert told({}, ["dog"]) == ""
    assert told({"cat": 1}, ["dog"]) == "1 row has a label that is not in the class list: 'cat' (1)"
    assert told(rows(6), "abcdef").endswith("'label 4' (5), 'label 3' (4), 'label 2' (3), 'label 1' (2) and 1 more")
    assert told(rows(6), ["dog"]) == "21 rows have labels that are not in the class list"


@pytest.mark.parametrize("option", ["--annotations", "--clips"])
def test_a_build_tells_of_rows_that_are_left_out(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{label},video_{number},0,10,train\n" for number, label in enumerate(("dog", "Dog", "dogs", "cat"))]
    (tmp_path / "mine.csv").write_text(HEAD + "".join(rows))
    (tmp_path / "mine.txt").write_text("dog\n")
    argv = ["--classes", str(tmp_path / "mine.txt"), option, str(tmp_path / "mine.csv"), "--out", str(tmp_path / "out")]
    argv += ["--source", f"local:{tmp_path}", "--workers", "1"]
    names = "not in the class list: 'Dog' (1), 'dogs' (1), 'cat' (1)\n"

    for more, code in (["--dry_run"], 0), ([], 1):
        caplog.clear()
        assert build.main([*argv, *more]) == code
        said = capsys.readouterr().out
        assert names in said
        assert "annotations" not in option or "mine.csv: 4 rows, 1 clip; 3 rows have labels that are" in said
        assert (
            "whose labels may be meant to be in the class list: 'Dog' (like 'dog'), 'dogs' (like 'dog')" in caplog.text
        )
    build.main([*argv, "--dry_run", "--json"])
    for document in json.loads(capsys.readouterr().out), json.loads((tmp_path / "out/report.json").read_text()):
        section = document["annotations"] if "annotations" in option else document["lists"]["splits"]["train"]
        assert (section["rows"], section["other_classes"]) == (4, 3)
