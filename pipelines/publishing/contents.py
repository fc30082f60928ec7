"""File names of a published folder, and validated reading of its documents."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from kinetics_sounds import files
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import PublishError

from .. import list_origin
from . import tables
from .tables import Row

SCHEMA = 1
"""Schema version of fingerprints.json."""
LABELS_SCHEMA = 2
"""Schema version of that of a set whose clips have several labels: its splits have the column `labels`."""

CARD, CLASSES, FINGERPRINTS, SUMS, CROISSANT, CITATION, DATASHEET, LICENSE, CHANGES = (
    "README.md",
    "classes.txt",
    "fingerprints.json",
    "SHA256SUMS",
    "croissant.json",
    "CITATION.cff",
    "DATASHEET.md",
    "LICENSE.md",
    "CHANGES.md",
)
MEDIA = "clips"
"""Folder of the clips with `--media`: clips/SPLIT/KEY.mp4."""

DOCUMENTS = (CARD, CLASSES, FINGERPRINTS, CROISSANT, CITATION, DATASHEET, LICENSE, CHANGES)
"""Documents of every published folder, besides its splits and SHA256SUMS."""
COMMON = "common"
"""Name of the common split of two datasets, and of its class list."""
OF_THE_COMMON = (CARD, CLASSES, FINGERPRINTS)
"""Documents of a common split."""
LISTED = ("label", "youtube_id", "time_start", "time_end", "split")
"""Columns of the common split of two lists: those of Kinetics' own lists."""
OF_THE_LIST = (CARD, CLASSES)
"""Documents of the common split of two lists."""
OF_THE_HUB = (".git", ".gitattributes", ".cache/huggingface")
"""Additional files of a folder downloaded from the Hub."""

MOST_BYTES = list_origin.MAX_BYTES
"""Maximum size of each small file in bytes; SHA256SUMS has about 100 bytes per file."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
_SUM = re.compile(r"([0-9a-f]{64})  (.{1,500})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Contents of fingerprints.json."""

    name: str
    version: str
    classes: str
    selection: str
    content: str
    splits: Mapping[str, Mapping[str, Any]]
    """By split: clips, selection, content; over its ok rows."""
    several_labels: bool = False
    """Whether clips have several labels."""


def csv_path(folder: Path, split: str) -> Path:
    """Path of a split's CSV; a Parquet file of the same name is beside it."""
    return folder / "splits" / f"{split}.csv"


def names(folder: Path) -> list[str]:
    """Files below a folder, by relative path."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def is_published(folder: Path) -> bool:
    """Whether a folder is a published dataset."""
    return (folder / FINGERPRINTS).is_file()


def splits_of(folder: Path) -> list[str]:
    """Splits that have a CSV."""
    return [split for split in SPLITS if csv_path(folder, split).is_file()]


def is_of_the_hub(name: str) -> bool:
    """Whether a relative path belongs to a checkout or download from the Hub."""
    return name in OF_THE_HUB or name.startswith(tuple(f"{each}/" for each in OF_THE_HUB))


def is_list(folder: Path) -> bool:
    """Whether a folder is the common split of two lists, which has no statuses."""
    begins = f"{','.join(LISTED)}\n".encode()
    paths = [csv_path(folder, split) for split in splits_of(folder)]
    return (
        bool(paths)
        and not (folder / FINGERPRINTS).exists()
        and all(_begin(path, len(begins)) == begins for path in paths)
    )


def _begin(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def rows_of(folder: Path, splits: Iterable[str] | None = None) -> Iterator[Row]:
    """Validated rows of the given splits, or of all; raises PublishError for an invalid CSV, or a row of another split.

    Without `splits`, the CSVs must be those of the splits in `fingerprints.json`, where the folder has one.
    """
    for split in _whole_splits(folder) if splits is None else splits:
        path = csv_path(folder, split)
        for row in tables.read_csv(path):
            if row["split"] != split:
                raise PublishError(f"{path}: {row['key']} belongs to the split {row['split']}")
            yield row


def _whole_splits(folder: Path) -> list[str]:
    """Same as `splits_of`; raises PublishError if `fingerprints.json` has other splits."""
    found = splits_of(folder)
    if is_published(folder) and set(found) != set(stated := read_fingerprints(folder).splits):
        there, said = (", ".join(sorted(each)) or "none" for each in (found, stated))
        raise PublishError(f"{folder}: has the splits {there}, but by its {FINGERPRINTS} {said}; get the folder again")
    return found


def read_fingerprints(folder: Path) -> Published:
    """Read `fingerprints.json`; raises PublishError if it is missing or invalid."""
    path = folder / FINGERPRINTS
    try:
        document = files.read_json(path, most_bytes=MOST_BYTES)
        if not isinstance(document, dict) or document.get("schema") not in (SCHEMA, LABELS_SCHEMA):
            raise ValueError(f"is not of schema {SCHEMA} or {LABELS_SCHEMA}")
        texts = {name: document[name] for name in ("name", "version", "classes", "selection", "content")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError("a value is not a text")
        if not VERSION.fullmatch(texts["version"]):
            raise ValueError(f"version {texts['version'][:40]!r} is invalid")
        splits = document["splits"]
        if not isinstance(splits, dict) or not set(splits) <= set(SPLITS):
            raise TypeError("the splits are invalid")
        if not all(map(_says_a_split, splits.values())):
            raise TypeError("a split has other fields than clips, selection and content")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PublishError(f"{path}: cannot be used ({error}); make the folder with ks-publish") from error
    return Published(**texts, splits=splits, several_labels=document["schema"] == LABELS_SCHEMA)


def _says_a_split(value: object) -> bool:
    kinds = {"clips": int, "selection": str, "content": str}
    return isinstance(value, dict) and {name: type(each) for name, each in value.items()} == kinds


def fingerprints_text(published: Published) -> bytes:
    """Contents of `fingerprints.json`."""
    document = {
        "name": published.name,
        "version": published.version,
        "classes": published.classes,
        "schema": LABELS_SCHEMA if published.several_labels else SCHEMA,
        "selection": published.selection,
        "content": published.content,
        "splits": published.splits,
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by relative path, from SHA256SUMS; raises PublishError if it is invalid."""
    path = folder / SUMS
    try:
        if path.is_symlink() or path.stat().st_size > MOST_BYTES:
            raise ValueError("is not a plain file of that size")
        *lines, rest = path.read_bytes().decode("utf-8").split("\n")
        if rest:
            raise ValueError("its last line does not end")
    except (OSError, ValueError) as error:
        raise PublishError(
            f"{path}: cannot be read ({error}); restore the published version, or rebuild the folder with another --out"
        ) from error
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _SUM.fullmatch(line)
        if not match or not _is_inside(match[2]) or match[2] in sums:
            raise PublishError(f"{path}:{number}: is not a checksum and a path within the folder: {line[:120]!r}")
        sums[match[2]] = match[1]
    return sums


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return not name.startswith("/") and "\\" not in name and all(part not in ("", ".", "..") for part in parts)


def sums_text(sums: Mapping[str, str]) -> bytes:
    """Contents of SHA256SUMS, in the format of `sha256sum -c`."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()


def read_date(folder: Path) -> str:
    """Publication date of a folder's version, from its Croissant; raises PublishError if missing."""
    return text_of_croissant(folder, "datePublished", check=date.fromisoformat)


def text_of_croissant(folder: Path, *names: str, check: Any = str) -> str:  # noqa: ANN401 - any function of a text
    """A text value of `croissant.json`, by its path of names; raises PublishError if missing or rejected by `check`."""
    path = folder / CROISSANT
    try:
        found = files.read_json(path, most_bytes=MOST_BYTES)
        for name in names:
            found = found[name]  # type: ignore[index]
        if not isinstance(found, str):
            raise TypeError(f"{'.'.join(names)} is not a text")
        check(found)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PublishError(f"{path}: cannot be used ({error}); make the folder with ks-publish") from error
    return found
