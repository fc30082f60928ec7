"""Read the clips of a manifest, build, shard set or published folder: one row per clip, whatever its outcome."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetics_sounds import files, manifest, stream
from kinetics_sounds.classes import NOTES
from kinetics_sounds.clip import Media, Outcome, Status, parse_key
from kinetics_sounds.errors import BadSampleError, SettingsError
from kinetics_sounds.shards import index, layout, reader

from ..publishing import check, contents
from ..publishing.list_rows import rows_of_list
from ..publishing.tables import Row as Published
from ..publishing.tables import row_of

FLAGS = ("silent", "still", "dubbed", "rotated", "decode errors", "duplicate", "leak")
"""Possible flags of a clip; the last two are findings of `ks-publish check`."""
_FLAG_OF = {"video_leak": "leak", "same_content": "duplicate", "alike": "leak"}
OK = Status.OK.value
LISTED = "listed"
"""Outcome of a clip that is only known by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One clip of a dataset."""

    key: str
    label: str
    split: str
    status: str
    source: str = ""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """The clips of one PATH."""

    name: str
    """The path as given."""
    kind: str
    """build, manifest, shard set, published folder, list of clips."""
    folder: Path
    """Folder that `Row.file` is relative to, or the shard set."""
    classes: str
    note: str
    """Note of the class list for its users."""
    rows: Sequence[Row]
    findings: Sequence[check.Finding]
    """Duplicates and leaks."""


def _is_list(path: Path) -> bool:
    return path.is_dir() and contents.is_list(path)


def read(path: Path) -> Set:
    """Read the data at a path; raises the error of its kind if it is damaged, SettingsError if it has an unknown kind."""
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
        measured |= {"short_side": min(media.width, media.height)}
    return Row(
        key=clip.key,
        label=clip.label,
        split=clip.split,
        status=outcome.status.value,
        source=outcome.source,
        detail=outcome.detail,
        **measured,
    )


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


def _of_shards(folder: Path) -> Set:
    dataset = reader.read_dataset(folder)
    rows = [row for name in dataset.splits for row in _of_split(folder, name)]
    published = [
        {
            "key": row.key,
            "youtube_id": (parse_key(row.key) or (row.key,))[0],
            "split": row.split,
            "status": "",
            "sha256": "",
        }
        for row in rows
    ]
    return _set(folder, "shard set", folder, (dataset.classes, dataset.note), rows, published)


def _of_split(folder: Path, name: str) -> Iterator[Row]:
    """Packed clips with their samples' metadata, and skipped clips."""
    split = stream.open_split(folder, name)
    sizes = split.size_NP.sum(axis=1)
    for number in range(len(split)):
        facts: dict[str, Any] = {"status": OK}
        try:
            with stream.sample(split, number) as sample:
                meta = sample.meta
            facts |= {"fps": meta.fps, "duration_seconds": meta.num_frames / meta.fps if meta.fps else None}
        except BadSampleError as error:
            facts = {"status": "bad_sample", "detail": str(error)}
        label = split.dataset.labels[int(split.label_index_N[number])]
        yield Row(key=split.key(number), label=label, split=name, sample=number, bytes=int(sizes[number]), **facts)
    for number in range(split.dataset.splits[name].shards):
        for left in index.read_index(layout.index_path(layout.tar_path(folder, name, number))).left:
            yield Row(key=left.key, label="", split=name, status=left.status, detail=left.detail)


def _set(
    path: Path,
    kind: str,
    folder: Path,
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
        name=files.as_text(path),
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
