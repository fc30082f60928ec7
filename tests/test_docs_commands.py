"""Every command in the documents is one that there is: its options, recipes, files, extras and targets are known."""

import importlib.util
import re
import tomllib
from collections.abc import Callable

import pytest

from kinetics_sounds.train.config import recipes

from .pages import PAGES, ROOT, Command, commands, read, simple
from .pipelines.test_commands import MODULES

COMMANDS = [each for page in PAGES for each in commands(page)]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = re.findall(r"(?m)^(\w[\w-]*):", (ROOT / "Makefile").read_text())
SHELL = ("grep", "sort", "sha256sum", "eval", ".", "export")
"""Tools of which the documents show no option that could be wrong."""


def ours(words: tuple[str, ...]) -> None:
    """A command of ours: its own parser takes the words, and every recipe is shipped."""
    read(words)
    if words[:2] == ("ks-train", "compare"):
        named = words[2 : next((place for place, word in enumerate(words) if word.startswith("-")), len(words))]
        assert set(named) <= set(recipes.recipes())


def torchrun(words: tuple[str, ...]) -> None:
    """It starts a module of ours; on several machines it says where they meet."""
    assert "--nnodes" not in words or "--rdzv_endpoint" in words
    rest = words[words.index("-m") + 1 :]
    module, *more = rest[1:] if rest[0] == "--" else rest
    by_module = {f"kinetics_sounds.{module}": name for name, module in MODULES.items()}
    ours((by_module[module], *more))


def pip(words: tuple[str, ...]) -> None:
    assert words[1] == "install"
    for word in words[2:]:
        assert set(re.findall(r"[a-z]+", "".join(re.findall(r"\[(.*)\]", word)))) <= set(EXTRAS), word


def make(words: tuple[str, ...]) -> None:
    assert set(words[1:]) <= set(TARGETS)


def python(words: tuple[str, ...]) -> None:
    """A script or a module that is there, or a text that compiles."""
    if words[1] == "-c":
        compile(words[2], "-c", "exec")
    elif words[1] == "-m":
        assert importlib.util.find_spec(words[2]), words[2]
    else:
        assert (ROOT / words[1]).is_file()


def sbatch(words: tuple[str, ...]) -> None:
    """A script of ours, after options of sbatch that are written as one word, and what the script makes of the rest."""
    script = next(word for word in words[1:] if not word.startswith("-"))
    assert (ROOT / script).is_file()
    rest = words[words.index(script) + 1 :]
    ours(("ks-train", *rest) if script.endswith("/train.sbatch") else rest)


def container(words: tuple[str, ...]) -> None:
    """Docker or Apptainer with the files that there are, and a command of ours within."""
    assert words[1] in ("build", "run", "test")
    assert (ROOT / "Dockerfile").is_file()
    assert all((ROOT / word).is_file() for word in words if word.endswith(".def"))
    if within := [place for place, word in enumerate(words) if word in MODULES]:
        ours(words[within[0] :])


CHECKS: dict[str, Callable[[tuple[str, ...]], None]] = {
    **dict.fromkeys(MODULES, ours),
    **dict.fromkeys(SHELL, lambda _words: None),
    "torchrun": torchrun,
    "pip": pip,
    "make": make,
    "python": python,
    "python3": python,
    "sbatch": sbatch,
    "docker": container,
    "apptainer": container,
}
"""By the first word of a command, what must be true of it; a command with another first word fails the test."""


def check(words: tuple[str, ...]) -> None:
    name = words[0].removeprefix(".venv/bin/")
    assert name in CHECKS, f"{name}: no check of tests/test_docs_commands.py knows this command"
    CHECKS[name]((name, *words[1:]))


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_of_the_documents_is_one_that_there_is(command: Command) -> None:
    check(command.words)


@pytest.mark.parametrize(
    "line",
    [
        "ks-build --clases k32",
        "ks-shard --codec h265",
        "ks-train --config avcl_k23",
        "ks-train compare avcl_k32 avcl_k23",
        "torchrun --nproc_per_node 2 -m kinetics_sounds.train --optim.learning_rate 1",
        "torchrun --nnodes 2 -m kinetics_sounds.train --config avcl_k32",
        "sbatch --nodes=2 examples/slurm/train.sbatch --confg avcl_k32",
        "sbatch examples/slurm/trian.sbatch",
        "pip install '.[sklurm]'",
        "make demon",
        "python examples/read_shard.py",
        "python -c 'import'",
        "python -m kinetics_sounds.train.convert_wieghts",
        "frobnicate --all",
    ],
)
def test_one_that_there_is_not_is_noticed(line: str) -> None:
    [words] = simple(line)
    with pytest.raises((AssertionError, SyntaxError)):
        check(words)


def test_a_line_is_taken_apart_as_a_shell_does() -> None:
    line = "A=1 B='x y' ks-build --out 'a b' | grep -v \"#\" > out.txt && make test  # why; not"
    assert simple(line) == [("ks-build", "--out", "a b"), ("grep", "-v", "#"), ("make", "test")]
    assert simple("# ks-build") == []
    assert {each.page for each in COMMANDS} >= {"README.md", "docs/formats.md"}
