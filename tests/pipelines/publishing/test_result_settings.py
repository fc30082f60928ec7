"""What tells results of the same probe from each other."""

from typing import Any

from kinetics_sounds.pipelines.publishing import result_settings
from kinetics_sounds.pipelines.publishing.result_settings import Asked


def asked(**more: Any) -> Asked:
    return result_settings.asked({"probe": "knn", "on_split": "test", "samples": 30, "clips": 10, **more})


def test_only_settings_that_differ_on_as_many_clips_of_the_same_split_are_named() -> None:
    results = [
        asked(settings={"k": 20, "temperature": 0.07}),
        asked(settings={"k": 5, "temperature": 0.07}),
        asked(on_split="val", clips=2),
        asked(probe="svm", clips=2),
    ]

    assert result_settings.distinctions(results) == ["k 20", "k 5", "", ""]


def test_a_setting_that_one_result_lacks_is_told_of_both() -> None:
    results = [asked(options={"svm": {"select": "test"}}), asked(fingerprint="0123456789abcdef")]

    assert result_settings.distinctions(results) == [
        "svm.select test, no fingerprint",
        "fingerprint 0123456789ab, no svm.select",
    ]


def test_many_settings_are_counted() -> None:
    results = [asked(settings={f"s{n}": value for n in range(8)}) for value in (0, 1)]

    assert result_settings.distinctions(results)[0] == "s0 0, s1 0, s2 0, s3 0, s4 0, s5 0, 2 more settings"
