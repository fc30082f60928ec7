"""What a report on lists advises is true."""

from pathlib import Path

import pytest

from kinetics_sounds import lists
from kinetics_sounds.classes import ClassList
from kinetics_sounds.pipelines.fetching import list_report
from kinetics_sounds.pipelines.fetching.list_plan import Asked, plan_lists


def advice(folder: Path, *lengths: str, min_coverage: float) -> str:
    """The line about published clips of five seconds, of which so many were covered; empty if there is none."""
    path = folder / "manifest.csv"
    rows = [
        f"archery,{n:011d},0,5,train,{n:011d}_000000_000005,ok,{seconds}\n" for n, seconds in enumerate((*lengths, "5"))
    ]
    path.write_text("label,youtube_id,time_start,time_end,split,key,status,duration_seconds\n" + "".join(rows))
    plan = plan_lists(
        [lists.recognise(path)],
        ClassList("one", ("archery",)),
        Asked(splits=["train"], min_coverage=min_coverage),
        annotation_lists=list,
        always=False,
    )
    return "".join(line for line in list_report.text(list_report.report(plan, None)).split("\n") if "span" in line)


@pytest.mark.parametrize(
    ("lengths", "min_coverage", "least"),
    [
        (["4.498"], 0.9, "0.89"),  # 0.8996: 0.9 is what rejects it
        (["4.4999999999"], 0.9, "0.89"),
        (["4.25", "4.5"], 0.9, "0.85"),
        (["1.45"], 0.9, "0.29"),  # 100 times 0.29 is below 29 as a float
        (["4.26"], 0.855, "0.85"),
        (["0"], 0.9, "0"),
    ],
)
def test_the_advised_coverage_is_the_highest_of_two_digits_that_the_picture_passes(
    tmp_path: Path, lengths: list[str], min_coverage: float, least: str
) -> None:
    said = advice(tmp_path, *lengths, min_coverage=min_coverage)

    assert f"(the least {least}); to build them too, add --min_coverage {least} (or a lower value" in said


@pytest.mark.parametrize("length", ["-2.5", "nan", "inf", "-inf", "", "x", "7", "4.5"])
def test_a_length_that_no_clip_has_and_one_that_is_enough_advise_nothing(tmp_path: Path, length: str) -> None:
    assert advice(tmp_path, length, min_coverage=0.9) == ""
