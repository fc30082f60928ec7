"""Escape untrusted text for Markdown, so that it is shown literally."""

import re
import unicodedata
from collections.abc import Sequence

_SPECIAL = re.compile(r"[\\`*_{}\[\]#+.!|~:@$^=]")
_NAME = re.compile(r"[\w.+-]+( [\w.+-]+)*", flags=re.ASCII)
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escape(text: str) -> str:
    """Text on one line without HTML, links, mentions or Markdown syntax.

    Invisible characters (control characters, direction marks) are written as their code points.
    """
    visible = "".join(_visible(letter) for letter in text)
    escaped = _SPECIAL.sub(lambda mark: f"\\{mark[0]}", visible)
    return "".join(_ENTITIES.get(letter, letter) for letter in escaped)


def _visible(letter: str) -> str:
    """The character, or `U+202E` and the like if it is invisible."""
    hidden = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return f"U+{ord(letter):04X}" if hidden else letter


def plain(text: str) -> str:
    """Same without Markdown syntax, for other formats (JSON, YAML): one line, nothing hidden."""
    return "".join(_visible(letter) for letter in text)


def code(text: str) -> str:
    """A name as a code span, which cannot contain escapes; one with Markdown syntax as ordinary text."""
    return f"`{text}`" if _NAME.fullmatch(text) else escape(text)


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table; the cells must be escaped already."""
    lines: list[Sequence[object]] = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]
