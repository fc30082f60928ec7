"""Table of a published split: its columns, and reading and writing it as CSV and Parquet."""

import csv
import io
import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from kinetics_sounds import files, fingerprints
from kinetics_sounds.clip import SPLITS, Clip, Outcome, Status, labels_text, parse_key, parse_labels
from kinetics_sounds.errors import PublishError

Value = str | int | float | bool | None
Row = Mapping[str, Value]
"""Values by column; None for missing ones."""

_TEXT, _COUNT, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
COLUMNS: Mapping[str, pa.DataType] = {
    "label": _TEXT,
    "youtube_id": _TEXT,
    "time_start": _COUNT,
    "time_end": _COUNT,
    "split": _TEXT,
    "key": _TEXT,
    "status": _TEXT,
    "label_index": _COUNT,
    "bytes": _COUNT,
    "sha256": _TEXT,
    "duration_seconds": _REAL,
    "fps": _REAL,
    "width": _COUNT,
    "height": _COUNT,
    "num_frames": _COUNT,
    "audio_rate": _COUNT,
    "audio_channels": _COUNT,
    "audio_rms_db": _REAL,
    "audio_offset_seconds": _REAL,
    "silent": _FLAG,
    "still": _FLAG,
    "rotation": _COUNT,
    "decode_errors": _COUNT,
    "audio_channel": _TEXT,
    "picture_hash": _TEXT,
    "sound_hash": _TEXT,
}
"""All published columns in order: an allow-list. Other columns of a manifest are not published."""

LABELS = "labels"
"""Last column of a set whose clips have several labels: all of them, as a JSON array."""
HASHES = ("picture_hash", "sound_hash")
MEASURED = tuple(COLUMNS)[tuple(COLUMNS).index("bytes") : tuple(COLUMNS).index("picture_hash")]
"""Columns that only ok clips have."""

ROWS = 10_000
"""Rows per row group, and held in memory at a time."""
MOST_ROWS = 5_000_000
"""Maximum number of rows of a split."""
MOST_BYTES = 4 << 30
"""Maximum size of a table in bytes, both on disk and uncompressed."""
MOST_LINE = 1 << 16
"""Maximum length of a CSV line, which has about 400 characters."""

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_REAL_TEXT = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HASH = re.compile(r"(?:[a-z][a-z0-9]{0,7}:)?[0-9a-f.]{1,2048}")
_CHANNEL = re.compile(r"mix|left|right|[0-9]{1,2}")


def columns(*, several_labels: bool) -> Mapping[str, pa.DataType]:
    """Columns of a set, in order."""
    return {**COLUMNS, LABELS: _TEXT} if several_labels else COLUMNS


def row_of(
    outcome: Outcome, label_index: int, hashes: tuple[str, str] = ("", ""), *, several_labels: bool = False
) -> Row:
    """Published row of an outcome; `hashes`: of picture and audio; `several_labels`: whether the set has that column."""
    clip, media = outcome.clip, outcome.media
    measured = {name: getattr(media, name) for name in MEASURED} if media else dict.fromkeys(MEASURED)
    return {
        "label": unicodedata.normalize("NFC", clip.label),
        "youtube_id": clip.youtube_id,
        "time_start": clip.time_start,
        "time_end": clip.time_end,
        "split": clip.split,
        "key": clip.key,
        "status": outcome.status.value,
        "label_index": label_index,
        **{name: None if value == "" else value for name, value in measured.items()},
        **{name: value or None for name, value in zip(HASHES, hashes, strict=True)},
        **({LABELS: unicodedata.normalize("NFC", labels_text(clip.labels))} if several_labels else {}),
    }


def write(path: Path, rows: Iterable[Row], *, several_labels: bool = False) -> int:
    """Write the rows to a CSV and a Parquet file of the same name; returns their number."""
    count, schema = 0, _schema(several_labels=several_labels)
    source = iter(rows)
    options = {"compression": "zstd", "write_page_checksum": True}
    with (
        files.atomic_writer(path) as out,
        files.atomic_writer(path.with_suffix(".parquet")) as other,
        files.named(path.with_suffix(".parquet")),
        parquet.ParquetWriter(other, schema, **options) as writer,
    ):
        out.write((",".join(schema.names) + "\n").encode())
        while batch := list(itertools.islice(source, ROWS)):
            count += len(batch)
            with files.named(path):
                out.write(_lines(batch).encode())
            writer.write_table(pa.Table.from_pylist([dict(row) for row in batch], schema=schema))
    return count


def _schema(*, several_labels: bool) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns(several_labels=several_labels).items()])


def _lines(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(name, value) for name, value in row.items()] for row in rows)
    return text.getvalue()


def _cell(name: str, value: Value) -> str:
    """A value as text. IDs and keys (letters, digits, `_`, `-`) cannot be formulas, so they are not escaped."""
    if value is None:
        return ""
    return files.for_people(str(value)) if name == "label" else str(value)


def read_csv(path: Path) -> Iterator[Row]:
    """Validated rows of a split's CSV; raises PublishError with the line number of an invalid one."""
    _check_file(path)
    try:
        with path.open(encoding="utf-8", newline="") as text:
            rows = csv.reader(_bounded(text), strict=True)
            header = next(rows, [])
            kinds = columns(several_labels=LABELS in header)
            if header != list(kinds):
                raise PublishError(f"{path}: has other columns than a published split: {_shown(header or '')}")
            for number, cells in enumerate(rows, start=1):
                if number > MOST_ROWS:
                    raise PublishError(f"{path}: has more than {MOST_ROWS} rows")
                try:
                    yield checked(_from_cells(cells, kinds))
                except (ValueError, OverflowError) as error:
                    raise PublishError(f"{path}:{rows.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise PublishError(f"{path}: is not UTF-8 ({error.reason})") from error
    except (csv.Error, ValueError) as error:
        raise PublishError(f"{path}: is not a CSV of a published split: {error}") from error


def _bounded(text: Iterable[str]) -> Iterator[str]:
    read: io.TextIOBase = text  # type: ignore[assignment]
    while line := read.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise ValueError(f"it has a line of {MOST_LINE} characters or more")
        yield line


def _from_cells(cells: Sequence[str], kinds: Mapping[str, pa.DataType]) -> Row:
    if len(cells) != len(kinds):
        raise ValueError(f"the row has {len(cells)} cells, not {len(kinds)}")
    return {name: _value(name, kind, cell) for (name, kind), cell in zip(kinds.items(), cells, strict=True)}


def _value(name: str, kind: pa.DataType, cell: str) -> Value:
    if cell == "":
        return None
    if kind == _TEXT:
        return files.from_people(cell)
    if kind == _FLAG and cell in ("True", "False"):
        return cell == "True"
    if kind == _COUNT and _INTEGER.fullmatch(cell):
        return int(cell)
    if kind == _REAL and _REAL_TEXT.fullmatch(cell):
        return float(cell)
    raise ValueError(f"{name} {_shown(cell)} is no {kind}")


def read_parquet(path: Path) -> Iterator[Row]:
    """Validated rows of a split's Parquet file; raises PublishError if it is invalid."""
    _check_file(path)
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            found = file.schema_arrow.remove_metadata()
            if found != _schema(several_labels=LABELS in found.names):
                raise PublishError(f"{path}: has other columns or types than a published split")
            facts = file.metadata
            size = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
            if facts.num_rows > MOST_ROWS or size > MOST_BYTES:
                raise PublishError(f"{path}: has more than {MOST_ROWS} rows, or {MOST_BYTES >> 30} GiB")
            for batch in file.iter_batches(batch_size=ROWS):
                yield from map(checked, batch.to_pylist())
    except OSError as error:
        if error.errno:
            raise
        raise PublishError(f"{path}: cannot be read as Parquet: {error}") from error
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise PublishError(f"{path}: cannot be read as a split: {error}") from error


def _check_file(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        raise PublishError(f"{path}: is not a plain file")
    if path.stat().st_size > MOST_BYTES:
        raise PublishError(f"{path}: is larger than {MOST_BYTES >> 30} GiB")


def checked(row: Row) -> Row:
    """The row itself; raises ValueError for invalid values."""
    key, label, status = row["key"], row["label"], row["status"]
    if not isinstance(key, str) or parse_key(key) != (row["youtube_id"], row["time_start"], row["time_end"]):
        raise ValueError(f"key {_shown(key)} is not that of its youtube_id and times")
    if row["split"] not in SPLITS:
        raise ValueError(f"{key}: split {_shown(row['split'])} is none of {', '.join(SPLITS)}")
    if not isinstance(label, str) or (why := label_fault(label)):
        raise ValueError(f"{key}: label {_shown(label)} {why if isinstance(label, str) else 'is missing'}")
    others = parse_labels(str(row[LABELS]), label)[1:] if LABELS in row else ()
    span = str(row["youtube_id"]), int(row["time_start"] or 0), int(row["time_end"] or 0)
    Clip(*span, label, str(row["split"]), other_labels=others)
    if not isinstance(row["label_index"], int) or row["label_index"] < 0:
        raise ValueError(f"{key}: label_index {_shown(row['label_index'])} is not a label index")
    if not isinstance(status, str):
        raise ValueError(f"{key}: has no status")
    _check_measured(row, ok=Status.of(status) is Status.OK)
    return row


def _check_measured(row: Row, *, ok: bool) -> None:
    key = row["key"]
    if not ok and any(row[name] is not None for name in (*MEASURED, *HASHES)):
        raise ValueError(f"{key}: has the status {row['status']}, but has measurements of a clip")
    if ok and not (isinstance(row["bytes"], int) and row["bytes"] >= 0 and _SHA256.fullmatch(str(row["sha256"]))):
        raise ValueError(f"{key}: is ok, but has no bytes and sha256")
    if any(isinstance(value, float) and not math.isfinite(value) for value in row.values()):
        raise ValueError(f"{key}: has a number that is not finite")
    patterns = {"audio_channel": _CHANNEL, "picture_hash": _HASH, "sound_hash": _HASH}
    for name, pattern in patterns.items():
        if row[name] is not None and not pattern.fullmatch(str(row[name])):
            raise ValueError(f"{key}: {name} {_shown(row[name])} is invalid")


def label_fault(label: str) -> str:
    """Why a label cannot be a line of a class list; empty if it can."""
    if not label or label.strip() != label:
        return "is empty, or has surrounding blanks"
    if "#" in label:
        return "contains a '#', which starts a comment in a class list"
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in label):
        return "contains a line end or another control character"
    return "" if unicodedata.normalize("NFC", label) == label else "is not in Unicode's form NFC"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def both_fingerprints(rows: Iterable[Row]) -> fingerprints.Both:
    """`selection` and `content` over the ok rows."""
    return fingerprints.both(
        [
            (str(row["key"]), str(row["label"]), str(row["split"]), text_or_none(row["sha256"]))
            for row in rows
            if row["status"] == "ok"
        ]
    )


def text_or_none(value: Value) -> str | None:
    """A value as text, or None."""
    return None if value is None else str(value)
