"""The manifest: one row an annotation asked for, whatever became of it. Columns: `manifests/SCHEMA.md`."""

import csv
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pyarrow.lib import ArrowException

from . import files
from .classes import ClassList
from .clip import Clip, Media, Outcome, Status
from .errors import ManifestError

SCHEMA = 2
"""Raised when a column changes its meaning; a reader refuses any other."""

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
    "tool_versions": _TEXT,
}
"""Name and pandas type of each column."""

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


def write(path: Path, manifest: Manifest) -> None:
    """Write `manifest.parquet`, and the same table as CSV beside it, each complete or not at all."""
    index = {label: number for number, label in enumerate(manifest.classes.labels)}
    rows = [_row(outcome, index) for outcome in manifest.outcomes]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    named = manifest.classes
    table.attrs = {"schema": SCHEMA, "classes": named.name, "note": named.note, "labels": list(named.labels)}
    with files.atomic_writer(path) as out:
        table.to_parquet(out, engine="pyarrow", index=False, write_page_checksum=True)
    for column in ("label", "detail"):
        table[column] = table[column].map(_for_people)
    with files.atomic_writer(path.with_suffix(".csv")) as out:
        out.write(table.to_csv(index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n").encode())


def _for_people(text: str) -> str:
    """A CSV cell that a spreadsheet does not run as a formula, with line ends that the format knows how to quote."""
    return ("'" if text.startswith(_FORMULA) else "") + text.replace("\r\n", "\n").replace("\r", "\n")


def _row(outcome: Outcome, index: dict[str, int]) -> dict[str, object]:
    clip = outcome.clip
    media = dataclasses.asdict(outcome.media) if outcome.media else {}
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
    """Read `manifest.parquet`; raises ManifestError where it is missing, damaged, or of another schema."""
    if not path.is_file():
        raise ManifestError(f"{path}: there is no manifest; make one with: ks-build --classes k32")
    try:
        table = pd.read_parquet(path, engine="pyarrow", page_checksum_verification=True)
    except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{path}: cannot be read as Parquet ({error}); give the manifest.parquet of a build"
        ) from error
    missing = [column for column in COLUMNS if column not in table.columns]
    schema = table.attrs.get("schema")
    if missing or schema != SCHEMA:
        lacks = f", lacks the columns {', '.join(missing)}" if missing else ""
        raise ManifestError(
            f"{path}: is of schema {schema}{lacks}, where this version reads schema {SCHEMA}; run ks-build again "
            "(finished clips are kept) or use the version that wrote it"
        )
    try:
        return Manifest(
            classes=ClassList(table.attrs["classes"], tuple(table.attrs["labels"]), table.attrs["note"]),
            outcomes=tuple(_outcomes(table[list(COLUMNS)])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{path}: holds what no build writes ({error}); run ks-build again (finished clips are kept)"
        ) from error


def _outcomes(table: pd.DataFrame) -> Sequence[Outcome]:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [
        Outcome(
            clip=Clip(row["youtube_id"], row["time_start"], row["time_end"], row["label"], row["split"]),
            status=Status.of(row["status"]),
            detail=row["detail"],
            source=row["source"],
            media=Media(**{name: row[name] for name in _MEDIA}) if row["status"] == Status.OK else None,
            tool_versions=row["tool_versions"],
        )
        for row in rows
    ]
