"""Any CSV with a column `key`, such as the selection saved by ks-view; the columns `label` and `split` are optional."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from . import Entry, header, label_named, parse_name, read_table, split_named

SHAPE = "key[,label][,split] (a header with these columns; others are ignored)"
SORTED = False


def fits(lines: Sequence[str]) -> bool:
    """A header with `key`, and without columns on the clips' statuses."""
    columns = header(lines[0])
    return "key" in columns and "status" not in columns


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry per row."""
    return read_table(lines, _entry, name="key")


def _entry(number: int, cells: Mapping[str, str]) -> Entry:
    youtube_id, start, end = parse_name(cells["key"])
    labels, split = label_named(cells.get("label")), split_named(cells.get("split"))
    return Entry(
        line=number,
        name=cells["key"],
        youtube_id=youtube_id,
        time_start=start,
        time_end=end,
        labels=labels,
        split=split,
    )
