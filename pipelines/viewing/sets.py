"""Read the clips of a manifest, build, shard set or published folder: one row per clip, whatever its outcome."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetics_sounds import files, manifest, remote, stream
from kinetics_sounds.address import Address
from kinetics_sounds.classes import NOTES
from kinetics_sounds.clip import Media, Outcome, Status, parse_key, parse_labels
from kinetics_sounds.errors import BadSampleError, SettingsError
from kinetics_sounds.shards import layout, reader
from kinetics_sounds.shards.index import Dataset, SkippedClip

from ..publishing import check, contents
from ..publishing.list_rows import rows_of_list
from ..publishing.tables import LABELS, row_of
from ..publishing.tables import Row as Published

FLAGS = ("silent", "still", "dubbed", "rotated", "decode errors", "duplicate", "leak")
"""Possible flags of a clip; the last two are findings of `ks-publish check`."""
_FLAG_OF = {"video_leak": "leak", "same_content": "duplicate", "alike": "leak"}
OK = Status.OK.value
SHARDS = "shard set"
"""Kind of a shard set."""
LISTED = "listed"
"""Outcome of a clip that is only known by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One clip of a dataset."""

    key: str
    label: str
    split: str
    status: str
    labels: str = ""
    """All labels, if it has several."""
    source: str = ""
    origin: str = ""
    """File of the source that the clip is from."""
    detail: str = ""
    file: str = ""
    """Path of the clip's file relative to the dataset's folder; empty if there is none."""
    channel: str = "mix"
    """Audio channel in use."""
    sample: int = -1
    """Index of the sample in its split of a shard set."""
    bytes: int | None = None
    duration_seconds: float | None = None
    fps: float | None = None
    short_side: int | None = None
    audio_rms_db: float | None = None
    audio_offset_seconds: float | None = None
    decode_errors: int | None = None
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Set:
    """The clips of one PATH."""

    name: str
    """The path or URL as given, without secrets."""
    kind: str
    """build, manifest, shard set, published folder, list of clips."""
    folder: Path | None
    """Folder that `Row.file` is relative to, or the shard set; None for one at a URL, whose indexes alone are read."""
    classes: str
    note: str
    """Note of the class list for its users."""
    rows: Sequence[Row]
    findings: Sequence[check.Finding]
    """Duplicates and leaks."""


def _is_list(path: Path) -> bool:
    return path.is_dir() and contents.is_list(path)


def read(place: Path | Address) -> Set:
    """Read the data at a path, or the indexes of a shard set at a URL.

    Raises the error of its kind if it is damaged, SettingsError if it has an unknown kind.
    """
    if isinstance(place, Path):
        return _read(place)
    if remote.size(remote.join(place, layout.DATASET)) is None:
        raise SettingsError(
            f"{place}: is not a shard set ({layout.DATASET} is missing), and nothing else can be shown from a URL; "
            "download it and give its folder"
        )
    return _of_shards(place)


def _read(path: Path) -> Set:
    if path.suffix.lower() in (".parquet", ".csv") and not path.is_dir():
        return _of_manifest(path, path)
    if (path / "manifest.parquet").is_file():
        return _of_manifest(path / "manifest.parquet", path)
    if (path / layout.DATASET).is_file():
        return _of_shards(path)
    if contents.is_published(path):
        return _of_published(path)
    if _is_list(path):
        return _of_list(path)
    raise SettingsError(
        f"{path}: is not a manifest, build, shard set, published folder or run; give what ks-build, ks-shard, "
        "ks-publish or ks-train wrote"
    )


def _of_manifest(path: Path, given: Path) -> Set:
    found = manifest.read(path)
    index_of = {label: number for number, label in enumerate(found.classes.labels)}
    published = [row_of(outcome, index_of[outcome.clip.label]) for outcome in found.outcomes]
    return _set(
        given,
        "build" if given.is_dir() else "manifest",
        path.parent,
        (found.classes.name, found.classes.note),
        map(_of_outcome, found.outcomes),
        published,
    )


def _of_outcome(outcome: Outcome) -> Row:
    clip, media = outcome.clip, outcome.media
    measured: dict[str, Any] = {}
    if media is not None:
        names = ("bytes", "duration_seconds", "fps", "audio_rms_db", "audio_offset_seconds", "decode_errors")
        measured = {name: getattr(media, name) for name in names}
        measured |= {"file": media.path, "channel": media.audio_channel or "mix", "flags": _flags(media)}
        measured |= {"short_side": min(media.width, media.height), "origin": media.origin}
    return Row(
        key=clip.key,
        label=clip.label,
        split=clip.split,
        status=outcome.status.value,
        labels=_told(clip.labels),
        source=outcome.source,
        detail=outcome.detail,
        **measured,
    )


def _told(labels: Sequence[str]) -> str:
    """Several labels in one line; empty for one."""
    return "; ".join(labels) if len(labels) > 1 else ""


def _flags(media: Media) -> frozenset[str]:
    there = {
        "silent": media.silent,
        "still": media.still,
        "dubbed": media.audio_track not in ("", "original"),
        "rotated": media.rotation,
        "decode errors": media.decode_errors,
    }
    return frozenset(name for name, value in there.items() if value)


def _of_published(folder: Path) -> Set:
    told = contents.read_fingerprints(folder)
    rows = list(contents.rows_of(folder))
    with_media = (folder / contents.MEDIA).is_dir()
    found = (_of_row(row, with_media=with_media) for row in rows)
    return _set(folder, "published folder", folder, (told.classes, NOTES.get(told.classes, "")), found, rows)


def _of_row(row: Published, *, with_media: bool = False) -> Row:
    """Convert a published row, or one of a list, which has no measurements."""
    cell: dict[str, Any] = dict(row)
    split, status = str(cell["split"] or ""), str(cell.get("status") or LISTED)
    sides = [side for side in (cell.get("width"), cell.get("height")) if side]
    flags = {
        "silent": cell.get("silent"),
        "still": cell.get("still"),
        "rotated": cell.get("rotation"),
        "decode errors": cell.get("decode_errors"),
    }
    names = ("bytes", "duration_seconds", "fps", "audio_rms_db", "audio_offset_seconds", "decode_errors")
    measured: dict[str, Any] = {name: cell.get(name) for name in names}
    return Row(
        key=str(cell["key"]),
        label=str(cell["label"] or ""),
        split=split,
        status=status,
        labels=_told(parse_labels(str(row[LABELS]), str(row["label"])) if LABELS in row else ()),
        file=f"{contents.MEDIA}/{split}/{cell['key']}.mp4" if with_media and status == OK else "",
        channel=cell.get("audio_channel") or "mix",
        short_side=min(sides, default=None),
        flags=frozenset(name for name, value in flags.items() if value),
        **measured,
    )


def _of_list(folder: Path) -> Set:
    paths = [contents.csv_path(folder, split) for split in contents.splits_of(folder)]
    rows = [{**row, "status": ""} for path in paths for row in rows_of_list(path, known=(), labels=()).rows]
    return _set(folder, "list of clips", folder, (contents.COMMON, ""), map(_of_row, rows), rows)


def _of_shards(place: Path | Address) -> Set:
    dataset = reader.read_dataset(place)
    found = [each for name in dataset.splits for each in _of_split(place, dataset, name)]
    published: list[Published] = [
        {
            "key": row.key,
            "youtube_id": (parse_key(row.key) or (row.key,))[0],
            "label": row.label,
            "split": row.split,
            "status": OK if content else row.status,
            "sha256": content,
        }
        for row, content in found
    ]
    folder = place if isinstance(place, Path) else None
    rows = (row for row, _ in found)
    return _set(place, SHARDS, folder, (dataset.classes, dataset.note), rows, published)


def _of_split(place: Path | Address, dataset: Dataset, name: str) -> Iterator[tuple[Row, str]]:
    """Packed and skipped clips, each with what identifies its content (`_content`); in a folder also with its metadata."""
    split = stream.open_split(place, name) if isinstance(place, Path) else None
    skipped: list[SkippedClip] = []
    numbers = itertools.count()
    short_side = side if isinstance(side := dataset.frames.get("short_side"), int) else None
    for read in reader.indexes(place, name):
        skipped += read.left
        for key, label, sizes, crcs in zip(read.keys, read.label_indices, read.sizes, read.crcs, strict=True):
            facts: dict[str, Any] = {"status": OK} if split is None else _facts(split, next(numbers))
            facts |= {"bytes": sum(sizes), "short_side": short_side}
            yield Row(key=key, label=dataset.labels[label], split=name, **facts), _content(read.parts, sizes, crcs)
    for clip in skipped:
        yield Row(key=clip.key, label="", split=name, status=clip.status, detail=clip.detail), ""


def _facts(split: stream.Split, number: int) -> dict[str, Any]:
    """What a sample's metadata says of it."""
    try:
        with stream.sample(split, number) as sample:
            meta = sample.meta
    except BadSampleError as error:
        return {"status": "bad_sample", "detail": str(error), "sample": number}
    seconds = meta.num_frames / meta.fps if meta.fps else None
    facts = {"sample": number, "fps": meta.fps, "duration_seconds": seconds}
    return {"status": OK, "labels": _told(meta.labels), **facts}


def _content(parts: Sequence[str], sizes: Sequence[int], crcs: Sequence[int]) -> str:
    """Sizes and CRC-32s of a sample's picture and sound: equal for equal bytes. Empty if it has neither."""
    of_parts = zip(parts, sizes, crcs, strict=True)
    return " ".join(f"{part}:{size}:{crc:08x}" for part, size, crc in of_parts if part != layout.META)


def _set(
    place: Path | Address,
    kind: str,
    folder: Path | None,
    classes: tuple[str, str],
    rows: Iterable[Row],
    published: Sequence[Published],
) -> Set:
    """A dataset whose rows have the flags found by `ks-publish check`."""
    findings = list(check.leaks(published))
    flagged: dict[str, set[str]] = {}
    for finding in findings:
        for key in finding.keys:
            flagged.setdefault(key, set()).add(_FLAG_OF[finding.kind])
    return Set(
        name=files.as_text(place) if isinstance(place, Path) else str(place),
        kind=kind,
        folder=folder,
        classes=classes[0],
        note=classes[1],
        rows=[_also_flagged(row, flagged.get(row.key)) for row in rows],
        findings=findings,
    )


def _also_flagged(row: Row, more: set[str] | None) -> Row:
    if not more:
        return row
    return Row(**{name: getattr(row, name) for name in Row.__slots__} | {"flags": row.flags | more})
