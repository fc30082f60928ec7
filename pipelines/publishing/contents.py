"""What a published folder holds: names of its files, and what it says of itself. Read back, every word is checked."""

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

from . import tables
from .tables import Row

SCHEMA = 1
"""Of fingerprints.json."""

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
"""Folder of the clips, where `--media` was given: clips/SPLIT/KEY.mp4."""

DOCUMENTS = (CARD, CLASSES, FINGERPRINTS, CROISSANT, CITATION, DATASHEET, LICENSE, CHANGES)
"""What every published folder has besides its splits and SHA256SUMS."""
COMMON = "common"
"""Name of the split that two sets share, and of its class list."""
OF_THE_COMMON = (CARD, CLASSES, FINGERPRINTS)
"""What a common split has of the documents."""
LISTED = ("label", "youtube_id", "time_start", "time_end", "split")
"""Columns of the common split of two lists: what Kinetics' own lists say."""
OF_THE_LIST = (CARD, CLASSES)
"""What that has of the documents."""
OF_THE_HUB = (".git", ".gitattributes", ".cache/huggingface")
"""What a folder that comes from the Hub has besides."""

MOST_BYTES = 64 << 20
"""Of each of the small files; SHA256SUMS has some 100 bytes a file."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
_SUM = re.compile(r"([0-9a-f]{64})  (.{1,500})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a published folder says of itself."""

    name: str
    version: str
    classes: str
    selection: str
    content: str
    splits: Mapping[str, Mapping[str, Any]]
    """Of each split: clips, selection, content; over its ok rows."""


def csv_path(folder: Path, split: str) -> Path:
    """The CSV of a split; a Parquet file of the same name lies beside it."""
    return folder / "splits" / f"{split}.csv"


def names(folder: Path) -> list[str]:
    """The files below a folder, by their paths in it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def is_published(folder: Path) -> bool:
    """Whether a folder says that it is a published one."""
    return (folder / FINGERPRINTS).is_file()


def splits_of(folder: Path) -> list[str]:
    """The splits whose CSVs are there."""
    return [split for split in SPLITS if csv_path(folder, split).is_file()]


def is_of_the_hub(name: str) -> bool:
    """Whether a path within a folder is what a checkout or a download from the Hub has besides."""
    return name in OF_THE_HUB or name.startswith(tuple(f"{each}/" for each in OF_THE_HUB))


def is_list(folder: Path) -> bool:
    """Whether a folder is the common split of two lists, which says nothing of what became of the clips."""
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
    """The rows of splits, each checked; raises PublishError where a CSV cannot be, or holds another split's row.

    Without `splits`, those of all that are there.
    """
    for split in splits_of(folder) if splits is None else splits:
        path = csv_path(folder, split)
        for row in tables.read_csv(path):
            if row["split"] != split:
                raise PublishError(f"{path}: {row['key']} is of the split {row['split']}")
            yield row


def read_fingerprints(folder: Path) -> Published:
    """What `fingerprints.json` says; raises PublishError where it is missing or is none."""
    path = folder / FINGERPRINTS
    try:
        document = files.read_json(path, most_bytes=MOST_BYTES)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"is not of schema {SCHEMA}")
        texts = {name: document[name] for name in ("name", "version", "classes", "selection", "content")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError("something is no text")
        if not VERSION.fullmatch(texts["version"]):
            raise ValueError(f"version {texts['version'][:40]!r} is none")
        splits = document["splits"]
        if not isinstance(splits, dict) or not set(splits) <= set(SPLITS):
            raise TypeError("splits are not those of a set")
        if not all(map(_says_a_split, splits.values())):
            raise TypeError("a split says other things than clips, selection and content")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PublishError(f"{path}: cannot be used ({error}); make the folder with ks-publish") from error
    return Published(**texts, splits=splits)


def _says_a_split(value: object) -> bool:
    kinds = {"clips": int, "selection": str, "content": str}
    return isinstance(value, dict) and {name: type(each) for name, each in value.items()} == kinds


def fingerprints_text(published: Published) -> bytes:
    """The bytes of `fingerprints.json`."""
    document = {
        "name": published.name,
        "version": published.version,
        "classes": published.classes,
        "schema": SCHEMA,
        "selection": published.selection,
        "content": published.content,
        "splits": published.splits,
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def read_sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file by its path in the folder, as SHA256SUMS says; raises PublishError where that is none."""
    path = folder / SUMS
    try:
        if path.is_symlink() or path.stat().st_size > MOST_BYTES:
            raise ValueError("is no plain file of that size")
        *lines, rest = path.read_bytes().decode("utf-8").split("\n")
        if rest:
            raise ValueError("its last line does not end")
    except (OSError, ValueError) as error:
        raise PublishError(
            f"{path}: cannot be read ({error}); put it back as it was published, or make the folder anew with another --out"
        ) from error
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _SUM.fullmatch(line)
        if not match or not _is_inside(match[2]) or match[2] in sums:
            raise PublishError(f"{path}:{number}: is no line of checksum and path within the folder: {line[:120]!r}")
        sums[match[2]] = match[1]
    return sums


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return not name.startswith("/") and "\\" not in name and all(part not in ("", ".", "..") for part in parts)


def sums_text(sums: Mapping[str, str]) -> bytes:
    """The bytes of SHA256SUMS: `sha256sum -c` reads it."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()


def read_date(folder: Path) -> str:
    """When a folder's version was published, as its Croissant says; raises PublishError where it does not say."""
    return text_of_croissant(folder, "datePublished", check=date.fromisoformat)


def text_of_croissant(folder: Path, *names: str, check: Any = str) -> str:  # noqa: ANN401 - any function of a text
    """A text of `croissant.json`, by names from outside inwards; PublishError where there is none or `check` refuses it."""
    path = folder / CROISSANT
    try:
        found = files.read_json(path, most_bytes=MOST_BYTES)
        for name in names:
            found = found[name]  # type: ignore[index]
        if not isinstance(found, str):
            raise TypeError(f"{'.'.join(names)} is no text")
        check(found)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PublishError(f"{path}: cannot be used ({error}); make the folder with ks-publish") from error
    return found
