"""The commands in the `sh` blocks of the documents."""

import importlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import settings

from .pipelines.test_commands import MODULES

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md"))))
BLOCK = re.compile(r"(?ms)^```(\w+)\n(.*?)^```$")
COMMENT = re.compile(r"""^((?:[^'"#]|'[^']*'|"(?:\\.|[^"\\])*"|(?<=\S)#)*)#.*""")
"""What of a line comes before its comment, whose `#` is neither quoted nor within a word, and the comment."""


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"

    @property
    def name(self) -> str:
        return self.words[0]


def blocks(page: str, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of these languages."""
    return [text for language, text in BLOCK.findall((ROOT / page).read_text()) if language in languages]


def commands(page: str) -> list[Command]:
    """Every command in the `sh` blocks of a page, those of a pipe apart, without what is set or redirected around it."""
    found = []
    for text in blocks(page, "sh", "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            found += [Command(page, words) for words in simple(line)]
    return found


def simple(line: str) -> list[tuple[str, ...]]:
    """The simple commands of a line of shell."""
    lexer = shlex.shlex(COMMENT.sub(r"\1", line), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[list[str]] = [[]]
    redirected = False
    for word in lexer:
        if set(word) <= set("|&;"):
            found.append([])
        elif set(word) <= set("<>"):
            redirected = True
        elif redirected or (not found[-1] and re.match(r"[A-Za-z_]\w*=", word)):
            redirected = False
        else:
            found[-1].append(word)
    return [tuple(words) for words in found if words]


class Read(BaseException):
    """A command has read its options, and goes no further."""


def read(words: tuple[str, ...]) -> None:
    """Parse a command's arguments without running it; fails the test with the command's message if it refuses them."""

    def stop(*_values: Any) -> None:
        raise Read

    name = "train.__main__" if words[0] == "ks-train" else MODULES[words[0]]
    main = importlib.import_module(f"kinetics_sounds.{name}").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings.Parsed, "__init__", stop)
        try:
            code = main(list(words[1:]))
        except Read:
            return
    assert code == 0, shlex.join(words)


def stood_in(words: tuple[str, ...], table: Mapping[str, str]) -> list[str]:
    """The words with every text that is a key of the table replaced, longer keys first."""
    pattern = "|".join(map(re.escape, sorted(table, key=len, reverse=True)))
    return [re.sub(pattern, lambda found: table[found[0]], word) for word in words] if table else list(words)


def shape(line: str) -> str:
    """A line without its numbers, which differ from run to run."""
    return re.sub(r"[0-9a-f]{64}|[0-9]+(?:[.,:][0-9]+)*", "0", line).strip()


def unsaid(page: str, said: str) -> list[str]:
    """The lines of the page's outputs that the commands did not print, but for their numbers."""
    printed = {shape(line) for line in said.splitlines()}
    shown = [line for text in blocks(page, "text") for line in text.splitlines()]
    return [line for line in shown if line.strip() and shape(line) not in printed]
