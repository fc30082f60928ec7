"""Options come from the defaults, a recipe and the command line, in this order, and every misuse is one plain line."""

import contextlib
import dataclasses
import itertools
import json
import re
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from kinetics_sounds import __version__
from kinetics_sounds.address import Address
from kinetics_sounds.command import command
from kinetics_sounds.config_text import read_config
from kinetics_sounds.errors import (
    SettingsError,
)
from kinetics_sounds.settings import Layers, Parsed, choices, only_one, parse


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


def test_defaults_are_collected_once_and_no_parse_changes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """ks-train has hundreds, and a command reads the settings of several runs."""
    plain = read("--name", "soup")
    monkeypatch.setattr(ArgumentParser, "get_defaults", None)  # a second call would fail

    assert read("--name", "soup", "--herbs", "basil", "--guest=ann", "--optim.lr=1") != plain
    assert read("--name", "soup") == plain


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


def test_what_is_changed_in_python_stands_in_the_text(tmp_path: Path) -> None:
    said = read("--name", "stew", "--minutes", "7")
    changed = dataclasses.replace(said, settings=dataclasses.replace(said.settings, minutes=8))

    assert "minutes: 8\n" in changed.text
    assert read("--config", recipe(tmp_path, changed.text)).settings == Settings(name="stew", minutes=8)


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
        ("", "--name: is required"),
        ("--name", "--name: needs a value"),
        ("--name x --minuets 3", "--minuets: there is no such option (did you mean --minutes?)"),
        ("--name x stray", "stray: is neither an option nor the value of one; see"),
        ("--name local:/data/my videos", "videos: is neither an option nor the value of one; quote a path with spaces"),
        ("--name=my/own big videos", "big videos: is neither an option nor the value of one; quote a path with spaces"),
        ("--name x --minutes soon", "--minutes soon: must be a whole number"),
        ("--name x --minutes 1.5", "--minutes 1.5: must be a whole number"),
        ("--name x --limit many", "--limit many: must be a whole number"),
        ("--name x --heat medium", "--heat medium: must be low or high"),
        ("--name x --lid perhaps", "--lid perhaps: must be true or false"),
        ("--name x --stir yes", "yes: is neither an option nor the value of one"),
        ("--name x --herbs", "--herbs: needs a value"),
        ("--name x --optim.lr fast", "--optim.lr fast: must be a number"),
        ("--name x --optim.momentum 1", "--optim.momentum: there is no such option; see"),
        ("--name x --lr 1", "--lr: there is no such option (did you mean --optim.lr?)"),
        ("--name x --lrr 1", "--lrr: there is no such option (did you mean --optim.lr?)"),
        ("--name x --stir=yes", "--stir yes: takes no value; leave it out"),
        ("--name x --optim fast", "--optim fast: is a group of options; give them one by one, such as --optim.lr"),
    ],
)
def test_a_wrong_option_is_named_in_one_line_with_the_remedy(argv: str, said: str) -> None:
    text = refusal(*argv.split())

    assert said in text
    assert text.endswith("; see ks-cook --help")
    assert "\n" not in text


@pytest.mark.parametrize("option", ["--min", "--optim.l", "--nam"])
def test_an_option_is_spelt_out(option: str) -> None:
    assert f"{option}: there is no such option" in refusal("--name", "x", option, "1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nminuets: 3\n", "'minuets' is not accepted"),
        ("name: x\noptim:\n  momentum: 1\n", "momentum"),
        ("name: x\nminutes: soon\n", ": minutes soon: must be a whole number"),
        ("name: x\nlimit: 1.5\n", ": limit 1.5: must be a whole number"),
        ("name: x\nheat: medium\n", ": heat medium: must be low or high"),
        ("name: 3\n", ": name 3: must be a text"),
        ("name: x\nstir: perhaps\n", "stir: 'perhaps' is neither true nor false"),
        ("name: x\nstir: 'false'\n", "stir: 'false' is neither true nor false"),
        ("name: x\nherbs: salt\n", "herbs: 'salt' is not a list of texts"),
        ("name: x\nguest: ann\n", "guest: 'ann' is not a list of texts"),
        ("name: x\nherbs: [1, 2]\n", "herbs: [1, 2] is not a list of texts"),
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
        (BOMB, "line 2: aliases (*a) are not supported"),
        (f"name: x\nminutes: {json.dumps(BOMB)}\n", "aliases (*a) are not supported"),
        (f"name: x\nherbs: [{json.dumps(BOMB)}]\n", "aliases (*a) are not supported"),
        ("name: " + "[" * 30_000, "line 1: nested deeper than 8"),
        (f"name: x\nminutes: '{'[' * 30_000}'\n", "nested deeper than 8"),
        ("name: x\n" + "a:\n".join(" " * n for n in range(300)) + "b", "nested deeper than 8"),
        ("# " + "x" * 65_536, "is longer than 64 KiB"),
        ("minutes: " + "9" * 60_000, "limit"),
        ("name: x\nminutes: !!python/object/apply:os.system ['exit 1']\n", "could not determine a constructor"),
        ("name: x\nlimit: !!timestamp 2026-01-01\n", "limit: is not a text, number, boolean or list of these"),
        ("name: x\nlimit: {class_path: never}\n", "limit: is not a text, number, boolean or list of these"),
        ("name: x\nlimit: [[1]]\n", "limit: is not a text, number, boolean or list of these"),
        ("name: x\noptim: other.yaml\n", "optim: 'other.yaml' is not a group of settings"),
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


def test_the_version_is_told_without_the_places_of_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Settings, ["--version"], prog="ks-cook again [FOLDER]")

    assert capsys.readouterr().out == f"ks-cook again {__version__}\n"


def test_a_wrong_word_of_the_user_is_not_blamed_on_the_recipe(tmp_path: Path) -> None:
    path = recipe(tmp_path, RECIPE)

    for words in (
        ["--minutes", "soon"],
        ["--minutes=soon"],
        ["--minuets", "3"],
        ["--optim.lr=fast"],
        ["--out=s3://b/x"],
    ):
        assert refusal("--config", path, *words).startswith("--"), words


def test_a_recipe_that_is_wrong_is_blamed_though_the_user_gives_the_same_option(tmp_path: Path) -> None:
    path = recipe(tmp_path, "name: x\nminutes: soon\n")

    assert refusal("--config", path, "--minutes", "3").startswith(f"{path}: minutes soon: must be")


def test_what_lacks_in_a_recipe_is_told_with_its_name(tmp_path: Path) -> None:
    path = recipe(tmp_path, "minutes: 3\n")

    assert refusal("--config", path).startswith(f"{path}: --name: is required")


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
    with pytest.raises(SettingsError, match="--config: there is no such option"):
        parse(Settings, ["--name", "x", "--config", recipe(tmp_path, RECIPE)], prog="ks-cook")


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
        "Stir now and then.\n",
        "Learning rate at its highest. (type: float, default: 0.1)",
        "{low,high}",
        "--config",
    ):
        assert line in shown


def test_help_shows_plain_types_and_no_default_of_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    with pytest.raises(SystemExit):
        read("--help")

    shown = capsys.readouterr().out
    for line in (
        "At most this many plates. (type: int)\n",
        "Folder of the plates. (type: path)\n",
        "How hot. (default: low)\n",
        "One at a time; repeatable.\n",
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
    return only_one("data/*/manifest.parquet", option="--manifest", make="ks-build", below=folder)


def test_the_only_candidate_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "k32")
    monkeypatch.chdir(tmp_path)

    assert one(tmp_path) == tmp_path / "data/k32/manifest.parquet"
    assert only_one("data/*/manifest.parquet", option="--manifest", make="ks-build") == Path(
        "data/k32/manifest.parquet"
    )


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
        assert ("KS_ADDRESSES holds the full address" in capsys.readouterr().out) == (kind is WithAddress)


def test_help_has_no_lines_that_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A group as a whole, defaults of switches, and the description again as a heading."""
    from kinetics_sounds.train.config import settings

    with pytest.raises(SystemExit):
        settings.read_settings(["--help"])

    told = capsys.readouterr().out
    first = told.split("\n\n")[1].splitlines()[0]
    assert "--optim.lr " in told
    assert "Path to a configuration file" not in told
    assert "default: False)" not in re.sub(r"type: bool, default: False\)", "", told)
    assert told.count(first) == 1
    assert "Print all settings as YAML and exit; with =skip_default" in " ".join(told.split())
