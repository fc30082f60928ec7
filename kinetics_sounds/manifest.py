"""The manifest: one row per requested annotation, whatever its outcome. Columns: `manifests/SCHEMA.md`."""

import csv
import hashlib
import io
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from . import files, fingerprints
from .classes import ClassList
from .clip import Outcome, parse_labels
from .errors import ManifestError
from .manifest_rows import ADDED, COLUMNS, FREE_TEXT, GROUP, LABELS, check_key, columns, folds_of, outcomes, plain, row

if TYPE_CHECKING:
    from pandas import DataFrame

log = logging.getLogger("kinetics_sounds")

__all__ = ["ADDED", "COLUMNS", "Manifest", "fingerprint", "read", "read_classes", "read_keys", "write"]

SCHEMA = 3
"""Schema version of a build's manifest; incremented when a column changes its meaning."""
SET_SCHEMA = 4
"""Schema version of a data set's manifest, which has more columns."""
LABELS_SCHEMA = 5
"""Schema version of the manifest of a build whose clips have several labels: the same with the column `labels`."""
READABLE = (2, SCHEMA, SET_SCHEMA, LABELS_SCHEMA)
"""Schema versions that can be read: schema 2 lacks the columns of `ADDED`."""
ROWS = 10_000
"""Rows held in memory at a time, and per row group."""
_FACTS = b"kinetics_sounds"
"""Key of our data in the Parquet metadata."""
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
    folds: tuple[str, ...] | None = None
    """Names of a data set's folds, in the order of `Clip.folds`; None for a build."""

    @property
    def several_labels(self) -> bool:
        """Whether any clip has several labels."""
        return any(outcome.clip.other_labels for outcome in self.outcomes)


def fingerprint(keys: Iterable[str]) -> str:
    """SHA-256 over the sorted keys, one per line: equal if and only if two sets hold the same clips."""
    return hashlib.sha256("".join(f"{key}\n" for key in sorted(keys)).encode()).hexdigest()


def write(
    path: Path,
    classes: ClassList,
    outcomes: Iterable[Outcome],
    *,
    folds: Sequence[str] | None = None,
    several_labels: bool = False,
) -> fingerprints.Both:
    """Write `manifest.parquet` and the same table as CSV beside it, each atomically; returns the fingerprints.

    Outcomes must be in manifest order (split, label, key); they are streamed, only what the fingerprints need is kept.
    `folds` names those of a data set; None: it is a build's. `several_labels`: whether any clip of the build has several.
    """
    index = {label: number for number, label in enumerate(classes.labels)}
    version = SET_SCHEMA if folds is not None else LABELS_SCHEMA if several_labels else SCHEMA
    kinds = columns(folds, several_labels=several_labels)
    facts = {"schema": version, "classes": classes.name, "note": classes.note, "labels": list(classes.labels)}
    schema = pa.Schema.from_pandas(_table([], kinds), preserve_index=False)  # whose metadata give pandas its types back
    schema = schema.with_metadata(schema.metadata | {_FACTS: json.dumps(facts).encode()})
    ok: list[tuple[str, str, str, str]] = []
    rows = (row(outcome, index, folds, several_labels=several_labels) for outcome in _noted(outcomes, ok))
    copy = path.with_suffix(".csv")
    with (
        files.atomic_writer(path) as out,
        files.atomic_writer(copy) as text,
        files.named(path),
        parquet.ParquetWriter(out, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        with files.named(copy):
            text.write((",".join(kinds) + "\n").encode())
        while batch := list(itertools.islice(rows, ROWS)):
            table = _table(batch, kinds)
            writer.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False))
            for column in FREE_TEXT:
                table[column] = table[column].map(files.for_people, na_action="ignore")
            with files.named(copy):
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


def _table(rows: Sequence[Mapping[str, object]], kinds: dict[str, str]) -> "DataFrame":
    from pandas import DataFrame

    return DataFrame(rows, columns=list(kinds)).astype(kinds)


def read(path: Path) -> Manifest:
    """Read `manifest.parquet`, or a copy written by pandas and other tools: Parquet without our metadata, or CSV.

    The class list of a copy is derived from its labels, as its note says. Raises ManifestError if the file is missing, damaged,
    of another schema, lacks a column, or has a duplicate clip or a label outside of the class list.
    """
    with _opened(path) as table:
        schema = table.facts.get("schema") if table.facts is not None else None
        optional = ADDED if table.facts is None or schema == 2 else ()
        needed = (*COLUMNS, *([GROUP] if schema == SET_SCHEMA else [LABELS] if schema == LABELS_SCHEMA else []))
        missing = [column for column in needed if column not in table.columns and column not in optional]
        if missing or (table.facts is not None and schema not in READABLE):
            raise _other(path, table.facts, missing)
        indices: dict[str, int] = {}
        folds = folds_of(table.columns)
        found = tuple(outcomes(table.rows if table.facts is not None else _of_copy(table.rows, indices), folds))
        classes = _classes(table.facts) if table.facts is not None else _derived(path, indices)
        if table.count not in (None, len(found)):  # a Parquet file's footer has no checksum
            raise ManifestError(
                f"{path}: has {len(found)} of {table.count} rows; run ks-build again (finished clips are kept)"
            )
    keys, labels = set[str](), set(classes.labels)
    for clip in (outcome.clip for outcome in found):
        if clip.key in keys or clip.label not in labels:
            what = "is in it twice" if clip.key in keys else f"has the unknown label {clip.label!r}"
            raise ManifestError(f"{path}: {clip.key} {what}; run ks-build again (finished clips are kept)")
        keys.add(clip.key)
    return Manifest(classes, found, folds)


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


def read_keys(path: Path) -> list[str]:
    """Keys of all rows of a manifest, without its other columns; raises ManifestError if it is missing or damaged."""
    with _opened(path, only="key") as table:
        return [each["key"] for each in table.rows]


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
    kinds: dict[str, str] = {}
    for told in rows:
        kinds = kinds or columns(folds_of(list(told)), several_labels=LABELS in told)
        cells = {name: plain(kinds[name], value) for name, value in told.items() if name in kinds}
        check_key(cells)
        if indices.setdefault(cells["label"], cells["label_index"]) != cells["label_index"]:
            raise ValueError(f"label {cells['label']!r} has several values of label_index")
        yield cells


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
def _opened(path: Path, *, only: str = "") -> Iterator[_Table]:
    """`only`: the column that is read of a Parquet file; empty: all."""
    if not path.is_file():
        raise ManifestError(f"{path}: there is no manifest; make one with ks-build, or ks-shard --dataset")
    copy = path.suffix.lower() == ".csv"
    try:
        if copy:
            yield _csv_table(path)
            return
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            told, names = (file.schema_arrow.metadata or {}).get(_FACTS), file.schema_arrow.names
            copy, facts = told is None, None if told is None else json.loads(told)
            several = (
                facts.get("schema") == LABELS_SCHEMA
                if facts is not None
                else LABELS in names
                and _are_ours(path, _rows(file, [name for name in ("label", LABELS) if name in names]))
            )
            known = [column for column in columns(folds_of(names), several_labels=several) if column in names]
            yield _Table(facts, names, _rows(file, [only] if only else known), file.metadata.num_rows)
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
    names = csv.DictReader(io.StringIO(text, newline=""), strict=True).fieldnames or []

    def rows() -> Iterator[Mapping[str, Any]]:
        return map(_from_csv, csv.DictReader(io.StringIO(text, newline=""), strict=True))

    if LABELS not in names or _are_ours(path, rows()):
        return _Table(None, names, rows(), None)
    return _Table(None, names, ({name: row[name] for name in row if name != LABELS} for row in rows()), None)


def _rows(file: parquet.ParquetFile, names: list[str]) -> Iterator[Mapping[str, Any]]:
    """Rows of a Parquet file, with these columns."""
    return (row for batch in file.iter_batches(batch_size=ROWS, columns=names) for row in batch.to_pylist())


def _are_ours(path: Path, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a copy's column `labels` is the manifest's: JSON arrays that begin with `label`. Else it is the user's own."""
    for each in rows:
        text, label = (plain(COLUMNS["label"], each.get(name)) for name in (LABELS, "label"))
        try:
            parse_labels(text, label)
        except ValueError as error:
            log.warning("%s: its column %s is not that of a manifest, so it is ignored (%s)", path, LABELS, error)
            return False
    return True


def _from_csv(row: Mapping[str, Any]) -> Mapping[str, Any]:
    if None in row or None in row.values():
        raise ValueError(f"the row of {row.get('key')} has too many cells or too few")
    return dict(row) | {name: files.from_people(row[name]) for name in FREE_TEXT if name in row}


def _other(path: Path, facts: Mapping[str, Any] | None, missing: Sequence[str]) -> ManifestError:
    lacks = f"lacks the columns {', '.join(missing)}"
    if facts is None:
        return ManifestError(f"{path}: is neither a manifest nor a copy of one: it {lacks}; keep them all")
    schemas = f"the schemas {SCHEMA} to {LABELS_SCHEMA}"
    return ManifestError(
        f"{path}: has schema {facts.get('schema')}{f', {lacks}' if missing else ''}, but this version reads {schemas}; "
        "run ks-build again (finished clips are kept) or use the version that wrote it"
    )
