"""ks-publish check: whether a published folder is complete and consistent, without leakage between its splits."""

import dataclasses
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import classes, files
from kinetics_sounds.clip import Status
from kinetics_sounds.command import DONE, SOME_FAILED
from kinetics_sounds.errors import ClassListError, ListError, PublishError, SettingsError
from kinetics_sounds.quantities import first_of, plural
from kinetics_sounds.settings import parse

from . import contents, croissant, likeness, tables
from .contents import CLASSES, CROISSANT, FINGERPRINTS, SUMS
from .list_rows import rows_of_list
from .markdown import plain
from .tables import Row

MOST_FINDINGS = 200
"""Maximum number of findings of one kind that are listed; the rest are only counted."""
MOST_KEYS = 20
"""Maximum number of keys of a finding that are printed; JSON has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """Check a published folder: checksums, tables, fingerprints, Croissant, and leakage between splits. Changes nothing.

    Examples:
      ks-publish check published/k32
      ks-publish check published/k32 --no_croissant --json

    What cannot be checked on this machine is named, and is no finding.

    exit code: 0 no findings; 1 findings; 2 usage error; 3 stopped; 4 a bug, or a failing disk.
    """

    no_croissant: bool = False
    """Do not validate croissant.json with mlcroissant (pip install 'kinetics-sounds[publish]'), which is slow."""
    json: bool = False
    """Print the findings as JSON on standard output."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect of the published folder."""

    kind: str
    """missing, changed, extra, sums, table, fingerprint, classes, croissant, video_leak, same_content, alike."""
    place: str
    """A file of the folder, or a clip's key."""
    what: str
    """A sentence about the place; it names none of the keys."""
    keys: tuple[str, ...] = ()
    """The clips concerned, if any; `place` may be one of them."""

    @property
    def others(self) -> str:
        """Keys besides the place, to print after `what`; empty if there are none."""
        others = [key for key in self.keys if key != self.place]
        return f": {first_of(others, MOST_KEYS)}" if others else ""


def main(argv: Sequence[str]) -> int:
    """`ks-publish check FOLDER`; returns the exit code."""
    if not argv or argv[0].startswith("-"):
        parse(CheckSettings, argv, prog="ks-publish check FOLDER")
        raise SettingsError("give a folder: ks-publish check published/k32")
    settings = parse(CheckSettings, argv[1:], prog="ks-publish check FOLDER").settings
    folder = files.user_path(argv[0])
    if not folder.is_dir():
        raise PublishError(f"{folder}: is not a folder; give one made by ks-publish")
    if not contents.is_published(folder) and not (folder / SUMS).is_file():
        raise PublishError(f"{folder}: is not a published dataset ({FINGERPRINTS} and {SUMS} are missing)")
    findings = list(bounded(check(folder, with_croissant=not settings.no_croissant)))
    loads = not settings.no_croissant and (folder / CROISSANT).exists()
    not_checked = (
        [f"the records of {CROISSANT}: {croissant.NOT_INSTALLED}"] if loads and not croissant.can_be_loaded() else []
    )
    if settings.json:
        found = [dataclasses.asdict(each) for each in findings]
        print(json.dumps({"folder": str(folder), "findings": found, "not_checked": not_checked}))
    else:
        for each in findings:
            print(plain(f"{each.kind}: {each.place}: {each.what}{each.others}"))
        for told in not_checked:
            print(f"not checked: {told}")
        print(f"{plain(files.as_text(folder))}: {plural(len(findings), 'finding') if findings else 'no findings'}")
    return SOME_FAILED if findings else DONE


def bounded(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Limit the findings to `MOST_FINDINGS` per kind, with the number of further ones."""
    counts = Counter[str]()
    for each in findings:
        counts[each.kind] += 1
        if counts[each.kind] <= MOST_FINDINGS:
            yield each
    for kind, count in counts.items():
        if count > MOST_FINDINGS:
            yield Finding(kind, "", f"and {count - MOST_FINDINGS} more")


def check(folder: Path, *, with_croissant: bool) -> Iterator[Finding]:
    """All findings; an unreadable file is one, and checks that depend on it are skipped."""
    yield from _sums(folder)
    if contents.is_list(folder):
        yield from _lists(folder)
        return
    rows: dict[str, list[Row]] = {}
    for split in contents.splits_of(folder):
        try:
            rows[split] = _read(folder, split)
        except PublishError as error:
            yield _finding("table", folder, error)
    if not contents.splits_of(folder):
        yield Finding("table", "splits", "there is no split")
    whole = len(rows) == len(contents.splits_of(folder))
    for split, table in rows.items():
        yield from _parquet(folder, split, table)
    yield from _fingerprints(folder, rows)
    everything = [row for table in rows.values() for row in table]
    yield from _classes(folder, everything)
    yield from leaks(everything)
    if with_croissant and whole and rows and (folder / CROISSANT).exists():
        yield from _croissant(folder, rows)


def _finding(kind: str, folder: Path, error: Exception) -> Finding:
    text = str(error).removeprefix(f"{folder}/")
    place, colon, what = text.partition(": ")
    return Finding(kind, place if colon else "", what if colon else text)


def _sums(folder: Path) -> Iterator[Finding]:
    try:
        sums = contents.read_sums(folder)
    except PublishError as error:
        yield _finding("sums", folder, error)
        return
    for name, fault in files.in_threads(lambda name: _fault(folder / name, sums[name]), sums):
        if fault:
            yield Finding("missing" if fault == "is missing" else "changed", name, fault)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name in sums or name == SUMS or contents.is_of_the_hub(name):
            continue
        if path.is_symlink() or not path.is_dir():
            yield Finding("extra", name, f"is not in {SUMS}")
    for name in _expected(folder):
        if name not in sums and not (folder / name).exists():
            yield Finding("missing", name, f"is missing, and not in {SUMS}")


def _expected(folder: Path) -> tuple[str, ...]:
    """Documents expected in a folder of this kind."""
    if contents.is_list(folder):
        return contents.OF_THE_LIST
    try:
        told = contents.read_fingerprints(folder)
    except PublishError:
        return contents.DOCUMENTS
    described = any((folder / name).exists() for name in set(contents.DOCUMENTS).difference(contents.OF_THE_COMMON))
    is_common = told.name == told.classes == contents.COMMON and not described
    return contents.OF_THE_COMMON if is_common else contents.DOCUMENTS


def _fault(path: Path, sha256: str) -> str:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return "is not a plain file"
    if not path.exists():
        return "is missing"
    return "" if files.sha256(path) == sha256 else f"its SHA-256 is not that of {SUMS}"


def _read(folder: Path, split: str) -> list[Row]:
    path = contents.csv_path(folder, split)
    rows = list(tables.read_csv(path))
    for row in rows:
        if row["split"] != split:
            raise PublishError(f"{path}: {row['key']} belongs to the split {row['split']}")
    if twice := [key for key, count in Counter(row["key"] for row in rows).items() if count > 1]:
        raise PublishError(f"{path}: {twice[0]} is in it twice")
    return rows


def _parquet(folder: Path, split: str, rows: Sequence[Row]) -> Iterator[Finding]:
    """Differences between the Parquet file and the CSV, row by row."""
    path = contents.csv_path(folder, split).with_suffix(".parquet")
    try:
        pairs = itertools.zip_longest(rows, tables.read_parquet(path))
        for number, (ours, theirs) in enumerate(pairs, start=1):
            if ours != theirs:
                names = {**ours, **theirs} if ours and theirs else ()
                columns = [name for name in names if ours.get(name) != theirs.get(name)]
                told = f"in {', '.join(columns)}" if columns else "one of them lacks the row"
                yield Finding("table", f"splits/{path.name}", f"row {number} differs from {split}.csv: {told}")
                return
    except PublishError as error:
        yield _finding("table", folder, error)


def _fingerprints(folder: Path, rows: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    try:
        told = contents.read_fingerprints(folder)
    except PublishError as error:
        yield _finding("fingerprint", folder, error)
        return
    if set(told.splits) != set(rows):
        yield Finding(
            "fingerprint", FINGERPRINTS, f"has the splits {', '.join(told.splits)}, the tables {', '.join(rows)}"
        )
        return
    tables_ = {split: {**_clips(table), **tables.both_fingerprints(table)} for split, table in rows.items()}
    everything = tables.both_fingerprints(row for table in rows.values() for row in table)
    for split, found in tables_.items():
        for name, value in found.items():
            if told.splits[split][name] != value:
                yield Finding("fingerprint", FINGERPRINTS, f"{name} of {split} is not that of its rows ({value})")
    for name, text in everything.items():
        if getattr(told, name) != text:
            yield Finding("fingerprint", FINGERPRINTS, f"{name} is not that of the rows ({text})")


def _clips(rows: Sequence[Row]) -> dict[str, int]:
    return {"clips": sum(row["status"] == "ok" for row in rows)}


def _lists(folder: Path) -> Iterator[Finding]:
    """Checks of the common split of two lists: its rows, labels and leakage."""
    rows: list[Row] = []
    for split in contents.splits_of(folder):
        path = contents.csv_path(folder, split)
        try:
            listed = rows_of_list(path, known=(), labels=())
        except (ListError, PublishError) as error:
            yield _finding("table", folder, error)
            continue
        yield from (Finding("table", f"splits/{path.name}", told) for told in listed.unread)
        for row in listed.rows:
            if None in (row["label"], row["time_start"], row["time_end"]) or row["split"] != split:
                yield Finding(
                    "table", f"splits/{path.name}", f"{row['key']}: lacks a label or times, or is of another split"
                )
        rows += [{**row, "status": ""} for row in listed.rows]
    labels = yield from _labels(folder)
    for label in sorted({str(row["label"]) for row in rows}.difference(labels or ())) if labels else ():
        yield Finding("classes", CLASSES, f"lacks {label!r}, which rows have")
    yield from leaks(rows)


def _labels(folder: Path) -> Generator[Finding, None, tuple[str, ...]]:
    """Labels of a folder's class list; if it is unreadable, a finding and no labels."""
    path = folder / CLASSES
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > contents.MOST_BYTES:
            raise PublishError(f"{path}: is not a valid class list")
        return classes.read(str(path.absolute())).labels
    except (ClassListError, PublishError, OSError) as error:
        yield _finding("classes", folder, error)
        return ()


def _classes(folder: Path, rows: Iterable[Row]) -> Iterator[Finding]:
    labels = yield from _labels(folder)
    if not labels:
        return
    for index, label in sorted({(int(row["label_index"] or 0), str(row["label"])) for row in rows}):
        if index >= len(labels) or labels[index] != label:
            yield Finding("classes", CLASSES, f"has another label at index {index} than the rows: {label!r}")


def leaks(rows: Sequence[Row]) -> Iterator[Finding]:
    """Leakage between splits: the same video, key or bytes, or re-encoded copies. Takes nearly linear time.

    A clip that is not there leaks nothing.
    """
    there = [row for row in rows if row["status"] in (Status.OK, "")]  # a list says no status
    yield from video_leaks(there)
    where_is = defaultdict[str, set[str]](set)
    contents_ = defaultdict[str, list[Row]](list)
    for row in there:
        where_is[str(row["key"])].add(str(row["split"]))
        if row["status"] == "ok":
            contents_[str(row["sha256"])].append(row)
    for key, where in where_is.items():
        if len(where) > 1:
            yield Finding("video_leak", key, f"the clip is in {' and '.join(sorted(where))}", (key,))
    for same in contents_.values():
        if len(alike := tuple(dict.fromkeys(str(row["key"]) for row in same))) > 1:
            others = sorted({str(row["split"]) for row in same if row["key"] != alike[0]})
            labels = list(dict.fromkeys(str(row.get("label", "")) for row in same))
            wrong = f", labelled {' and '.join(map(repr, labels))}" if len(labels) > 1 else ""
            told = f"in {same[0]['split']}; the same bytes in {' and '.join(others)}{wrong}"
            yield Finding("same_content", alike[0], told, alike)
    ok = [row for same in contents_.values() for row in same[:1]]  # equal bytes are told of above
    for first, second in likeness.alike_pairs(ok):
        if first["split"] != second["split"]:
            both = (str(first["key"]), str(second["key"]))
            yield Finding("alike", both[0], f"in {first['split']}; a re-encoded copy in {second['split']}", both)


def video_leaks(rows: Iterable[Row]) -> Iterator[Finding]:
    """Videos with clips in more than one split; files of a data set are of none."""
    splits = defaultdict[str, set[str]](set)
    keys = defaultdict[str, dict[str, None]](dict)
    for row in (row for row in rows if row["youtube_id"]):
        splits[str(row["youtube_id"])].add(str(row["split"]))
        keys[str(row["youtube_id"])][str(row["key"])] = None
    for video, where in splits.items():
        if len(where) > 1:
            yield Finding("video_leak", video, f"the video is in {' and '.join(sorted(where))}", tuple(keys[video]))


def _croissant(folder: Path, rows: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    """Compare the records loaded by mlcroissant, if it is installed, with the rows, and its files with SHA256SUMS."""
    try:
        croissant.check_shape(folder)
        for name, sha256 in croissant.sums(folder).items():
            if _fault(folder / name, sha256):
                yield Finding("croissant", CROISSANT, f"has another SHA-256 of {name} than the file")
        if not croissant.can_be_loaded():
            return
        loaded = croissant.count(folder)
    except PublishError as error:
        yield _finding("croissant", folder, error)
        return
    expected = {split: len(table) for split, table in rows.items() if table}
    if loaded != expected:
        yield Finding("croissant", CROISSANT, f"loads {dict(loaded)} records, but the tables have {expected}")
