"""Our own split files: the CSVs of a published folder, or a build's `manifest.csv`.

They contain all annotated rows with their `status`; only `ok` rows belong to the split. Where clips have several labels, the
column `labels` has all of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..clip import parse_labels
from . import Entry, header, label_named, read_table, seconds, split_named, table

SHAPE = "label,youtube_id,time_start,time_end,split,key,status,... (a split of a folder that ks-publish made)"
SORTED = False
_COLUMNS = {"label", "youtube_id", "time_start", "time_end", "split", "key", "status"}


def fits(lines: Sequence[str]) -> bool:
    """A header with `key` and the clips' statuses."""
    return set(header(lines[0])) >= _COLUMNS


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry per row, whatever its status."""
    return read_table(lines, _entry, name="key")


def facts(lines: Iterable[str]) -> Iterator[Mapping[str, str]]:
    """Rows of the clips that belong to the split, with all measured columns."""
    return (row.cells for row in table(lines) if not row.trouble and row.cells.get("status") == "ok")


def _entry(number: int, cells: Mapping[str, str]) -> Entry:
    if not cells["status"]:
        raise ValueError("has no status")
    made = Entry(
        line=number,
        name=cells["key"],
        youtube_id=cells["youtube_id"],
        time_start=seconds(cells["time_start"]),
        time_end=seconds(cells["time_end"]),
        labels=_labels(cells),
        split=split_named(cells["split"]),
        status=cells["status"],
        duration_seconds=_real(cells.get("duration_seconds", "")),
    )
    if made.time_start is None or made.time_end is None or not made.labels or made.split is None:
        raise ValueError("lacks a time, a label or a split")
    if cells["key"] != f"{made.youtube_id}_{made.time_start:06d}_{made.time_end:06d}":
        raise ValueError(f"key {cells['key']!r} is not that of its video id and times")
    return made


def _real(text: str) -> float | None:
    """A cell as a number; None for anything else."""
    try:
        return float(text)
    except ValueError:
        return None


def _labels(cells: Mapping[str, str]) -> tuple[str, ...]:
    label = label_named(cells["label"])
    try:
        return parse_labels(cells["labels"], *label) if label and "labels" in cells else label
    except ValueError as error:
        raise ValueError(f"{error}; if the column `labels` is your own, rename it") from error
