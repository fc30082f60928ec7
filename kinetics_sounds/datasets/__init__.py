"""Data sets as they ship, to pack (`ks-shard --dataset`) or to evaluate on (`ks-eval sounds`): one file for each.

A module is found by its name; it reads the lists of a data set's folder into a `Listing`, and opens no media; see `Reader`.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .. import files, plugins
from ..clip import ALL, CONVERT, KEY
from ..errors import ListError
from ..folders import walk
from ..media import encode
from ..quantities import first_of, plural

MOST_NAMED = 20
"""Maximum number of files named in a message."""
AGAIN = "download the lists of the data set again"
"""What to do about an empty list."""
_LONGEST = 92
"""Maximum length of a key (`clip.KEY`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A file that the data set's lists name."""

    path: str
    """Relative to the data set's folder, with `/`; the file may be missing."""
    label: str
    split: str = ALL
    """train, val or test; `ALL` in a set with folds."""
    folds: tuple[str, ...] = ()
    """Its split in each fold; empty where a fold leaves it out."""
    group: str = ""
    """What the file was cut from, if the data set says so: a group belongs in one split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A data set according to its lists."""

    labels: tuple[str, ...]
    """In the order of the data set's own class indices."""
    rows: tuple[Row, ...]
    folds: tuple[str, ...] = ()
    """Names of the folds."""
    unlisted: tuple[str, ...] = ()
    """Files beside those of the rows: those that no list names, or, without lists, those that are no videos of a class."""
    has_lists: bool = True
    """Whether there are lists; else the rows are the files of the folder."""
    unread: tuple[str, ...] = ()
    """Without lists, videos whose container is not read."""
    folders: tuple[str, ...] = ()
    """Without lists, other folders and classes without videos, each with the number of its videos in brackets."""

    def left_out(self) -> Iterator[str]:
        """A line for each kind of file and folder that is left out."""
        classes = "train/CLASS/, val/CLASS/ or test/CLASS/"
        why = "no list names them" if self.has_lists else f"they are no videos in {classes}"
        kinds = (
            (f"for {why}", "file", self.unlisted),
            (f"in a container that is not read ({CONVERT})", "file", self.unread),
            (f"for they are no {classes} with videos", "folder", self.folders),
        )
        for told, noun, paths in kinds:
            if paths:
                yield f"left out, {told}: {plural(len(paths), noun)}: {named(paths)}"


class Reader(Protocol):
    """What the module of a data set has."""

    MODALITY: encode.Modality
    """What the papers use of its files."""

    def read(self, folder: Path) -> Listing:
        """Read the lists; raises ListError if one is missing or wrong."""
        ...


def names() -> list[str]:
    """Names of the data sets."""
    return plugins.names(__name__)


def load(name: str) -> Reader:
    """Reader of this name; raises SettingsError listing the valid names."""
    reader: Reader = plugins.load(__name__, name)
    return reader


def folder_of(folder: Path, *names: str) -> Path:
    """The first of these folders below a data set's folder, else that folder itself."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines of a list that are not blank, each after its place `PATH:NUMBER`; raises ListError if it is empty or unreadable."""
    try:
        text = files.read_text(path)
    except FileNotFoundError as error:
        raise ListError(f"{path}: is missing; give --folder the data set as it ships, with its lists") from error
    except (OSError, ValueError) as error:
        raise ListError(f"{path}: cannot be read: {error}") from error
    if not text.strip():
        raise ListError(f"{path}: is empty; {AGAIN}")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def media_below(folder: Path, root: Path, suffixes: Sequence[str]) -> list[str]:
    """Those of `files_below` with one of these extensions."""
    return [path for path in files_below(folder, root) if Path(path).suffix.lower() in suffixes]


def files_below(folder: Path, root: Path) -> list[str]:
    """Files anywhere below `root`, relative to `folder`, sorted; hidden ones are left out.

    Links to folders are followed. Raises SourceError for a folder that cannot be read.
    """
    found = []
    for place, names in walk(root) if root.is_dir() else ():
        below = Path(place).relative_to(folder)
        found += [(below / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


@dataclass(slots=True)
class FoldTable:
    """Rows collected from the lists of several folds."""

    folds: Sequence[str]
    labels: dict[str, str] = field(default_factory=dict)
    """Label of each path."""
    parts: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """Split of each path by fold."""

    def add(self, path: str, label: str, fold: str, part: str, *, place: str) -> None:
        """Note what a line at `place` says; raises ListError if a line of before says otherwise of the same fold."""
        if self.labels.setdefault(path, label) != label:
            raise ListError(f"{place}: {path} is of {label!r}, and before of {self.labels[path]!r}")
        if fold in self.parts[path]:
            raise ListError(
                f"{place}: {path} is in {fold} twice, as {self.parts[path][fold] or 'unused'} and {part or 'unused'}"
            )
        self.parts[path][fold] = part

    def rows(self, groups: Mapping[str, str]) -> tuple[Row, ...]:
        """A row for each path, with its group if it has one."""
        return tuple(
            Row(
                path=path,
                label=label,
                folds=tuple(self.parts[path].get(fold, "") for fold in self.folds),
                group=groups.get(path, ""),
            )
            for path, label in self.labels.items()
        )


def keys(rows: Sequence[Row]) -> list[str]:
    """A key for each row: the file's name without extension if it is one, else made of it.

    Other characters become `_`, and a changed or shortened name ends with eight digits of a hash. Files of one name in several
    folders, or of names that differ only in case, which are one file on some disks, have a hash of their whole paths. Raises
    ListError for two files with one key.
    """
    stems = [Path(row.path).stem for row in rows]
    count = Counter(stem.lower() for stem in stems)
    found = [
        stem
        if count[stem.lower()] == 1 and KEY.fullmatch(stem)
        else _hashed(stem, row.path if count[stem.lower()] > 1 else stem)
        for stem, row in zip(stems, rows, strict=True)
    ]
    if twice := [key for key, times in Counter(key.lower() for key in found).items() if times > 1]:
        raise ListError(f"two files have the key {named(twice)}; rename the one that is called so")
    return found


def _hashed(stem: str, what: str) -> str:
    digest = hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', stem)[: _LONGEST - 9]}-{digest}"


def check(listing: Listing) -> None:
    """Raise ListError if there are no rows, one may lie out of the folder, or training shares a group with testing."""
    if not listing.rows:
        raise ListError("the lists name no file")
    if out := [row.path for row in listing.rows if Path(row.path).is_absolute() or ".." in Path(row.path).parts]:
        raise ListError(f"the lists name {named(out)}, which may lie out of the folder")
    for place, fold in enumerate(listing.folds or ("",)):
        splits: defaultdict[str, set[str]] = defaultdict(set)
        for row in listing.rows:
            if row.group and (part := row.folds[place] if fold else row.split):
                splits[row.group].add(part)
        shared = sorted(group for group, parts in splits.items() if len(parts) > 1)
        if shared:
            where = f"{fold}: train and test" if fold else "train and test"
            raise ListError(
                f"{where} share {plural(len(shared), 'group')}, whose files were cut from the same recording, so that scores "
                f"would be too high: {named(shared)}; use the lists that ship with the data set"
            )


def named(texts: Iterable[str]) -> str:
    """Texts in one line, only the first if there are many."""
    return first_of(map(files.as_text, texts), MOST_NAMED)
