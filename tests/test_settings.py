"""Options come from the defaults, a recipe and the command line, in this order, and every misuse is one plain line."""

import contextlib
import errno
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kinetics_sounds import files
from kinetics_sounds.address import Address
from kinetics_sounds.errors import (
    AnnotationError,
    ClassListError,
    FolderInUseError,
    KineticsSoundsError,
    LostRanksError,
    ManifestError,
    RemoteError,
    RunError,
    SettingsError,
    ShardError,
)
from kinetics_sounds.settings import (
    DONE,
    FAULT,
    MISUSE,
    SAME_SECONDS,
    SOME_FAILED,
    STOPPED,
    Layers,
    Parsed,
    choices,
    command,
    only_one,
    parse,
    read_config,
    stoppable,
)


@dataclass(frozen=True)
class Optim:
    """How weights move."""

    lr: float = 0.1
    """Learning rate at its highest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Cook something.

    Examples:
      ks-cook --name soup
    """

    name: str
    """What to cook."""
    minutes: int = 10
    """Minutes on the fire."""
    limit: int | None = None
    """At most this many plates."""
    out: Path | None = None
    """Folder of the plates."""
    heat: Literal["low", "high"] = "low"
    """How hot."""
    herbs: tuple[str, ...] = ("salt",)
    """Several at once."""
    guest: tuple[str, ...] = field(default=(), metadata={"repeat": True})
    """One at a time; repeatable."""
    stir: bool = False
    """Stir now and then."""
    lid: bool = True
    """With the lid on."""


def read(*argv: str) -> Parsed[Settings]:
    return parse(Settings, argv, prog="ks-cook", groups={"optim": Optim}, find_config=Path)


def refusal(*argv: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(*argv)
    return str(caught.value)


def recipe(folder: Path, text: str | bytes) -> str:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


# --- What is read -----------------------------------------------------------------------------------------------------


def test_defaults_hold_where_nothing_is_said() -> None:
    parsed = read("--name", "soup")

    assert parsed.settings == Settings(name="soup")
    assert parsed.groups == {"optim": Optim()}
    assert parsed.configs == ()


def test_every_kind_of_option_is_read_from_the_command_line() -> None:
    argv = "--name soup --minutes 5 --limit 3 --out a/b --heat high --herbs basil dill --guest ann --guest=bob --stir"

    parsed = read(*argv.split(), "--lid", "false", "--optim.lr", "1e-3")

    assert parsed.settings == Settings(
        name="soup",
        minutes=5,
        limit=3,
        out=Path("a/b"),
        heat="high",
        herbs=("basil", "dill"),
        guest=("ann", "bob"),
        stir=True,
        lid=False,
    )
    assert parsed.groups["optim"] == Optim(lr=0.001)


def test_a_process_reads_its_own_argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ks-cook", "--name", "stew"])

    assert parse(Settings, None, prog="ks-cook").settings.name == "stew"


@pytest.mark.parametrize("word", ["1", "true", "null", "-", "a,b", "[x]", "{x}", "é", "a b", "x=y", "#x", "'"])
def test_texts_stay_the_texts_that_were_typed(word: str) -> None:
    parsed = read("--name", word, "--herbs", word, word, "--guest", word)

    assert (parsed.settings.name, parsed.settings.herbs, parsed.settings.guest) == (word, (word, word), (word,))


def test_a_negative_number_is_a_value() -> None:
    assert read("--name", "x", "--limit", "-3").settings.limit == -3


def test_calls_do_not_remember_each_other() -> None:
    read("--name", "x", "--guest", "ann", "--herbs", "dill")

    assert read("--name", "x", "--guest", "bob").settings.guest == ("bob",)
    assert read("--name", "x").settings.herbs == ("salt",)


# --- Recipes ----------------------------------------------------------------------------------------------------------

RECIPE = """
name: stew
minutes: 90
limit: null
out: some/where
heat: high
herbs: [bay, thyme]
guest: [ann]
stir: true
lid: false
optim:
  lr: 0.5
"""


def test_a_recipe_beats_the_defaults(tmp_path: Path) -> None:
    path = recipe(tmp_path, RECIPE)

    parsed = read("--config", path)

    assert parsed.settings == Settings(
        name="stew",
        minutes=90,
        out=Path("some/where"),
        heat="high",
        herbs=("bay", "thyme"),
        guest=("ann",),
        stir=True,
        lid=False,
    )
    assert parsed.groups["optim"] == Optim(lr=0.5)
    assert parsed.configs == (Path(path),)


def test_the_command_line_beats_a_recipe(tmp_path: Path) -> None:
    path = recipe(tmp_path, RECIPE)

    argv = "--name soup --minutes 5 --herbs dill --guest bob --guest cy --lid true --optim.lr 2"
    parsed = read("--config", path, *argv.split())

    assert parsed.settings.name == "soup"
    assert parsed.settings.minutes == 5
    assert parsed.settings.herbs == ("dill",)
    assert parsed.settings.guest == ("bob", "cy")
    assert parsed.settings.lid is True
    assert parsed.settings.stir is True
    assert parsed.groups["optim"] == Optim(lr=2.0)


def test_a_later_recipe_beats_an_earlier_one_and_both_are_told(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("name: a\nminutes: 1\n")
    (tmp_path / "second.yaml").write_text("minutes: 2\n")

    parsed = read("--config", f"{tmp_path}/first.yaml", "--config", f"{tmp_path}/second.yaml")

    assert (parsed.settings.name, parsed.settings.minutes) == ("a", 2)
    assert [path.stem for path in parsed.configs] == ["first", "second"]


def test_a_recipe_is_found_by_whoever_knows_the_names(tmp_path: Path) -> None:
    path = Path(recipe(tmp_path, RECIPE))

    parsed = parse(
        Settings, ["--config", "stew"], prog="x", groups={"optim": Optim}, find_config={"stew": path}.__getitem__
    )

    assert parsed.settings.name == "stew"
    assert parsed.configs == (path,)


def layered(folder: Path, *texts: str) -> Callable[[str], Layers]:
    path = Path(recipe(folder, RECIPE))
    return lambda name: Layers(folder / "table.yaml" / name, (path, *texts))


def test_a_recipe_may_be_another_and_what_is_set_otherwise(tmp_path: Path) -> None:
    find, groups = layered(tmp_path, "{name: broth, optim: {}}", "minutes: 3"), {"optim": Optim}

    parsed = parse(Settings, ["--lid=true", "--config=broth"], prog="x", groups=groups, find_config=find)

    assert parsed.settings.name == "broth"
    assert (parsed.settings.minutes, parsed.settings.heat, parsed.settings.lid) == (3, "high", True)
    assert parsed.groups["optim"] == Optim(lr=0.5)
    assert parsed.configs == (tmp_path / "table.yaml" / "broth",)
    again = Path(recipe(tmp_path, parsed.text))
    assert parse(Settings, ["--config=x"], prog="x", groups=groups, find_config=lambda _: again).text == parsed.text


@pytest.mark.parametrize(
    ("text", "complaint"), [("minuets: 3", "minuets"), ("optim: {lr: fast}", "lr"), ("lid: 2", "lid"), ("[1]", "table")]
)
def test_a_fault_of_what_is_set_otherwise_names_the_table_and_its_row(
    text: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(
            *(Settings, ["--config=broth"]),
            prog="x",
            groups={"optim": Optim},
            find_config=layered(tmp_path, text),
        )

    assert str(caught.value).startswith(f"{tmp_path}/table.yaml/broth: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_parsed_is_read_back_from_its_text(tmp_path: Path) -> None:
    argv = "--minutes 7 --herbs 1 true null --guest= --guest a,b --stir --lid false --optim.lr 1e-5 --out"
    said = read("--name", "a: 'b' \"c\" #d\nné", *argv.split(), "a b/c")

    again = read("--config", recipe(tmp_path, said.text))

    assert again.settings == said.settings
    assert again.groups == said.groups
    assert again.text == said.text


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).filter(
    lambda text: not text.startswith("-")
)


@hypothesis_settings(max_examples=25, deadline=None)
@given(name=NAMES, minutes=st.integers(), lr=st.floats(allow_nan=False, allow_infinity=False), stir=st.booleans())
def test_any_settings_are_read_back_from_their_text(
    name: str, minutes: int, lr: float, stir: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    flags = ["--stir"] if stir else []  # the x: a bare 1e3 is dumped as a text and refused as a number
    said = read(f"--name=x{name}", f"--minutes={minutes}", f"--optim.lr={lr!r}", *flags)

    again = read("--config", recipe(tmp_path_factory.mktemp("recipe"), said.text))

    assert again.settings == said.settings == Settings(name=f"x{name}", minutes=minutes, stir=stir)
    assert again.groups == said.groups == {"optim": Optim(lr)}


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("", "the following arguments are required: name"),
        ("--name", "argument --name: expected one argument"),
        ("--name x --minuets 3", "unrecognized arguments: --minuets 3"),
        ("--name x stray", "unrecognized arguments: stray"),
        ("--name x --minutes soon", 'Parser key "minutes": Expected a'),
        ("--name x --minutes 1.5", 'Parser key "minutes": Expected a'),
        ("--name x --limit many", 'Parser key "limit"'),
        ("--name x --heat medium", "['low', 'high']. Got value: medium"),
        ("--name x --lid perhaps", 'Parser key "lid"'),
        ("--name x --stir yes", "unrecognized arguments: yes"),
        ("--name x --herbs", "argument --herbs: expected at least one argument"),
        ("--name x --optim.lr fast", 'Parser key "optim.lr": Expected a'),
        ("--name x --optim.momentum 1", "unrecognized arguments: --optim.momentum 1"),
    ],
)
def test_a_wrong_option_is_named_in_one_line_with_the_remedy(argv: str, said: str) -> None:
    text = refusal(*argv.split())

    assert said in text
    assert text.endswith("; see ks-cook --help")
    assert "\n" not in text


@pytest.mark.parametrize("option", ["--min", "--optim.l", "--nam"])
def test_an_option_is_spelt_out(option: str) -> None:
    assert f"unrecognized arguments: {option} 1" in refusal("--name", "x", option, "1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nminuets: 3\n", "'minuets' is not accepted"),
        ("name: x\noptim:\n  momentum: 1\n", "momentum"),
        ("name: x\nminutes: soon\n", 'Parser key "minutes"'),
        ("name: x\nlimit: 1.5\n", 'Parser key "limit"'),
        ("name: x\nheat: medium\n", "Got value: medium"),
        ("name: 3\n", 'Parser key "name"'),
        ("name: x\nstir: perhaps\n", "stir: 'perhaps' is neither true nor false"),
        ("name: x\nstir: 'false'\n", "stir: 'false' is neither true nor false"),
        ("name: x\nherbs: salt\n", "herbs: 'salt' is no list of texts"),
        ("name: x\nguest: ann\n", "guest: 'ann' is no list of texts"),
        ("name: x\nherbs: [1, 2]\n", "herbs: [1, 2] is no list of texts"),
        ("name: x\noptim: 3\n", ""),
        ("minutes: 3\n", "name"),
        ("name: x\n  bad: : y\n", "mapping values are not allowed"),
        ("- a\n- b\n", "Unexpected config"),
        ("hello\n", "Unexpected config"),
        ("", "Unexpected config"),
        (b"name: \xff\n", "utf-8"),
        ("!!python/object/apply:os.system ['exit 1']\n", "could not determine a constructor"),
    ],
)
def test_a_wrong_recipe_is_named_in_one_line(text: str | bytes, said: str, tmp_path: Path) -> None:
    path = recipe(tmp_path, text)

    answer = refusal("--config", path)

    assert answer.startswith(f"{path}: ")
    assert said in answer
    assert "\n" not in answer


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "line 2: aliases (*a) are not read"),
        (f"name: x\nminutes: {json.dumps(BOMB)}\n", "aliases (*a) are not read"),
        (f"name: x\nherbs: [{json.dumps(BOMB)}]\n", "aliases (*a) are not read"),
        ("name: " + "[" * 30_000, "line 1: nested deeper than 8"),
        (f"name: x\nminutes: '{'[' * 30_000}'\n", "nested deeper than 8"),
        ("name: x\n" + "a:\n".join(" " * n for n in range(300)) + "b", "nested deeper than 8"),
        ("# " + "x" * 65_536, "is longer than 64 KiB"),
        ("minutes: " + "9" * 60_000, "limit"),
        ("name: x\nminutes: !!python/object/apply:os.system ['exit 1']\n", "could not determine a constructor"),
        ("name: x\nlimit: !!timestamp 2026-01-01\n", "limit: is neither text, number, truth nor a list of these"),
        ("name: x\nlimit: {class_path: never}\n", "limit: is neither text, number, truth nor a list of these"),
        ("name: x\nlimit: [[1]]\n", "limit: is neither text, number, truth nor a list of these"),
        ("name: x\noptim: other.yaml\n", "optim: 'other.yaml' is no group of settings"),
        ("config: other.yaml\n", "Key 'config' is not accepted"),
        ("print_config: x\n", "Key 'print_config' is not accepted"),
        ("3: x\n", "Key '3' is not accepted"),
        ("? [a]\n: x\n", "unhashable key"),
    ],
)
def test_a_strangers_recipe_is_refused_before_it_costs_anything(text: str, said: str, tmp_path: Path) -> None:
    path = recipe(tmp_path, text)
    tracemalloc.start()
    try:
        answer = refusal("--config", path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert answer.startswith(f"{path}: ")
    assert said in answer
    assert len(answer) < 1000
    assert most < 16 << 20


def test_a_recipe_without_end_is_not_read_to_it() -> None:
    assert refusal("--config", "/dev/zero").startswith("/dev/zero: is longer than 64 KiB")


def test_of_a_recipe_that_is_too_long_no_more_is_read_than_tells_so(
    tmp_path: Path, memory: Callable[[int], contextlib.AbstractContextManager[None]]
) -> None:
    with (tmp_path / "long.yaml").open("wb") as file:
        file.truncate(64 << 20)  # of zeros, none of which is stored

    with memory(8 << 20), pytest.raises(ValueError, match="is longer than 64 KiB"):
        read_config(tmp_path / "long.yaml")


@pytest.mark.parametrize(
    "text", ["optim:\n  class_path: {0}.X\n", "class_path: {0}.X\n", "optim: {{class_path: {0}.X}}\n"]
)
def test_what_a_recipe_names_is_never_imported(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strangers_module.py").write_text(f"open({str(tmp_path / 'IMPORTED')!r}, 'w')\nclass X: ...\n")
    monkeypatch.syspath_prepend(tmp_path)

    answer = refusal("--config", recipe(tmp_path, "name: x\n" + text.format("strangers_module")))

    assert not (tmp_path / "IMPORTED").exists()
    assert "class_path' is not accepted" in answer


def test_a_recipe_is_read_though_a_file_is_called_like_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "name: x").write_text("name: another\n")

    assert read("--config", recipe(tmp_path, "name: x")).settings.name == "x"


def test_a_recipe_that_is_not_there_or_a_folder_is_named(tmp_path: Path) -> None:
    assert refusal("--config", f"{tmp_path}/none.yaml").startswith(f"{tmp_path}/none.yaml: ")
    assert refusal("--config", str(tmp_path)).startswith(f"{tmp_path}: ")


def test_a_command_without_recipes_has_no_config(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unrecognized arguments: --config"):
        parse(Settings, ["--name", "x", "--config", recipe(tmp_path, RECIPE)], prog="ks-cook")

    assert parse(Settings, ["--name", "x"], prog="ks-cook").text == ""


# --- Help -------------------------------------------------------------------------------------------------------------


def test_help_shows_every_option_with_its_docstring_unit_and_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    with pytest.raises(SystemExit) as caught:
        read("--help")

    shown = capsys.readouterr().out
    assert caught.value.code == 0
    for line in (
        "usage: ks-cook",
        "Cook something.\n\nExamples:\n  ks-cook --name soup\n",
        "What to cook. (required, type: str)",
        "Minutes on the fire. (type: int, default: 10)",
        "Several at once. (default: ['salt'])",
        "Stir now and then. (default: False)",
        "Learning rate at its highest. (type: float, default: 0.1)",
        "{low,high}",
        "--config",
    ):
        assert line in shown


# --- Words and paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [("train", ("train",)), ("test,train", ("test", "train")), (" val , test ,", ("val", "test"))],
)
def test_words_keep_their_order(text: str, words: tuple[str, ...]) -> None:
    assert choices(text, ["train", "val", "test"], option="splits") == words


def test_a_wrong_word_is_told_the_valid_ones_and_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        choices("train,tset", ["train", "val", "test"], option="splits")

    assert str(caught.value) == "--splits: 'tset' is none of train, val, test (did you mean 'test'?)"


@pytest.mark.parametrize("text", ["", " ", ",,"])
def test_no_word_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--splits: is empty; give one or more of train, val"):
        choices(text, ["train", "val"], option="splits")


def made(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "data" / name).mkdir(parents=True)
        (folder / "data" / name / "manifest.parquet").touch()


def one(folder: Path) -> Path:
    return only_one("data/*/manifest.parquet", option="manifest", make="ks-build", below=folder)


def test_the_only_candidate_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "k32")
    monkeypatch.chdir(tmp_path)

    assert one(tmp_path) == tmp_path / "data/k32/manifest.parquet"
    assert only_one("data/*/manifest.parquet", option="manifest", make="ks-build") == Path("data/k32/manifest.parquet")


def test_no_candidate_is_told_who_makes_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        one(tmp_path)

    assert str(caught.value) == (
        "nothing matches data/*/manifest.parquet here; make it with ks-build, or name it with --manifest"
    )


def test_several_candidates_are_listed(tmp_path: Path) -> None:
    made(tmp_path, "k100", "k32")

    with pytest.raises(SettingsError) as caught:
        one(tmp_path)

    assert str(caught.value) == (
        f"there are 2 of data/*/manifest.parquet: {tmp_path}/data/k100/manifest.parquet, "
        f"{tmp_path}/data/k32/manifest.parquet; choose with --manifest"
    )


# --- Exit codes -------------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize("code", [DONE, SOME_FAILED, MISUSE, STOPPED, FAULT])
def test_a_commands_own_code_is_kept(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("ks-cook", lambda: code) == code
    assert capsys.readouterr().err == ""


@pytest.mark.timeout(20)
def test_an_error_that_is_its_own_cause_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        error = SettingsError("--out: is not so")
        raise error from error

    assert command("ks", refuse) == 2
    assert capsys.readouterr().err == "ks: error: --out: is not so\n"


def test_exit_codes_are_the_contract() -> None:
    assert (DONE, SOME_FAILED, MISUSE, STOPPED, FAULT) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("kind", [KineticsSoundsError, SettingsError, ClassListError, FolderInUseError])
def test_an_error_of_the_user_is_one_line_and_exit_2(
    kind: type[KineticsSoundsError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("ks-cook", raising(kind("soup.txt: is cold; warm it"))) == 2
    assert capsys.readouterr().err == "ks-cook: error: soup.txt: is cold; warm it\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_exit_3(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = os.strerror(number)

    assert command("ks-cook", raising(OSError(number, words, "/data/a"))) == 3
    assert command("ks-cook", raising(OSError(number, words))) == 3  # a write knows no name
    assert capsys.readouterr().err.splitlines() == [
        f"ks-cook: stopped: {words}: /data/a; free some space and run it again",
        f"ks-cook: stopped: {words}; free some space and run it again",
    ]


def test_a_full_disk_says_what_is_needed_where_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as a sync says it: without a path

    def write() -> int:
        files.write_bytes(tmp_path / "a", bytes(1_200_000))
        return DONE

    monkeypatch.setattr(os, "fsync", full)
    assert command("ks-cook", write) == 3
    assert list(tmp_path.iterdir()) == []
    told = capsys.readouterr().err
    assert told.startswith(f"ks-cook: stopped: No space left on device: {tmp_path}/a")
    assert told.endswith("; about 1.2 MB are needed; free some space and run it again\n")


@pytest.mark.parametrize("act", ["fsync", "replace"])
def test_a_disk_that_fails_as_a_file_gets_its_name_is_no_success(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def write() -> int:
        files.write_bytes(tmp_path / "manifest.parquet", b"new")
        return SOME_FAILED

    (tmp_path / "manifest.parquet").write_bytes(b"old")
    monkeypatch.setattr(os if act == "fsync" else Path, act, fails)
    assert command("ks-cook", write) == 4
    assert capsys.readouterr().err.startswith(f"ks-cook: error: Input/output error: {tmp_path}/manifest.parquet")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("manifest.parquet", b"old")]


def test_a_place_that_cannot_be_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()

    def below_a_file() -> int:
        (tmp_path / "file" / "folder").mkdir(parents=True)
        return DONE

    assert command("ks-cook", below_a_file) == 2
    assert command("ks-cook", raising(PermissionError(errno.EACCES, "Permission denied", "/root/a"))) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"ks-cook: error: Not a directory: {tmp_path}/file/folder; choose another place or mend this one",
        "ks-cook: error: Permission denied: /root/a; choose another place or mend this one",
    ]


@pytest.mark.parametrize("error", [ValueError("odd"), MemoryError("odd"), OSError("odd"), AssertionError("odd")])
def test_anything_else_is_a_bug_with_its_traceback_and_exit_4(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("ks-cook", raising(error)) == 4
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last):\n")
    assert told.endswith(
        f"{type(error).__name__}: odd\nks-cook: this is a bug; please report it with the lines above\n"
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_fails_is_one_line_with_its_path_and_exit_4(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("ks-cook", raising(OSError(number, os.strerror(number), "/data/a"))) == 4
    assert capsys.readouterr().err == (
        f"ks-cook: error: {os.strerror(number)}: /data/a; see to that disk or network and run it again\n"
    )


@pytest.mark.parametrize(
    ("number", "kind", "code", "told"),
    [
        (errno.EIO, ShardError, 4, "error"),
        (errno.ESTALE, AnnotationError, 4, "error"),
        (errno.EMFILE, RunError, 4, "error"),
        (errno.ENOSPC, ManifestError, 3, "stopped"),
        (errno.EACCES, ShardError, 2, "error"),  # for the user to mend
        (errno.EIO, RemoteError, 2, "error"),  # as s3fs says of a bucket that is not there
    ],
)
def test_an_error_of_ours_that_tells_of_a_failing_disk_is_no_misuse(
    number: int, kind: type[KineticsSoundsError], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def read() -> int:
        try:
            raise OSError(number, os.strerror(number), "/data/a")
        except OSError as error:
            raise kind("/data/a: cannot be read") from error

    assert command("ks-cook", read) == code
    assert capsys.readouterr().err == f"ks-cook: {told}: /data/a: cannot be read\n"


def test_a_fault_that_is_no_misuse_is_one_line_and_exit_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("ks-cook", raising(LostRanksError("rank 0: lost the others"))) == 4
    assert capsys.readouterr().err == "ks-cook: error: rank 0: lost the others\n"


def test_an_interrupt_is_one_line_and_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("ks-cook", raising(KeyboardInterrupt())) == 3
    assert capsys.readouterr().err == "ks-cook: stopped: interrupted; run it again\n"


def shell(code: str, pipe: str) -> tuple[int, str, str]:
    """Exit code of a command whose output goes through `pipe`, and what it wrote to standard output and error."""
    script = f"set -o pipefail; {sys.executable} -c '{code}' | {pipe}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=environment)
    return result.returncode, result.stdout, result.stderr


PRINT = """
import sys
from kinetics_sounds.settings import command
def run():
    for number in range({lines}):
        print(number)
    return {code}
sys.exit(command("ks-cook", run))
"""


def test_output_that_nobody_reads_to_its_end_is_no_error_of_a_command_that_has_ended() -> None:
    assert shell(PRINT.format(lines=3, code=0), "true") == (0, "", "")
    assert shell(PRINT.format(lines=3, code=1), "true") == (1, "", "")


@pytest.mark.parametrize("pipe", ["exec >&-", "exec <&- >&- 2>&-"])
def test_a_command_whose_streams_are_closed_writes_into_no_file_of_its_own(pipe: str, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from kinetics_sounds.settings import command
def run():
    with Path(sys.argv[1]).open("wb", buffering=0) as out:
        print("said", flush=True)
        out.write(b"written")
    return 1
sys.exit(command("ks-cook", run))
"""
    done = subprocess.run(
        ["bash", "-c", f'{pipe}; exec "$@"', "-", sys.executable, "-c", script, str(tmp_path / "out")], check=False
    )
    assert done.returncode == 1
    assert (tmp_path / "out").read_bytes() == b"written"


def test_a_standard_output_that_is_full_is_no_success() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        argv = [sys.executable, "-c", PRINT.format(lines=3, code=0)]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, check=False, env=environment)
    assert done.returncode == 3
    assert (
        done.stderr == b"ks-cook: stopped: No space left on device: standard output; free some space and run it again\n"
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_standard_output_that_is_full_before_the_end_is_named(unbuffered: str) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full")
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        argv = [sys.executable, "-c", PRINT.format(lines=100_000, code=0)]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, check=False, env=environment)
    assert done.returncode == 3
    assert (
        done.stderr == b"ks-cook: stopped: No space left on device: standard output; free some space and run it again\n"
    )


@pytest.mark.parametrize("lines", [3, 100_000])
def test_a_standard_output_that_fails_is_no_bug(lines: int) -> None:
    """As where it leads to a file on a disk that fails, once."""
    failing = """
import errno, io
from kinetics_sounds import settings
class Failing(io.FileIO):
    left = 1
    def write(self, data):
        if Failing.left:
            Failing.left = 0
            raise OSError(errno.EIO, "Input/output error")
        return super().write(data)
settings._StandardOutput.__bases__ = (Failing,)
"""
    argv = [sys.executable, "-c", failing + PRINT.format(lines=lines, code=0)]
    done = subprocess.run(argv, capture_output=True, check=False, text=True)
    assert done.returncode == 4
    assert done.stderr == (
        "ks-cook: error: Input/output error: standard output; see to that disk or network and run it again\n"
    )


def test_a_name_that_is_no_utf_8_can_be_printed() -> None:
    script = PRINT.format(lines=1, code=0).replace("print(number)", "print(sys.argv[1])")
    done = subprocess.run([sys.executable, "-c", script, b"a\xff"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\\udcff\n", b"")


def test_a_command_that_is_cut_short_by_its_reader_has_not_done_its_work() -> None:
    code, shown, told = shell(PRINT.format(lines=100_000, code=0), "head -1")

    assert (code, shown) == (3, "0\n")
    assert told == "ks-cook: stopped: whoever read its output has gone\n"


# --- Signals ----------------------------------------------------------------------------------------------------------


def test_the_first_signal_asks_to_stop() -> None:
    with stoppable(signal.SIGTERM, signal.SIGUSR1) as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        assert stop.by is signal.SIGTERM


def test_handlers_are_as_before_after_the_block_and_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def work() -> None:
        with stoppable(signal.SIGTERM, signal.SIGINT):
            assert signal.getsignal(signal.SIGTERM) != before[0]
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        work()

    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_signals_of_the_same_moment_are_one_request_and_afterwards_every_handler_is_as_before() -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)
    with stoppable(signal.SIGUSR1, signal.SIGTERM) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.by is signal.SIGUSR1
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(
    ("second", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, STOPPED)], ids=["term", "interrupt"]
)
def test_a_second_signal_ends_the_process_at_once(second: signal.Signals, code: int) -> None:
    script = """
import signal, sys, time
from kinetics_sounds.settings import command, stoppable
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it runs in the background
def run():
    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        print("ready", flush=True)
        while not stop:
            time.sleep(0.01)
        print("asked", flush=True)
        time.sleep(60)
    return 0
sys.exit(command("ks-cook", run))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == b"asked\n"
        child.send_signal(second)  # within the same moment: the same request
        time.sleep(SAME_SECONDS + 0.2)
        assert child.poll() is None
        began = time.monotonic()
        child.send_signal(second)
        assert child.wait(timeout=20) == code
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "order", [["--config", "{}", "--one", "5"], ["--one", "5", "--config", "{}"], ["--one=5", "--config={}"]]
)
def test_the_command_line_beats_a_config_wherever_it_stands(tmp_path: Path, order: list[str]) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Two:
        """Two numbers."""

        one: int = 1
        """First."""
        two: int = 2
        """Second."""

    path = tmp_path / "config.yaml"
    path.write_text("one: 10\ntwo: 20\n")

    parsed = parse(Two, [word.format(path) for word in order], prog="ks-test", find_config=Path)

    assert parsed.settings == Two(one=5, two=20)


def test_a_repeatable_option_of_a_group_adds_up_to_a_tuple() -> None:
    @dataclass(frozen=True, kw_only=True)
    class One:
        """One number."""

        one: int = 1
        """First."""

    @dataclass(frozen=True, kw_only=True)
    class Group:
        """Words."""

        word: tuple[str, ...] = field(default=(), metadata={"repeat": True})
        """Any word."""

    def words(*argv: str) -> object:
        return parse(One, argv, prog="ks-test", groups={"group": Group}).groups["group"]

    assert words() == Group()
    assert words("--group.word", "a=[1]", "--group.word=b") == Group(word=("a=[1]", "b"))


def test_no_traceback_and_no_line_of_a_log_tells_a_secret() -> None:
    code = textwrap.dedent("""
        import logging
        from kinetics_sounds.settings import command

        def run():
            logging.getLogger("a.library").warning("asked http://me:CANARY@host.example/a?sig=CANARY")
            raise LookupError("https://host.example/b?sig=CANARY")

        raise SystemExit(command("ks-x", run))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 4
    assert "asked http://***@host.example/a?***\n" in done.stderr
    assert "LookupError: https://host.example/b?***\n" in done.stderr
    assert "CANARY" not in done.stdout + done.stderr


@pytest.mark.parametrize("word", ["--shrads=URL", "URL"])
def test_no_message_tells_what_an_argument_keeps_secret_whatever_letters_it_has(
    word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://me:CANARY a'b\"<c> d@host/set?sig=CANARY'e f#CANARY g"
    monkeypatch.setattr(sys, "argv", ["ks-x", word.replace("URL", url)])

    def run() -> int:
        if word == "URL":
            raise SettingsError(f"{url!r} is no word")
        parse(Settings, None, prog="ks-x")
        return 0

    assert command("ks-x", run) == 2
    assert re.search(r"d@host|CANARY|e f| g", capsys.readouterr().err) is None


def test_help_says_how_an_address_is_given_without_its_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class WithAddress:
        """Settings."""

        place: Address | None = None
        """Where it lies."""

    for kind in (WithAddress, Settings):
        with pytest.raises(SystemExit):
            parse(kind, ["--help"], prog="ks-x")
        assert ("KS_ADDRESSES says the address in full" in capsys.readouterr().out) == (kind is WithAddress)
