"""A dataset to compare, from a published folder, a build's folder, a manifest or a list."""

import csv
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinetics_sounds import classes, files, fingerprints, manifest
from kinetics_sounds.errors import PublishError
from kinetics_sounds.fingerprints import Both

from . import contents, tables
from .list_rows import rows_of_list
from .tables import Row

Kind = Literal["published", "manifest", "list"]
MANIFEST = "manifest.parquet"
"""Manifest in a build's folder."""
KINDS = "a published folder, a build's folder, a manifest or a list"
"""What can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSet:
    """The ok clips of a dataset."""

    name: str
    """Last part of the path; of a build's manifest, that of its folder."""
    kind: Kind
    rows: Mapping[str, Row]
    """Rows of the existing clips by key; of a list, of all its clips, with None for missing fields."""
    lost: Mapping[str, str]
    """Status of the other clips, by key."""
    labels: tuple[str, ...]
    """Labels of the class list, or of the rows, sorted."""
    unread: tuple[str, ...] = ()
    """Rows of a list without a clip, each with its line number and the reason."""

    @property
    def is_full(self) -> bool:
        """Whether the rows have all published fields."""
        return self.kind != "list"

    @property
    def knows_bytes(self) -> bool:
        """Whether the SHA-256 of its clips is known, or there are none."""
        return not self.rows or any(row["sha256"] is not None for row in self.rows.values())

    @property
    def fingerprints(self) -> Both:
        """Selection, and content if all bytes are known; empty if fields are missing."""
        rows = self.rows.values()
        if any(row[name] is None for row in rows for name in ("key", "label", "split")):
            return Both(selection="", content="")
        return fingerprints.both(
            [
                (str(row["key"]), str(row["label"]), str(row["split"]), tables.text_or_none(row["sha256"]))
                for row in rows
            ]
        )


def read_both(first: Path, second: Path) -> tuple[ClipSet, ClipSet]:
    """Read two datasets; fields missing in a list are completed from the other: ends of spans, and labels of class indices.

    Raises PublishError, ManifestError or ListError if one is invalid.
    """
    made = {path: _read_full(path) for path in (first, second)}
    full = next((each for each in made.values() if each is not None), None)
    if full is not None:
        return made[first] or read_list(first, full), made[second] or read_list(second, full)
    a = read_list(first, None)
    b = read_list(second, a if a.labels else None)
    return (a if a.labels or not b.labels else read_list(first, b)), b


def _read_full(path: Path) -> ClipSet | None:
    """Read a published folder or a manifest; None for a possible list, or a folder of lists."""
    if path.is_dir():
        if contents.is_list(path):
            return None
        if contents.is_published(path) or contents.splits_of(path):
            return _made(path, "published", contents.rows_of(path), _labels(path))
        if not (path / MANIFEST).is_file():
            raise PublishError(f"{path}: is a folder without {MANIFEST}, and not a published one; give {KINDS}")
        path = path / MANIFEST
    if path.suffix.lower() == ".parquet" or _is_manifest(path):
        made = manifest.read(path)
        if made.folds is not None:
            raise PublishError(f"{path}: is the manifest of a data set ({made.classes.name}); give one of a build")
        indices = {label: place for place, label in enumerate(made.classes.labels)}
        several = made.several_labels
        rows = (tables.row_of(each, indices[each.clip.label], several_labels=several) for each in made.outcomes)
        return _made(path, "manifest", rows, made.classes.labels)
    return None


def read_list(path: Path, other: ClipSet | None) -> ClipSet:
    """Read a paper's list; missing fields are None, or completed from `other`."""
    known = dict.fromkeys([*other.rows, *other.lost]) if other else {}
    labels = other.labels if other else ()
    files_ = [contents.csv_path(path, split) for split in contents.splits_of(path)] if path.is_dir() else [path]
    found = [rows_of_list(each, known=known, labels=labels) for each in files_]
    rows = [row for each in found for row in each.rows]
    return _made(path, "list", rows, (), unread=tuple(told for each in found for told in each.unread))


def _made(
    path: Path, kind: Kind, rows: Iterable[Row], labels: tuple[str, ...], *, unread: tuple[str, ...] = ()
) -> ClipSet:
    there: dict[str, Row] = {}
    lost: dict[str, str] = {}
    for row in rows:
        key = str(row["key"])
        if key in there or key in lost:
            raise PublishError(f"{path}: {key} is in it twice; see ks-publish check")
        if row["status"] == "ok":
            there[key] = row
        else:
            lost[key] = str(row["status"])
    found = tuple(sorted({str(row["label"]) for row in there.values() if row["label"] is not None}))
    place = path.absolute()
    return ClipSet(
        name=files.as_text(place.parent.name if place.name == MANIFEST else place.name),
        kind=kind,
        rows=there,
        lost=lost,
        labels=labels or found,
        unread=unread,
    )


def _labels(folder: Path) -> tuple[str, ...]:
    path = folder / contents.CLASSES
    if path.is_symlink() or not path.is_file() or path.stat().st_size > contents.MOST_BYTES:
        return ()
    return classes.read(str(path.absolute())).labels


def _is_manifest(path: Path) -> bool:
    """Whether a file begins like a manifest's CSV and no other table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            header = next(csv.reader(itertools.islice(iter(lambda: text.readline(1 << 16), ""), 1)), [])
    except OSError as error:
        raise PublishError(f"{path}: cannot be read: {error.strerror}; give {KINDS}") from error
    except (UnicodeDecodeError, csv.Error):
        return False
    return {"key", "status", "detail", "source", "tool_versions"} <= set(header)
