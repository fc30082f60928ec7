"""An entry of a published list of clips, and how the cells, names and lines of lists are read."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from . import files
from .annotations import SPLIT_NAMES
from .clip import YOUTUBE_ID, parse_key

G = TypeVar("G")

YOUTUBE_ID_LENGTH = 11

MEDIA = (".mp4", ".avi", ".mkv", ".webm", ".mov")
"""How the name of a video file ends."""
_OTHER_FILES = (".wav", ".npy", ".flac", ".jpg")
_SPAN = re.compile(rf"([A-Za-z0-9_-]{{{YOUTUBE_ID_LENGTH}}})_([0-9]{{1,6}})_([0-9]{{1,6}})")
_STARTED = re.compile(rf"({YOUTUBE_ID.pattern})_([0-9]{{1,6}})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a list: what it says of a clip; None for what it does not say."""

    line: int
    """On which the row ends, from 1."""
    name: str
    """What messages call it: as the list has it."""
    youtube_id: str
    time_start: int | None = None
    """Whole seconds into the video."""
    time_end: int | None = None
    """Whole seconds into the video."""
    labels: tuple[str, ...] = ()
    """The label; where there are several, the class list chooses the first that it holds."""
    folder: str | None = None
    """The label as the name of a folder, which has underscores in place of blanks."""
    label_index: int | None = None
    """The label's place in the class list, as the format counts (`Format.SORTED`)."""
    split: str | None = None
    status: str | None = None
    """What became of the clip at whoever published the list."""
    trouble: str = ""
    """Why the row names no clip; empty where it does."""


def each_line(rows: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, without the blanks around them, and their numbers from 1."""
    for number, line in enumerate(rows, start=1):
        if text := line.strip():
            yield number, text


def header(line: str) -> list[str]:
    """The columns that the first line of a CSV names; none where it is no CSV."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True), [])]
    except csv.Error:
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A row of a CSV with a header."""

    line: int
    """On which it ends, from 1."""
    cells: Mapping[str, str]
    """By column, as far as it has them."""
    trouble: str = ""
    """Why it is none: it has too many cells or too few."""


def table(rows: Iterable[str]) -> Iterator[TableRow]:
    """The rows of a CSV with a header; blank rows are left out.

    A cell is without the blanks around it, and as it was before it was made harmless for a spreadsheet.
    """
    cells = csv.reader(rows, strict=True)
    names: list[str] = []
    for row in cells:
        if not any(cell.strip() for cell in row):
            continue
        if not names:
            names = [cell.strip() for cell in row]
            continue
        found = dict(zip(names, (files.from_people(cell.strip()) for cell in row), strict=False))
        trouble = ""
        if len(row) > len(names):
            trouble = 'the row has too many cells (a label that holds a comma must stand in "quotes")'
        elif len(row) < len(names):
            trouble = "the row has too few cells"
        yield TableRow(line=cells.line_num, cells=found, trouble=trouble)


def read_table(rows: Iterable[str], make: Callable[[int, Mapping[str, str]], Entry], *, name: str) -> Iterator[Entry]:
    """One entry a row of a CSV with a header, made of its cells as `entry` does; the column `name` has what it is called."""
    for row in table(rows):
        called = row.cells.get(name, "")
        if row.trouble:
            yield Entry(line=row.line, name=called, youtube_id="", trouble=row.trouble)
        else:
            yield entry(make, row.line, row.cells, name=called)


def read_lines(rows: Iterable[str], match: Callable[[str], re.Match[str] | None]) -> Iterator[Entry]:
    """One entry a line of a format whose pattern has the group `name`, and `index` (the label's) or `folder` (its own).

    Raises ValueError for a line that does not match.
    """
    for number, line in each_line(rows):
        found = match(line)
        if found is None:
            raise ValueError(repr(line[:100]))
        yield entry(_of_match, number, found, name=found["name"])


def _of_match(number: int, match: re.Match[str]) -> Entry:
    said = match.groupdict()
    youtube_id, start, end = parse_name(match["name"])
    return Entry(
        line=number,
        name=match["name"],
        youtube_id=youtube_id,
        time_start=start,
        time_end=end,
        folder=said.get("folder"),
        label_index=int(said["index"]) if "index" in said else None,
    )


def parse_name(name: str) -> tuple[str, int | None, int | None]:
    """Video id, start and end in seconds of a clip's name: a key, `{id}_{start}_{end}`, `{id}_{start}`, or the id alone.

    The name may be a path and end like a file's. What has the length of an id is one, whatever digits it ends with; only
    behind such a one are both times read that are not padded as a key's. Raises ValueError for what is none of the four.
    """
    last = PurePosixPath(name).name
    for suffix in (*MEDIA, *_OTHER_FILES):
        last = last.removesuffix(suffix)
    if key := parse_key(last):
        return key
    if span := _SPAN.fullmatch(last):
        return span[1], int(span[2]), int(span[3])
    if len(last) != YOUTUBE_ID_LENGTH and (match := _STARTED.fullmatch(last)):
        return match[1], int(match[2]), None
    if not YOUTUBE_ID.fullmatch(last):
        raise ValueError(f"{name!r} is no clip's name")
    return last, None, None


def says_where(name: str) -> bool:
    """Whether a text is a clip's name that more than any word would be: with a start, or as long as a video id."""
    try:
        youtube_id, start, _ = parse_name(name)
    except ValueError:
        return False
    return start is not None or len(youtube_id) == YOUTUBE_ID_LENGTH


def seconds(text: str | None) -> int | None:
    """Whole seconds, written with or without zeros after a point; None for a blank cell; ValueError for others."""
    stripped = (text or "").strip()
    if not stripped:
        return None
    value = float(stripped)
    if not 0 <= value <= 999_999 or not value.is_integer():
        raise ValueError(f"{stripped!r} is no whole number of seconds")
    return int(value)


def split_named(text: str | None) -> str | None:
    """train, val or test; None for a blank cell; ValueError for what is no split."""
    word = (text or "").strip().lower()
    if word and word not in SPLIT_NAMES:
        raise ValueError(f"split {word!r} is none of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES.get(word)


def label_named(text: str | None) -> tuple[str, ...]:
    """The label of a cell, or none for a blank cell; ValueError for one with a line end or another control character."""
    label = (text or "").strip()
    if _CONTROL.search(label):
        raise ValueError(f"label {label!r} has a line end or another control character in it")
    return (label,) if label else ()


def entry(make: Callable[[int, G], Entry], line: int, given: G, *, name: str) -> Entry:
    """What `make(line, given)` gives; where it raises ValueError, a row that names no clip, with the reason."""
    try:
        made = make(line, given)
        if not YOUTUBE_ID.fullmatch(made.youtube_id):
            raise ValueError(f"{made.youtube_id!r} is no video id (letters, digits, '_' and '-')")
        if made.time_start is not None and made.time_end is not None and made.time_start >= made.time_end:
            raise ValueError(f"{made.time_start} to {made.time_end} is no span of seconds")
    except ValueError as error:
        return Entry(line=line, name=name, youtube_id="", trouble=str(error))
    return made
