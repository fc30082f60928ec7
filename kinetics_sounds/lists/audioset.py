"""AudioSet segments: three lines that begin with `#`, then `YTID, start_seconds, end_seconds, "mid,mid"`.

A clip has several labels, given as mids (`/m/04rlf`); the class list `class_labels_indices.csv` has their names.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence

from . import Entry, entry, label_named, seconds

SHAPE = 'ID, 30.000, 40.000, "/m/04rlf,/m/09x0r" (after lines that begin with #)'
SORTED = False
_HEADER = ("ytid", "start_seconds", "end_seconds", "positive_labels")


def fits(lines: Sequence[str]) -> bool:
    """Comments first, one of which names the columns, then rows of four fields."""
    comments = [line for line in lines if line.startswith("#")]
    heads = [tuple(cell.strip().lower() for cell in line.strip("# \r\n").split(",")) for line in comments]
    try:
        rows = list(csv.reader(lines, skipinitialspace=True, strict=True))
    except csv.Error:
        return False
    rows = [row for row in rows if row and not row[0].startswith("#")]
    return lines[0].startswith("#") and _HEADER in heads and all(len(row) == 4 for row in rows)


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry per row."""
    rows = csv.reader(lines, skipinitialspace=True, strict=True)
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if len(cells) != 4:
            raise ValueError(f"has {len(cells)} fields instead of 4")
        yield entry(_entry, rows.line_num, cells, name=cells[0])


def _entry(number: int, cells: Sequence[str]) -> Entry:
    youtube_id, start, end, mids = cells
    return Entry(
        line=number,
        name=f"{youtube_id},{start}",
        youtube_id=youtube_id,
        time_start=seconds(start),
        time_end=seconds(end),
        labels=tuple(mid for text in mids.split(",") for mid in label_named(text)),
    )
