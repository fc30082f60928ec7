"""VGGSound: `{id},{start},{label},{train or test}` without a header; spans of 10 s. Labels may contain commas, quoted or not."""

import csv
from collections.abc import Iterable, Iterator, Sequence

from ..annotations import SPLIT_NAMES
from ..clip import YOUTUBE_ID
from . import Entry, entry, label_named, seconds, split_named

SHAPE = "ID,27,people clapping,train (id, start, label, split; no header)"
SORTED = False
SPAN_SECONDS = 10


def fits(lines: Sequence[str]) -> bool:
    """Every line has an ID, a start, a label and a split."""
    try:
        return all(map(_is_row, csv.reader((line.strip() for line in lines), strict=True)))
    except csv.Error:
        return False


def _is_row(cells: Sequence[str]) -> bool:
    if len(cells) < 4 or not YOUTUBE_ID.fullmatch(cells[0].strip()):
        return False
    return cells[1].strip().isdecimal() and cells[-1].strip().lower() in SPLIT_NAMES


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry per line."""
    rows = csv.reader(lines, strict=True)
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) < 4:
            raise ValueError(f"has {len(cells)} of 4 fields")
        yield entry(_entry, rows.line_num, cells, name=cells[0])


def _entry(number: int, cells: Sequence[str]) -> Entry:
    youtube_id, start, *label, split = cells
    begins = seconds(start)
    if begins is None:
        raise ValueError("has no start")
    return Entry(
        line=number,
        name=f"{youtube_id},{start}",
        youtube_id=youtube_id,
        time_start=begins,
        time_end=begins + SPAN_SECONDS,
        labels=label_named(", ".join(label)),
        split=split_named(split),
    )
