"""Rows of a manifest: its columns, and their conversion from and to outcomes. Columns: `manifests/SCHEMA.md`."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .clip import FOLD, Clip, Media, Outcome, Status, labels_text, parse_labels, span_key

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
FREE_TEXT = ("label", "detail", *ADDED)
"""Columns with free text from third parties."""
GROUP = "group"
"""Column of a data set's manifest, which one for each fold, named like it, follows."""
LABELS = "labels"
"""Last column of the manifest of a build whose clips have several labels."""


def columns(folds: Sequence[str] | None, *, several_labels: bool = False) -> dict[str, str]:
    """Name and pandas type of each column of a data set's manifest with these folds; None: of a build's."""
    if folds is None:
        return COLUMNS | {LABELS: _TEXT} if several_labels else COLUMNS
    return COLUMNS | {"time_start": _REAL, "time_end": _REAL, GROUP: _TEXT} | dict.fromkeys(folds, _TEXT)


def folds_of(names: Sequence[str]) -> tuple[str, ...] | None:
    """Folds of the manifest with these columns; None if it is a build's."""
    return tuple(filter(FOLD.fullmatch, names)) if GROUP in names else None


def row(
    outcome: Outcome, index: Mapping[str, int], folds: Sequence[str] | None, *, several_labels: bool
) -> dict[str, object]:
    """Cells of an outcome by column; raises ValueError for a clip with several labels where there is no column for them."""
    clip = outcome.clip
    if clip.other_labels and not several_labels:
        raise ValueError(f"{clip.key} has several labels, and the manifest no column {LABELS}")
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
        **({GROUP: clip.group} | dict(zip(folds, clip.folds, strict=True)) if folds is not None else {}),
        **({LABELS: labels_text(clip.labels)} if several_labels else {}),
    }


def plain(kind: str, value: Any) -> Any:  # noqa: ANN401 - whatever a table may hold
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


def outcomes(rows: Iterable[Mapping[str, Any]], folds: Sequence[str] | None) -> Iterator[Outcome]:
    """Outcomes of a manifest's rows; raises ValueError, KeyError or TypeError for an invalid one."""
    for row in rows:
        if row["status"] == Status.OK:
            _check_file(row)
        yield Outcome(
            clip=_clip(row, folds),
            status=Status.of(row["status"]),
            detail=row["detail"],
            source=row["source"],
            media=Media(**{name: row[name] for name in _MEDIA if name in row}) if row["status"] == Status.OK else None,
            tool_versions=row["tool_versions"],
        )


def _clip(row: Mapping[str, Any], folds: Sequence[str] | None) -> Clip:
    span = row["time_start"], row["time_end"], row["label"], row["split"]
    if folds is None:
        others = parse_labels(row[LABELS], row["label"])[1:] if LABELS in row else ()
        return Clip(row["youtube_id"], *span, other_labels=others)
    name = "" if row["youtube_id"] else row["key"]
    return Clip(row["youtube_id"], *span, name=name, group=row[GROUP], folds=tuple(row[fold] for fold in folds))


def check_key(row: Mapping[str, Any]) -> None:
    """Raise ValueError unless a row's key is that of its ID and times, or a data set's own."""
    youtube_id, span = row["youtube_id"], (row["time_start"], row["time_end"])
    own = GROUP in row and not youtube_id
    if not own and (None in span or row["key"] != span_key(youtube_id, *span)):
        raise ValueError(f"the row {row['key']!r} has youtube_id {youtube_id!r} and times {span}; read ids as text")
