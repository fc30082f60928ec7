"""Published lists of clips: one file per format, detected from the first lines of a list."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from .. import files, plugins
from ..annotations import SPLIT_NAMES
from ..errors import ListError
from ..list_entry import (
    MEDIA,
    YOUTUBE_ID_LENGTH,
    Entry,
    each_line,
    entry,
    header,
    label_named,
    parse_name,
    read_lines,
    read_table,
    says_where,
    seconds,
    split_named,
    table,
)

__all__ = [  # the formats take from here what they read rows with
    "MEDIA",
    "YOUTUBE_ID_LENGTH",
    "ClipList",
    "Entry",
    "Format",
    "each_line",
    "entry",
    "find",
    "formats",
    "header",
    "label_named",
    "lines",
    "parse_name",
    "read",
    "read_lines",
    "read_table",
    "recognise",
    "says_where",
    "seconds",
    "split_named",
    "split_of",
    "table",
    "without_split",
]

MAX_ROWS = 5_000_000
"""Maximum number of rows of a list; AudioSet, the largest in use, has two million."""
MAX_BYTES = 2 << 30
"""Maximum size of a list in bytes."""
MAX_LINE = 1 << 16
"""Maximum length of a line in characters."""
SAMPLE_LINES = 40
"""Number of lines used to detect the format."""
SPLIT_WORDS = SPLIT_NAMES | {"training": "train", "valid": "val", "testing": "test", "eval": "test"}
"""Split that a word in the file name stands for; AudioSet calls its test split "eval"."""
_SPLIT_WORD = re.compile(rf"(?i)[_\-. ]*(?<![a-z])({'|'.join(SPLIT_WORDS)})(?![a-z])")
_PICKLE = "holds or may hold a pickle, which can run any program when it is read: it is not opened"
_NOT_TEXT = (
    (b"\x93NUMPY", f"is a NumPy file, which {_PICKLE}"),
    (b"PK\x03\x04", f"is a zip archive, which {_PICKLE}"),
    (b"\x80", f"is a pickle: it {_PICKLE}"),
    (b"(dp0", f"is a pickle: it {_PICKLE}"),
    (b"(lp0", f"is a pickle: it {_PICKLE}"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"PAR1", "is a Parquet file; give the CSV beside it"),
)
"""First bytes of files that are not lists, and the reason in the error."""


class Format(Protocol):
    """Interface of a module of this package."""

    SHAPE: str
    """Form of a row, shown in messages and --help."""
    SORTED: bool
    """Whether class indices count the sorted labels of the class list instead of its own order."""

    @staticmethod
    def fits(lines: Sequence[str]) -> bool:
        """Whether a list has this format, by its first lines; accepts only what `read` can read."""

    @staticmethod
    def read(lines: Iterable[str]) -> Iterator[Entry]:
        """Yield the entries row by row. Raises ValueError or csv.Error if the text does not have this format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipList:
    """A list of clips in a file."""

    path: Path
    format: str
    """Name of the format's module."""
    split: str = ""
    """Split named in the file name; empty if there is none, or more than one."""

    @property
    def sorted_indices(self) -> bool:
        """Same as `Format.SORTED`."""
        return _format(self.format).SORTED


def formats() -> dict[str, str]:
    """Form of a row by format name."""
    return {name: _format(name).SHAPE for name in plugins.names(__name__)}


def _format(name: str) -> Format:
    return cast("Format", plugins.load(__name__, name))


def find(place: str) -> tuple[Path, ...]:
    """Files of a list: the file itself, or the CSVs of a published folder's splits; raises ListError if there are none."""
    if place.startswith(("http://", "https://", "hf://", "s3://", "gs://")):
        raise ListError(f"--clips {place}: is a URL; download the list and give its path")
    path = files.user_path(place)
    if not path.is_dir():
        return (path,)
    splits = sorted((path / "splits").glob("*.csv"))
    if not splits:
        raise ListError(
            f"--clips {path}: is a folder without splits/*.csv, so not a published one; give the file of a list"
        )
    return tuple(splits)


def recognise(path: Path, *, name: str = "") -> ClipList:
    """Detect the format of a list from its first lines, or check that it is the format `name`.

    Raises ListError if no format or several match, if `name` does not, or if the file is not text.
    """
    sample = list(itertools.islice((line for line in lines(path) if line.strip()), SAMPLE_LINES))
    if not sample:
        raise ListError(f"{path}: the list is empty")
    fitting = [each for each in ((name,) if name else plugins.names(__name__)) if _format(each).fits(sample)]
    if len(fitting) == 1:
        return ClipList(path=path, format=fitting[0], split=split_of(path))
    if len(fitting) > 1:
        raise ListError(f"{path}: may be of several formats: {', '.join(fitting)}; choose with --clips_format")
    shown = sample[0].strip()[:100]
    if name:
        raise ListError(
            f"{path}: does not have --clips_format {name}: it begins with {shown!r}, not {_format(name).SHAPE}"
        )
    mark = files.other_separator(sample[0])
    hint = f" (are its columns separated by {mark!r}? save it with commas)" if mark else ""
    told = "".join(f"\n  {each}: {shape}" for each, shape in formats().items())
    raise ListError(f"{path}: has an unknown format: it begins with {shown!r}{hint}; the formats are:{told}")


def split_of(path: Path) -> str:
    """Split named in a file name; empty if there is none, or more than one."""
    words = re.split(r"[^a-z]+", path.stem.lower())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else ""


def without_split(name: str) -> str:
    """File name without the words for its split, so that the lists of one dataset have the same name."""
    return _SPLIT_WORD.sub("", name).strip("_-. ")


def read(clip_list: ClipList) -> Iterator[Entry]:
    """Yield the entries of a list. Raises ListError with the line number if the text does not have its format."""
    count = 0
    counted = _Counted(lines(clip_list.path))
    try:
        for entry in _format(clip_list.format).read(counted):
            count += 1
            if count > MAX_ROWS:
                raise ListError(f"{clip_list.path}: has more than {MAX_ROWS} rows; split it")
            yield entry
    except (ValueError, csv.Error) as error:
        raise ListError(
            f"{clip_list.path}:{counted.number}: is not a row of the format {clip_list.format} "
            f"({_format(clip_list.format).SHAPE}): {error}; fix or remove the row"
        ) from error


class _Counted(Iterator[str]):
    """Iterator of lines that counts them."""

    def __init__(self, rows: Iterator[str]) -> None:
        self.rows, self.number = rows, 0

    def __next__(self) -> str:
        line = next(self.rows)
        self.number += 1
        return line


def lines(path: Path) -> Iterator[str]:
    """Lines of a list's file, each ended by a single newline; raises ListError if it is not text.

    UTF-8, with or without a byte order mark. Blanks at the end of a line are removed: after a quoted cell they would be invalid
    CSV.
    """
    try:
        if path.is_fifo():  # which ends before it is read a second time
            raise ListError(f"{path}: {files.PIPE}")
        if not path.is_file():
            raise ListError(f"{path}: there is no such list of clips; give a file with --clips")
        if path.stat().st_size > MAX_BYTES:
            raise ListError(f"{path}: is larger than {MAX_BYTES >> 30} GiB; split it")
        with path.open("rb") as file:
            _check_text(path, file.read(8))
        with path.open(encoding="utf-8-sig", newline="") as text:
            while line := text.readline(MAX_LINE):
                if len(line) == MAX_LINE and line[-1] not in "\r\n":
                    raise ListError(
                        f"{path}: has a line of more than {MAX_LINE} characters; this is not a list of clips"
                    )
                yield line.rstrip() + "\n"
    except OSError as error:
        raise ListError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ListError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def _check_text(path: Path, head: bytes) -> None:
    for begin, why in _NOT_TEXT:
        if head.startswith(begin):
            raise ListError(f"{path}: {why}")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or 0 in head:
        raise ListError(f"{path}: is UTF-16 or not text; save it as UTF-8")
