"""Text that may hold anything, within Markdown that browsers show: it is shown as it is, and does nothing."""

import re
import unicodedata
from collections.abc import Sequence

_SPECIAL = re.compile(r"[\\`*_{}\[\]#+.!|~:@$^=]")
_NAME = re.compile(r"[\w.+-]+( [\w.+-]+)*", flags=re.ASCII)
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escape(text: str) -> str:
    """A text in one line in which nothing is HTML, a link, a mention or a mark of Markdown.

    What cannot be seen (control characters, marks that turn the direction of what follows) is written as its number.
    """
    visible = "".join(_visible(letter) for letter in text)
    escaped = _SPECIAL.sub(lambda mark: f"\\{mark[0]}", visible)
    return "".join(_ENTITIES.get(letter, letter) for letter in escaped)


def _visible(letter: str) -> str:
    """The letter, or `U+202E` and so on where it has no shape of its own."""
    hidden = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return f"U+{ord(letter):04X}" if hidden else letter


def plain(text: str) -> str:
    """The same without marks of Markdown, for documents of another kind (JSON, YAML): one line, nothing hidden."""
    return "".join(_visible(letter) for letter in text)


def code(text: str) -> str:
    """A name as a span of code, in which no mark may be escaped; one that holds marks as other text."""
    return f"`{text}`" if _NAME.fullmatch(text) else escape(text)


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table; cells are escaped already."""
    lines: list[Sequence[object]] = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]
