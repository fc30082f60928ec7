"""What tells results of the same probe from each other."""

from collections.abc import Sequence
from typing import Any

import pytest

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

    assert result_settings.distinctions(results) == ["settings.k 20", "settings.k 5", "", ""]


def test_a_setting_that_one_result_lacks_is_told_of_both() -> None:
    results = [asked(options={"svm": {"select": "test"}}), asked(fingerprint="0123456789abcdef")]

    assert result_settings.distinctions(results) == [
        "options.svm.select test, no fingerprint",
        "no options.svm.select, fingerprint 0123456789ab",
    ]


def test_many_settings_are_counted() -> None:
    results = [asked(settings={f"s{n}": value for n in range(8)}) for value in (0, 1)]

    told = ", ".join(f"settings.s{n} 0" for n in range(6))
    assert result_settings.distinctions(results)[0] == f"{told}, 2 more settings"


def test_options_of_two_tables_are_not_taken_for_each_other() -> None:
    one, other = asked(settings={"k": 5}, given={"k": 20}), asked(settings={"k": 7}, given={"k": 20})

    assert result_settings.distinctions([one, other]) == ["settings.k 5", "settings.k 7"]


def test_results_that_select_on_different_splits_are_told_apart() -> None:
    results = [asked(best_on=split) for split in (None, "val")]

    assert result_settings.distinctions(results) == ["selected on None", "selected on val"]


def test_a_baseline_has_neither_the_gate_nor_its_options_and_all_else() -> None:
    def of(**settings: object) -> Asked:
        return result_settings.baseline({"probe": "finetune", "settings": settings})

    trained = of(gate=True, amfm={"gate": "relu"}, hidden=64)

    assert trained == of(gate=False, amfm={}, hidden=64)
    assert trained != of(gate=False, amfm={}, hidden=32)


def test_settings_of_results_of_one_title_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[int] = []

    def differing(group: Sequence[Asked]) -> list[str]:
        titles.append(len(group))
        return ["settings.k"]

    monkeypatch.setattr(result_settings, "differing", differing)

    result_settings.distinctions([asked(settings={"k": k}, samples=k % 2) for k in range(600)])

    assert titles == [300, 300]
