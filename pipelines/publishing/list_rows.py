"""Rows of a paper's list in the published format; None for missing fields."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import lists
from kinetics_sounds.classes import normal
from kinetics_sounds.clip import parse_key
from kinetics_sounds.errors import PublishError
from kinetics_sounds.lists import ClipList, Entry

from .tables import COLUMNS, Row, Value

MOST_LETTERS = 100
"""Maximum length of an invalid row in a message."""
Starts = dict[tuple[str, int | None], list[str]]
"""Keys by video and start, and by video alone (None)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Contents of a list."""

    rows: tuple[Row, ...]
    """One row per clip."""
    unread: tuple[str, ...]
    """Rows without a clip, each with its line number and the reason."""


def rows_of_list(path: Path, *, known: Collection[str], labels: Sequence[str]) -> Listed:
    """One row per clip of the list; invalid rows are returned as text.

    A clip without an end, or without times, gets the only matching one of the `known` keys; else its key is its name in the list.
    Folder names and class indices are interpreted by `labels`. Raises ListError if it is not a list, and PublishError for
    contradictory rows of a clip.
    """
    clip_list = lists.recognise(path)
    starts = _starts(known)
    seen: dict[str, tuple[int, Row]] = {}
    unread: list[str] = []
    for entry in lists.read(clip_list):
        if entry.trouble:
            unread.append(f"{path.name}:{entry.line}: {entry.name[:MOST_LETTERS]!r}: {entry.trouble[:MOST_LETTERS]}")
            continue
        row = _row(entry, clip_list, starts, labels)
        key = str(row["key"])
        line, before = seen.setdefault(key, (entry.line, row))
        if before != row:
            raise PublishError(f"{path}: {key} is on the lines {line} and {entry.line} with different labels or splits")
    return Listed(rows=tuple(row for _, row in seen.values()), unread=tuple(unread))


def _starts(known: Collection[str]) -> Starts:
    starts: Starts = defaultdict(list)
    for key in known:
        if parsed := parse_key(key):
            video, start, _ = parsed
            starts[video, start].append(key)
            starts[video, None].append(key)
    return starts


def _row(entry: Entry, clip_list: ClipList, starts: Starts, labels: Sequence[str]) -> Row:
    start, end = entry.time_start, entry.time_end
    key = entry.youtube_id if start is None else f"{entry.youtube_id}_{start:06d}"
    if start is not None and end is not None:
        key = f"{key}_{end:06d}"
    elif len(fitting := starts.get((entry.youtube_id, start), [])) == 1:
        key = fitting[0]
        _, start, end = parse_key(key) or (entry.youtube_id, start, end)
    said: dict[str, Value] = {
        "label": _label(entry, clip_list, labels),
        "youtube_id": entry.youtube_id,
        "time_start": start,
        "time_end": end,
        "split": entry.split or clip_list.split or None,
        "key": key,
        "status": entry.status or "ok",
    }
    return dict.fromkeys(COLUMNS) | said


def _label(entry: Entry, clip_list: ClipList, labels: Sequence[str]) -> str | None:
    """Label of an entry, by its text, its folder or its index; None if unknown."""
    if entry.labels:
        own = {normal(label): label for label in labels}
        found = [own[normal(label)] for label in entry.labels if normal(label) in own]
        return found[0] if found else normal(entry.labels[0])
    if entry.folder is not None:
        return next((label for label in labels if label.replace(" ", "_") == entry.folder), None)
    ordered = sorted(labels) if clip_list.sorted_indices else labels
    if entry.label_index is not None and entry.label_index < len(ordered):
        return ordered[entry.label_index]
    return None
