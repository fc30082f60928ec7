"""The two fingerprints of a set of clips: which clips it selects, and with which bytes.

Anyone can make them again with sort and sha256sum: `docs/formats.md` has the line.
"""

import hashlib
import unicodedata
from collections.abc import Collection, Iterable
from typing import TypedDict


def selection(rows: Iterable[tuple[str, str, str]]) -> str:
    """SHA-256 over the sorted lines `key TAB label TAB split`: equal exactly where two sets hold the same clips alike.

    UTF-8, labels in Unicode's form NFC, each line ended by a newline, sorted by their bytes.
    """
    return _digest(rows)


def content(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """The same with each clip's SHA-256 as a fourth column: equal exactly where the bytes of all clips are too."""
    return _digest(rows)


class Both(TypedDict):
    """The two of one set."""

    selection: str
    content: str


def both(rows: Collection[tuple[str, str, str, str | None]]) -> Both:
    """`selection` and `content` of the same clips; content is empty where the SHA-256 of one is not known (None)."""
    known = [(key, label, split, sha256) for key, label, split, sha256 in rows if sha256 is not None]
    return {
        "selection": selection(row[:3] for row in rows),
        "content": content(known) if len(known) == len(rows) else "",
    }


def _digest(rows: Iterable[tuple[str, ...]]) -> str:
    lines = sorted(unicodedata.normalize("NFC", "\t".join(row) + "\n").encode() for row in rows)
    return hashlib.sha256(b"".join(lines)).hexdigest()
