"""The two fingerprints of a set of clips: which keys it selects, and the exact bytes of the clips.

They can be reproduced with sort and sha256sum: see `docs/formats.md`.
"""

import hashlib
import unicodedata
from collections.abc import Collection, Iterable
from typing import TypedDict


def selection(rows: Iterable[tuple[str, str, str]]) -> str:
    """SHA-256 over the sorted lines `key TAB label TAB split`.

    Equal if and only if two sets hold the same keys, labels and splits. UTF-8, labels in Unicode form NFC, each line ended by a
    newline, sorted bytewise.
    """
    return _digest(rows)


def content(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Same as `selection` with each clip's SHA-256 as a fourth column: equal only if the bytes of all clips are equal too."""
    return _digest(rows)


class Both(TypedDict):
    """Both fingerprints of a set."""

    selection: str
    content: str


def both(rows: Collection[tuple[str, str, str, str | None]]) -> Both:
    """`selection` and `content` of the same clips; content is empty if any SHA-256 is unknown (None)."""
    known = [(key, label, split, sha256) for key, label, split, sha256 in rows if sha256 is not None]
    return {
        "selection": selection(row[:3] for row in rows),
        "content": content(known) if len(known) == len(rows) else "",
    }


def _digest(rows: Iterable[tuple[str, ...]]) -> str:
    lines = sorted(unicodedata.normalize("NFC", "\t".join(row) + "\n").encode() for row in rows)
    return hashlib.sha256(b"".join(lines)).hexdigest()
