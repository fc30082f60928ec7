"""Kinetics annotation CSVs (400, 600, 700): the first release with `is_cc`, DeepMind's re-release, subsets of either.

Times, label or split may be missing, and the original test list has no labels: they are looked up in the annotations.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from . import Entry, header, label_named, read_table, seconds, split_named

SHAPE = "label,youtube_id,time_start,time_end,split (a header with these columns; others are ignored)"
SORTED = False


def fits(lines: Sequence[str]) -> bool:
    """A header with the ID and the times, other than that of our own tables."""
    columns = header(lines[0])
    return "key" not in columns and {"youtube_id", "time_start", "time_end"} <= set(columns)


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry per row."""
    return read_table(lines, _entry, name="youtube_id")


def _entry(number: int, cells: Mapping[str, str]) -> Entry:
    return Entry(
        line=number,
        name=cells["youtube_id"],
        youtube_id=cells["youtube_id"],
        time_start=seconds(cells["time_start"]),
        time_end=seconds(cells["time_end"]),
        labels=label_named(cells.get("label")),
        split=split_named(cells.get("split")),
    )
