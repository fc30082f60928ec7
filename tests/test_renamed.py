"""Old names of options and keys: replaced with a warning, and refused beside the new one."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import renamed


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Warnings are given once a process."""
    renamed._warn.cache_clear()
    yield
    renamed._warn.cache_clear()


def anything(name: str) -> bool:
    """A command that has every current option, and no old one."""
    return renamed.current(name) == name


def test_a_new_name_is_in_the_group_of_the_old_one_and_no_old_name_itself() -> None:
    for old, new in renamed.RENAMED.items():
        assert old.rpartition(".")[0] == new.rpartition(".")[0]
        assert renamed.current(new) == new


def test_a_key_within_a_renamed_setting_keeps_its_own_name() -> None:
    assert renamed.current("optim.factors.*.bias") == "optim.lr_multipliers.*.bias"
    assert renamed.current("optim.factorship") == "optim.factorship"


def test_old_options_are_replaced_with_a_warning_each(caplog: pytest.LogCaptureFixture) -> None:
    argv = ["--clip_norm", "1", "--optim.cut=0.5", "--batch", "4"]

    assert renamed.rename_options(argv, anything) == ["--max_grad_norm", "1", "--optim.factor=0.5", "--batch", "4"]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "--clip_norm is now --max_grad_norm; the old name is accepted until 0.3",
        "--optim.cut is now --optim.factor; the old name is accepted until 0.3",
    ]


@pytest.mark.parametrize("argv", [["--optim", '{"cut": 0.5, "lr": 1}'], ['--optim={"cut": 0.5, "lr": 1}']])
def test_keys_in_a_table_for_a_whole_group_are_replaced(argv: list[str]) -> None:
    words = " ".join(renamed.rename_options(argv, anything)).replace("=", " ")

    assert words == '--optim {"factor": 0.5, "lr": 1}'
    assert renamed.rename_options(["--optim", "mine.yaml"], anything) == ["--optim", "mine.yaml"]


def test_an_option_of_a_command_that_never_had_another_name_is_its_own() -> None:
    argv = ["--init=x"]

    assert renamed.rename_options(argv, lambda name: name == "init") == argv
    assert renamed.rename_options(argv, lambda name: False) == argv  # to be refused by the parser


def test_an_option_by_both_names_is_refused() -> None:
    with pytest.raises(ValueError, match="--init and --init_from are the same option; give --init_from only"):
        renamed.rename_options(["--init", "a", "--init_from=b"], anything)


def test_keys_of_a_nested_and_of_a_flat_table_are_replaced_in_place(caplog: pytest.LogCaptureFixture) -> None:
    nested: dict[Any, Any] = {
        "seed": 1,
        "init": "a",
        "optim": {"lr": 0.1, "cut": 0.5, "factors": {"cut": 2.0}},
        7: "eight",
    }
    flat = {"optim.factors.*.bias": 2.0, "accumulate": 3}

    found = renamed.rename_keys(nested, place="mine.yaml")
    assert [*found] == ["seed", "init_from", "optim", 7]
    assert found["optim"] == {"lr": 0.1, "factor": 0.5, "lr_multipliers": {"cut": 2.0}}
    assert renamed.rename_keys(flat, place="s") == {"optim.lr_multipliers.*.bias": 2.0, "grad_accum_steps": 3}
    assert caplog.messages[0] == (
        "mine.yaml: init is now init_from, optim.cut is now optim.factor, optim.factors is now optim.lr_multipliers; old names "
        "are accepted until 0.3"
    )


def test_a_table_is_read_often_and_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        renamed.rename_keys({"init": "a"}, place="mine.yaml")

    assert len(caplog.messages) == 1


def test_a_table_with_both_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optim.cut and optim.factor are the same setting; keep optim.factor only"):
        renamed.rename_keys({"optim": {"cut": 0.1, "factor": 0.1}}, place="mine.yaml")


def test_the_changelog_lists_them_all() -> None:
    text = (Path(__file__).parents[1] / "CHANGELOG.md").read_text()

    assert dict(re.findall(r"^  \| `--([\w.]+)` \| `--([\w.]+)` \|$", text, flags=re.MULTILINE)) == renamed.RENAMED
