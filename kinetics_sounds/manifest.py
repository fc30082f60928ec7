"""The manifest: one row per requested annotation, whatever its outcome. Columns: `manifests/SCHEMA.md`."""

import csv
import dataclasses
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from . import files, fingerprints
from .classes import ClassList
from .clip import Clip, Media, Outcome, Status, parse_key
from .errors import ManifestError

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA = 3
"""Schema version; incremented when a column changes its meaning."""
READABLE = (2, 3)
"""Schema versions that can be read: schema 2 lacks the columns of `ADDED`."""
ROWS = 10_000
"""Rows held in memory at a time, and per row group."""
_FACTS = b"kinetics_sounds"
"""Key of our data in the Parquet metadata."""
_TEXT, _COUNT, _REAL, _FLAG = "string", "Int64", "Float64", "boolean"
COLUMNS = {
    "key": _TEXT,
    "youtube_id": _TEXT,
    "time_start": _COUNT,
    "time_end": _COUNT,
    "label": _TEXT,
    "label_index": _COUNT,
    "split": _TEXT,
    "status": _TEXT,
    "detail": _TEXT,
    "source": _TEXT,
    "path": _TEXT,
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
    "other_streams": _TEXT,
    "rotation": _COUNT,
    "decode_errors": _COUNT,
    "audio_channel": _TEXT,
    "origin": _TEXT,
    "format_ids": _TEXT,
    "audio_language": _TEXT,
    "audio_track": _TEXT,
    "tool_versions": _TEXT,
}
"""Name and pandas type of each column."""
ADDED = ("audio_channel", "origin", "format_ids", "audio_language", "audio_track")
"""Columns added in schema 3; empty for clips measured by an older version."""
_MEDIA = [field.name for field in dataclasses.fields(Media)]
_FREE_TEXT = ("label", "detail", *ADDED)
"""Columns with free text from third parties."""
DERIVED = "labels derived from the rows"
"""Start of the class list's note for a copy of a manifest without our metadata."""
GAPS = ", numbered anew: some labels have no row"
"""End of that note if labels appear to be missing."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The clips of a build and their outcomes."""

    classes: ClassList
    """The requested classes; the position of a label is its `label_index`."""
    outcomes: tuple[Outcome, ...]
    """Outcomes in manifest order: split, label, key."""


def fingerprint(keys: Iterable[str]) -> str:
    """SHA-256 over the sorted keys, one per line: equal if and only if two sets hold the same clips."""
    return hashlib.sha256("".join(f"{key}\n" for key in sorted(keys)).encode()).hexdigest()


def write(path: Path, classes: ClassList, outcomes: Iterable[Outcome]) -> fingerprints.Both:
    """Write `manifest.parquet` and the same table as CSV beside it, each atomically; returns the fingerprints.

    Outcomes must be in manifest order (split, label, key); they are streamed, only what the fingerprints need is kept.
    """
    index = {label: number for number, label in enumerate(classes.labels)}
    facts = {"schema": SCHEMA, "classes": classes.name, "note": classes.note, "labels": list(classes.labels)}
    schema = pa.Schema.from_pandas(_table([]), preserve_index=False)  # whose metadata give pandas its types back
    schema = schema.with_metadata(schema.metadata | {_FACTS: json.dumps(facts).encode()})
    ok: list[tuple[str, str, str, str]] = []
    rows = (_row(outcome, index) for outcome in _noted(outcomes, ok))
    plain = path.with_suffix(".csv")
    with (
        files.atomic_writer(path) as out,
        files.atomic_writer(plain) as text,
        files.named(path),
        parquet.ParquetWriter(out, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        with files.named(plain):
            text.write((",".join(COLUMNS) + "\n").encode())
        while batch := list(itertools.islice(rows, ROWS)):
            table = _table(batch)
            writer.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False))
            for column in _FREE_TEXT:
                table[column] = table[column].map(files.for_people, na_action="ignore")
            with files.named(plain):
                text.write(table.to_csv(index=False, header=False, lineterminator="\n").encode())
        both = fingerprints.both(ok)
        writer.add_key_value_metadata({f"kinetics_sounds.{name}": str(value) for name, value in both.items()})
    return both


def _noted(outcomes: Iterable[Outcome], ok: list[tuple[str, str, str, str]]) -> Iterator[Outcome]:
    """Pass outcomes through, appending key, label, split and SHA-256 of the ok ones to a list."""
    for outcome in outcomes:
        if outcome.media is not None:
            ok.append((outcome.clip.key, outcome.clip.label, outcome.clip.split, outcome.media.sha256))
        yield outcome


def _table(rows: Sequence[Mapping[str, object]]) -> "DataFrame":
    from pandas import DataFrame

    return DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _row(outcome: Outcome, index: dict[str, int]) -> dict[str, object]:
    clip = outcome.clip
    media = {name: getattr(outcome.media, name) for name in _MEDIA} if outcome.media else {}
    return {
        "key": clip.key,
        "youtube_id": clip.youtube_id,
        "time_start": clip.time_start,
        "time_end": clip.time_end,
        "label": clip.label,
        "label_index": index[clip.label],
        "split": clip.split,
        "status": outcome.status.value,
        "detail": outcome.detail,
        "source": outcome.source,
        "tool_versions": outcome.tool_versions,
        **media,
    }


def read(path: Path) -> Manifest:
    """Read `manifest.parquet`, or a copy written by pandas and other tools: Parquet without our metadata, or CSV.

    The class list of a copy is derived from its labels, as its note says. Raises ManifestError if the file is missing, damaged,
    of another schema, lacks a column, or has a duplicate clip or a label outside of the class list.
    """
    with _opened(path) as table:
        schema = table.facts.get("schema") if table.facts is not None else None
        optional = ADDED if table.facts is None or schema == 2 else ()
        missing = [column for column in COLUMNS if column not in table.columns and column not in optional]
        if missing or (table.facts is not None and schema not in READABLE):
            raise _other(path, table.facts, missing)
        indices: dict[str, int] = {}
        outcomes = tuple(_outcomes(table.rows if table.facts is not None else _of_copy(table.rows, indices)))
        classes = _classes(table.facts) if table.facts is not None else _derived(path, indices)
        if table.count not in (None, len(outcomes)):  # a Parquet file's footer has no checksum
            raise ManifestError(
                f"{path}: has {len(outcomes)} of {table.count} rows; run ks-build again (finished clips are kept)"
            )
    keys, labels = set[str](), set(classes.labels)
    for clip in (outcome.clip for outcome in outcomes):
        if clip.key in keys or clip.label not in labels:
            what = "is in it twice" if clip.key in keys else f"has the unknown label {clip.label!r}"
            raise ManifestError(f"{path}: {clip.key} {what}; run ks-build again (finished clips are kept)")
        keys.add(clip.key)
    return Manifest(classes, outcomes)


def read_classes(path: Path) -> ClassList:
    """Class list of any manifest, derived for a copy; raises ManifestError if it is missing or damaged."""
    with _opened(path) as table:
        if table.facts is not None:
            return _classes(table.facts)
        if missing := [column for column in COLUMNS if column not in table.columns and column not in ADDED]:
            raise _other(path, None, missing)
        indices: dict[str, int] = {}
        for _ in _of_copy(table.rows, indices):
            pass
        return _derived(path, indices)


def _classes(facts: Mapping[str, Any]) -> ClassList:
    """Raises ValueError, KeyError or TypeError if the metadata hold no valid class list."""
    labels = facts["labels"]
    if not isinstance(labels, list) or not all(
        isinstance(text, str) for text in (*labels, facts["classes"], facts["note"])
    ):
        raise ValueError("its classes are not a list of labels")
    if len(set(labels)) < len(labels):
        raise ValueError("its classes contain a label twice")
    return ClassList(facts["classes"], tuple(labels), facts["note"])


def _derived(path: Path, indices: Mapping[str, int]) -> ClassList:
    """Labels of a copy's rows in the order of their indices, which may have gaps if a class has no row left."""
    labels = sorted(indices, key=lambda label: indices[label])
    if len(set(indices.values())) < len(labels):
        raise ValueError("two labels have the same label_index")
    gaps = bool(indices) and max(indices.values()) >= len(labels)
    return ClassList(path.stem, tuple(labels), f"{DERIVED} of {path.name}{GAPS if gaps else ''}")


def _of_copy(rows: Iterable[Mapping[str, Any]], indices: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Rows with their original types, and each label's index; raises ValueError if it is not a copy of a manifest."""
    for row in rows:
        plain = {name: _plain(COLUMNS[name], value) for name, value in row.items() if name in COLUMNS}
        key, span = plain["key"], (plain["time_start"], plain["time_end"])
        if parse_key(key) != (plain["youtube_id"], *span):
            raise ValueError(
                f"the row {key!r} has youtube_id {plain['youtube_id']!r} and times {span}; read ids as text"
            )
        if indices.setdefault(plain["label"], plain["label_index"]) != plain["label_index"]:
            raise ValueError(f"label {plain['label']!r} has several values of label_index")
        yield plain


def _plain(kind: str, value: Any) -> Any:  # noqa: ANN401 - whatever a table may hold
    """Convert a cell back to its column's type, from the text or float that another program made of it."""
    if kind == _TEXT:
        return "" if value is None or value != value else str(value)
    if value is None or value == "" or value != value:
        return None
    if kind == _FLAG:
        return {"true": True, "false": False, "1": True, "0": False}[str(value).lower().removesuffix(".0")]
    number = float(value)
    if kind == _REAL:
        return number
    if not number.is_integer():
        raise ValueError(f"{value!r} is not a whole number")
    return int(value) if isinstance(value, int) or str(value).isdecimal() else int(number)


@dataclass(frozen=True, slots=True)
class _Table:
    """An open manifest file."""

    facts: Mapping[str, Any] | None
    """Our metadata; None for a copy."""
    columns: Sequence[str]
    rows: Iterable[Mapping[str, Any]]
    count: int | None
    """Number of rows according to the file; None if it does not say."""


@contextmanager
def _opened(path: Path) -> Iterator[_Table]:
    if not path.is_file():
        raise ManifestError(f"{path}: there is no manifest; make one with: ks-build --classes k32")
    copy = path.suffix.lower() == ".csv"
    try:
        if copy:
            yield _csv_table(path)
            return
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            facts, names = (file.schema_arrow.metadata or {}).get(_FACTS), file.schema_arrow.names
            copy = facts is None
            batches = file.iter_batches(batch_size=ROWS, columns=[column for column in COLUMNS if column in names])
            rows = (row for batch in batches for row in batch.to_pylist())
            yield _Table(None if facts is None else json.loads(facts), names, rows, file.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # of damage it has none
            raise ManifestError(f"{path}: cannot be read: {error}; check that the disk is available") from error
        raise ManifestError(
            f"{path}: cannot be read as Parquet ({error}); give the manifest.parquet of a build"
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, csv.Error) as error:
        remedy = (
            "a copy may leave out rows, but not change them" if copy else "run ks-build again (finished clips are kept)"
        )
        raise ManifestError(f"{path}: is invalid ({error}); {remedy}") from error


def _csv_table(path: Path) -> _Table:
    text = files.read_text(path)
    if mark := files.other_separator(text):
        raise ValueError(f"its columns are separated by {mark!r}, not by commas")
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    return _Table(None, rows.fieldnames or [], map(_from_csv, rows), None)


def _from_csv(row: Mapping[str, Any]) -> Mapping[str, Any]:
    if None in row or None in row.values():
        raise ValueError(f"the row of {row.get('key')} has too many cells or too few")
    return dict(row) | {name: files.from_people(row[name]) for name in _FREE_TEXT if name in row}


def _other(path: Path, facts: Mapping[str, Any] | None, missing: Sequence[str]) -> ManifestError:
    lacks = f"lacks the columns {', '.join(missing)}"
    if facts is None:
        return ManifestError(f"{path}: is neither a manifest nor a copy of one: it {lacks}; keep them all")
    return ManifestError(
        f"{path}: has schema {facts.get('schema')}{f', {lacks}' if missing else ''}, but this version reads schema {SCHEMA}; "
        "run ks-build again (finished clips are kept) or use the version that wrote it"
    )


_CHANNEL = re.compile(r"|mix|left|right|[0-9]{1,2}")


def _check_file(row: Mapping[str, Any]) -> None:
    """Raise ValueError unless an ok row has a file within the build, its size and its checksum."""
    path = row["path"] or ""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"path {path!r} leads out of the build's folder")
    if not path.strip(".") or "\0" in path:
        raise ValueError(f"{row['key']}: path {path!r} is not a file's")
    if not (isinstance(row["bytes"], int) and row["bytes"] >= 0):
        raise ValueError(f"{row['key']}: bytes {row['bytes']!r} is not the size of a clip")
    if not re.fullmatch(r"[0-9a-f]{64}", row["sha256"] or ""):
        raise ValueError(f"{row['key']}: sha256 {row['sha256']!r} is not a checksum")
    if not _CHANNEL.fullmatch(row.get("audio_channel") or ""):
        raise ValueError(f"{row['key']}: audio_channel {row['audio_channel']!r} is none of mix, left, right, a number")


def _outcomes(rows: Iterable[Mapping[str, Any]]) -> Iterator[Outcome]:
    for row in rows:
        if row["status"] == Status.OK:
            _check_file(row)
        yield Outcome(
            clip=Clip(row["youtube_id"], row["time_start"], row["time_end"], row["label"], row["split"]),
            status=Status.of(row["status"]),
            detail=row["detail"],
            source=row["source"],
            media=Media(**{name: row[name] for name in _MEDIA if name in row}) if row["status"] == Status.OK else None,
            tool_versions=row["tool_versions"],
        )
