"""The manifest: one row an annotation asked for, whatever became of it. Columns: `manifests/SCHEMA.md`."""

import csv
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from . import files
from .classes import ClassList
from .clip import Clip, Media, Outcome, Status
from .errors import ManifestError

SCHEMA = 3
"""Raised when a column changes its meaning."""

READABLE = (2, 3)
"""Schemas that are read: schema 2 lacks the columns of `ADDED`."""

ROWS = 10_000
"""Held in memory at a time, and the length of a row group."""

_FACTS = b"kinetics_sounds"
"""Where the Parquet metadata say what the table is of."""
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
"""Columns that came with schema 3; empty where a clip was measured by an older version."""

_MEDIA = [field.name for field in dataclasses.fields(Media)]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A build's clips and what became of each."""

    classes: ClassList
    """What was asked for; a label's place in it is its `label_index`."""
    outcomes: tuple[Outcome, ...]
    """In the manifest's order: split, label, key."""


def fingerprint(keys: Iterable[str]) -> str:
    """SHA-256 over the sorted keys, a line each: equal exactly where two sets hold the same clips."""
    return hashlib.sha256("".join(f"{key}\n" for key in sorted(keys)).encode()).hexdigest()


def write(path: Path, classes: ClassList, outcomes: Iterable[Outcome]) -> None:
    """Write `manifest.parquet`, and the same table as CSV beside it, each complete or not at all.

    The outcomes come in the manifest's order (split, label, key) and are not held in memory.
    """
    index = {label: number for number, label in enumerate(classes.labels)}
    facts = {"schema": SCHEMA, "classes": classes.name, "note": classes.note, "labels": list(classes.labels)}
    schema = pa.Schema.from_pandas(_table([]), preserve_index=False)  # whose metadata give pandas its types back
    schema = schema.with_metadata(schema.metadata | {_FACTS: json.dumps(facts).encode()})
    rows = (_row(outcome, index) for outcome in outcomes)
    with (
        files.atomic_writer(path) as out,
        files.atomic_writer(path.with_suffix(".csv")) as text,
        parquet.ParquetWriter(out, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        text.write((",".join(COLUMNS) + "\n").encode())
        while batch := list(itertools.islice(rows, ROWS)):
            table = _table(batch)
            writer.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False))
            for column in ("label", "detail"):
                table[column] = table[column].map(_for_people)
            plain = table.to_csv(index=False, header=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
            text.write(plain.encode())


def _table(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _for_people(text: str) -> str:
    """A CSV cell that a spreadsheet does not run as a formula, with line ends that the format knows how to quote."""
    return ("'" if text.startswith(_FORMULA) else "") + text.replace("\r\n", "\n").replace("\r", "\n")


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
    """Read `manifest.parquet`.

    Raises ManifestError where it is missing, damaged, of another schema, or has a clip twice or with a label of no class.
    """
    with _opened(path) as (file, facts):
        schema = facts.get("schema")
        there = file.schema_arrow.names
        columns = [column for column in COLUMNS if column in there or column not in ADDED or schema != 2]
        missing = [column for column in columns if column not in there]
        if missing or schema not in READABLE:
            raise _other(path, schema, missing)
        classes = _classes(facts)
        batches = file.iter_batches(batch_size=ROWS, columns=columns)
        outcomes = tuple(outcome for batch in batches for outcome in _outcomes(batch.to_pylist()))
        if len(outcomes) != file.metadata.num_rows:  # its footer has no checksum
            raise ManifestError(
                f"{path}: holds {len(outcomes)} of {file.metadata.num_rows} rows; run ks-build again (finished clips are kept)"
            )
    keys, labels = set[str](), set(classes.labels)
    for clip in (outcome.clip for outcome in outcomes):
        if clip.key in keys or clip.label not in labels:
            what = (
                "stands in it twice" if clip.key in keys else f"has the label {clip.label!r}, which is no class of it"
            )
            raise ManifestError(f"{path}: {clip.key} {what}; run ks-build again (finished clips are kept)")
        keys.add(clip.key)
    return Manifest(classes, outcomes)


def read_classes(path: Path) -> ClassList:
    """The class list that a manifest of any schema is of; raises ManifestError where it is missing or damaged."""
    with _opened(path) as (_, facts):
        return _classes(facts)


def _classes(facts: Mapping[str, Any]) -> ClassList:
    return ClassList(facts["classes"], tuple(facts["labels"]), facts["note"])


@contextmanager
def _opened(path: Path) -> Iterator[tuple[parquet.ParquetFile, Mapping[str, Any]]]:
    if not path.is_file():
        raise ManifestError(f"{path}: there is no manifest; make one with: ks-build --classes k32")
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            yield file, json.loads((file.schema_arrow.metadata or {}).get(_FACTS, b"{}"))
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(
            f"{path}: cannot be read as Parquet ({error}); give the manifest.parquet of a build"
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{path}: holds what no build writes ({error}); run ks-build again (finished clips are kept)"
        ) from error


def _other(path: Path, schema: object, missing: Sequence[str]) -> ManifestError:
    lacks = f", lacks the columns {', '.join(missing)}" if missing else ""
    return ManifestError(
        f"{path}: is of schema {schema}{lacks}, where this version reads schema {SCHEMA}; run ks-build again "
        "(finished clips are kept) or use the version that wrote it"
    )


def _outcomes(rows: Iterable[Mapping[str, Any]]) -> Iterator[Outcome]:
    for row in rows:
        yield Outcome(
            clip=Clip(row["youtube_id"], row["time_start"], row["time_end"], row["label"], row["split"]),
            status=Status.of(row["status"]),
            detail=row["detail"],
            source=row["source"],
            media=Media(**{name: row[name] for name in _MEDIA if name in row}) if row["status"] == Status.OK else None,
            tool_versions=row["tool_versions"],
        )
