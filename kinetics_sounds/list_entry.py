"""An entry of a published list of clips, and helpers to parse the cells, names and lines of lists."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from . import files
from .annotations import SPLIT_NAMES
from .clip import YOUTUBE_ID, id_fault, parse_key

G = TypeVar("G")

YOUTUBE_ID_LENGTH = 11

MEDIA = (".mp4", ".avi", ".mkv", ".webm", ".mov")
"""File name extensions of videos."""
_OTHER_FILES = (".wav", ".npy", ".flac", ".jpg")
_SPAN = re.compile(rf"([A-Za-z0-9_-]{{{YOUTUBE_ID_LENGTH}}})_([0-9]{{1,6}})_([0-9]{{1,6}})")
_STARTED = re.compile(rf"({YOUTUBE_ID.pattern})_([0-9]{{1,6}})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a list; fields that the list does not provide are None."""

    line: int
    """Line on which the row ends, from 1."""
    name: str
    """Name in messages: as in the list."""
    youtube_id: str
    time_start: int | None = None
    """Whole seconds into the video."""
    time_end: int | None = None
    """Whole seconds into the video."""
    labels: tuple[str, ...] = ()
    """All labels, in the row's order; the first that is in the class list is the clip's class."""
    folder: str | None = None
    """The label as a folder name, with underscores for blanks."""
    label_index: int | None = None
    """Index of the label in the class list, in the order of the format (`Format.SORTED`)."""
    split: str | None = None
    status: str | None = None
    """Status of the clip as published."""
    duration_seconds: float | None = None
    """Length of the published clip's picture."""
    trouble: str = ""
    """Why the row does not name a clip; empty if it does."""


def each_line(rows: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, stripped, with their numbers from 1."""
    for number, line in enumerate(rows, start=1):
        if text := line.strip():
            yield number, text


def header(line: str) -> list[str]:
    """Column names in the first line of a CSV; empty if it is not a CSV."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True), [])]
    except csv.Error:
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """Row of a CSV with a header."""

    line: int
    """Line on which it ends, from 1."""
    cells: Mapping[str, str]
    """Cells by column, as far as the row has them."""
    trouble: str = ""
    """What is wrong with the row: too many or too few cells."""


def table(rows: Iterable[str]) -> Iterator[TableRow]:
    """Rows of a CSV with a header, without blank rows.

    Cells are stripped, and unescaped if they had been escaped for a spreadsheet.
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
            trouble = "the row has too many cells (quote a label that contains a comma)"
        elif len(row) < len(names):
            trouble = "the row has too few cells"
        yield TableRow(line=cells.line_num, cells=found, trouble=trouble)


def read_table(rows: Iterable[str], make: Callable[[int, Mapping[str, str]], Entry], *, name: str) -> Iterator[Entry]:
    """One entry per row of a CSV with a header, made from its cells as `entry` does; the column `name` holds its name."""
    for row in table(rows):
        called = row.cells.get(name, "")
        if row.trouble:
            yield Entry(line=row.line, name=called, youtube_id="", trouble=row.trouble)
        else:
            yield entry(make, row.line, row.cells, name=called)


def read_lines(rows: Iterable[str], match: Callable[[str], re.Match[str] | None]) -> Iterator[Entry]:
    """One entry per line of a format whose pattern has the group `name`, and `index` (of the label) or `folder` (the label's).

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
    """Video ID, start and end (seconds) of a clip's name: a key, `{id}_{start}_{end}`, `{id}_{start}`, or the ID alone.

    The name may be a path and have a file extension. A part with the length of an ID is one, whatever digits it ends with; times
    that are not zero-padded as in a key are only read after such an ID. Raises ValueError for anything else.
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
        raise ValueError(f"{name!r} is not a clip's name")
    return last, None, None


def says_where(name: str) -> bool:
    """Whether a text is surely a clip's name rather than a word: with a start, or as long as a video ID."""
    try:
        youtube_id, start, _ = parse_name(name)
    except ValueError:
        return False
    return start is not None or len(youtube_id) == YOUTUBE_ID_LENGTH


def seconds(text: str | None) -> int | None:
    """Whole seconds, with or without zeros after a decimal point; None for a blank cell; raises ValueError for anything else."""
    stripped = (text or "").strip()
    if not stripped:
        return None
    value = float(stripped)
    if not 0 <= value <= 999_999 or not value.is_integer():
        raise ValueError(f"{stripped!r} is not a whole number of seconds")
    return int(value)


def split_named(text: str | None) -> str | None:
    """train, val or test; None for a blank cell; raises ValueError for anything else."""
    word = (text or "").strip().lower()
    if word and word not in SPLIT_NAMES:
        raise ValueError(f"split {word!r} is none of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES.get(word)


def label_named(text: str | None) -> tuple[str, ...]:
    """Label of a cell, none for a blank cell; raises ValueError if it contains a line end or another control character."""
    label = (text or "").strip()
    if _CONTROL.search(label):
        raise ValueError(f"label {label!r} has a line end or another control character in it")
    return (label,) if label else ()


def entry(make: Callable[[int, G], Entry], line: int, given: G, *, name: str) -> Entry:
    """The entry made by `make(line, given)`; if that raises ValueError, an entry without a clip, with the reason."""
    try:
        made = make(line, given)
        if not YOUTUBE_ID.fullmatch(made.youtube_id):
            raise ValueError(id_fault(made.youtube_id))
        if made.time_start is not None and made.time_end is not None and made.time_start >= made.time_end:
            raise ValueError(f"{made.time_start} to {made.time_end} is not a valid span in seconds")
    except ValueError as error:
        return Entry(line=line, name=name, youtube_id="", trouble=str(error))
    return made
