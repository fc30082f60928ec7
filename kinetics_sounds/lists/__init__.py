"""Published lists of clips: one file a format, found by what the first lines of a list look like."""

import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar, cast

from .. import files, plugins
from ..annotations import SPLIT_NAMES
from ..clip import YOUTUBE_ID, parse_key
from ..errors import ListError

G = TypeVar("G")

MAX_ROWS = 5_000_000
"""Of one list; AudioSet, the largest in use, has two million."""
MAX_BYTES = 2 << 30
"""Of one list."""
MAX_LINE = 1 << 16
"""Characters of one line."""
SAMPLE_LINES = 40
"""Lines by which a format is recognised."""
YOUTUBE_ID_LENGTH = 11

MEDIA = (".mp4", ".avi", ".mkv", ".webm", ".mov")
"""How the name of a video file ends."""
_OTHER_FILES = (".wav", ".npy", ".flac", ".jpg")
_SPLIT_WORDS = SPLIT_NAMES | {"training": "train", "valid": "val", "testing": "test", "eval": "test"}
"""What the words of a file's name say of its split; AudioSet calls its test split "eval"."""
_SPLIT_WORD = re.compile(rf"(?i)[_\-. ]*(?<![a-z])({'|'.join(_SPLIT_WORDS)})(?![a-z])")
_STARTED = re.compile(rf"({YOUTUBE_ID.pattern})_([0-9]{{1,6}})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_PICKLE = "holds or may hold a pickle, which can run any program when it is read: it is never opened"
_NOT_TEXT = (
    (b"\x93NUMPY", f"is a NumPy file, which {_PICKLE}"),
    (b"PK\x03\x04", f"is a zip archive, which {_PICKLE}"),
    (b"\x80", f"is a pickle: it {_PICKLE}"),
    (b"(dp0", f"is a pickle: it {_PICKLE}"),
    (b"(lp0", f"is a pickle: it {_PICKLE}"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"PAR1", "is a Parquet file; give the CSV that lies beside it"),
)
"""How files begin that are no list, and why they are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a list: what it says of a clip; None for what it does not say."""

    line: int
    """On which the row ends, from 1."""
    name: str
    """What messages call it: as the list has it."""
    youtube_id: str
    time_start: int | None = None
    """Whole seconds into the video."""
    time_end: int | None = None
    """Whole seconds into the video."""
    labels: tuple[str, ...] = ()
    """The label; where there are several, the class list chooses the first that it holds."""
    folder: str | None = None
    """The label as the name of a folder, which has underscores in place of blanks."""
    label_index: int | None = None
    """The label's place in the class list, as the format counts (`Format.SORTED`)."""
    split: str | None = None
    status: str | None = None
    """What became of the clip at whoever published the list."""
    trouble: str = ""
    """Why the row names no clip; empty where it does."""


class Format(Protocol):
    """A module of this package."""

    SHAPE: str
    """A row of it, as messages and --help show it."""
    SORTED: bool
    """Class indices count the sorted labels of the class list, not the labels in its own order."""

    @staticmethod
    def fits(lines: Sequence[str]) -> bool:
        """Whether a list is of this format, by its first lines; accepts only what `read` can read."""

    @staticmethod
    def read(lines: Iterable[str]) -> Iterator[Entry]:
        """The rows, read one after another. Raises ValueError or csv.Error where the text is none of this format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipList:
    """A file that names clips."""

    path: Path
    format: str
    """The name of its module."""
    split: str = ""
    """The split that the file's name tells; empty where it tells none, or several."""

    @property
    def sorted_indices(self) -> bool:
        """As `Format.SORTED`."""
        return _format(self.format).SORTED


def formats() -> dict[str, str]:
    """Each format's name with the shape of its rows."""
    return {name: _format(name).SHAPE for name in plugins.names(__name__)}


def _format(name: str) -> Format:
    return cast("Format", plugins.load(__name__, name))


def find(place: str) -> tuple[Path, ...]:
    """The files of a list: the file itself, or the CSVs of a published folder's splits; ListError where there is none."""
    if place.startswith(("http://", "https://", "hf://", "s3://", "gs://")):
        raise ListError(f"--clips {place}: is a URL; download the list and give its path")
    path = files.user_path(place)
    if not path.is_dir():
        return (path,)
    splits = sorted((path / "splits").glob("*.csv"))
    if not splits:
        raise ListError(
            f"--clips {path}: is a folder without splits/*.csv, which a published one has; give a list's file"
        )
    return tuple(splits)


def recognise(path: Path, *, name: str = "") -> ClipList:
    """Find a list's format by its first lines; `name` insists on one.

    Raises ListError where no format fits or several do, where the one insisted on does not, and where the file is no text.
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
            f"{path}: is no list of --clips_format {name}: it begins with {shown!r}, not {_format(name).SHAPE}"
        )
    mark = files.other_separator(sample[0])
    hint = f" (are its columns separated by {mark!r}? save it with commas)" if mark else ""
    told = "".join(f"\n  {each}: {shape}" for each, shape in formats().items())
    raise ListError(f"{path}: is of no known format: it begins with {shown!r}{hint}; the formats are:{told}")


def split_of(path: Path) -> str:
    """The split that a file's name tells by one of its words; empty where it tells none, or several."""
    words = re.split(r"[^a-z]+", path.stem.lower())
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    return found.pop() if len(found) == 1 else ""


def without_split(name: str) -> str:
    """A file's name without the words that tell its split, by which the lists of one set are called alike."""
    return _SPLIT_WORD.sub("", name).strip("_-. ")


def read(clip_list: ClipList) -> Iterator[Entry]:
    """The rows of a list, one after another. Raises ListError with the line where the text is not of its format."""
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
            f"{clip_list.path}:{counted.number}: is no row of the format {clip_list.format} "
            f"({_format(clip_list.format).SHAPE}): {error}; mend or remove the row"
        ) from error


class _Counted(Iterator[str]):
    """Lines, and the number of the last one that was taken."""

    def __init__(self, rows: Iterator[str]) -> None:
        self.rows, self.number = rows, 0

    def __next__(self) -> str:
        line = next(self.rows)
        self.number += 1
        return line


def lines(path: Path) -> Iterator[str]:
    """The lines of a list's file, in UTF-8 with or without a mark, each ended by a newline alone; ListError for what is no text.

    Blanks at the end of a line are left out: behind a quoted cell they would be no CSV.
    """
    try:
        if not path.is_file():
            raise ListError(f"{path}: there is no such list of clips; give a file with --clips")
        if path.stat().st_size > MAX_BYTES:
            raise ListError(f"{path}: is larger than {MAX_BYTES >> 30} GiB; split it")
        with path.open("rb") as file:
            _check_text(path, file.read(8))
        with path.open(encoding="utf-8-sig", newline="") as text:
            while line := text.readline(MAX_LINE):
                if len(line) == MAX_LINE and line[-1] not in "\r\n":
                    raise ListError(f"{path}: has a line of more than {MAX_LINE} characters; this is no list of clips")
                yield line.rstrip() + "\n"
    except OSError as error:
        raise ListError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ListError(f"{path}: is no UTF-8 text ({error.reason}); save it as UTF-8") from error


def _check_text(path: Path, head: bytes) -> None:
    for begin, why in _NOT_TEXT:
        if head.startswith(begin):
            raise ListError(f"{path}: {why}")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or 0 in head:
        raise ListError(f"{path}: is UTF-16 or no text at all; save it as UTF-8")


def each_line(rows: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, without the blanks around them, and their numbers from 1."""
    for number, line in enumerate(rows, start=1):
        if text := line.strip():
            yield number, text


def header(line: str) -> list[str]:
    """The columns that the first line of a CSV names; none where it is no CSV."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True), [])]
    except csv.Error:
        return []


def table(rows: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV with a header, by column, with the line that each ends on; blank rows are left out.

    A cell is without the blanks around it, and as it was before it was made harmless for a spreadsheet. A row of too many or
    too few cells has the key "" with the reason.
    """
    cells = csv.reader(rows, strict=True)
    names: list[str] = []
    for row in cells:
        if not any(cell.strip() for cell in row):
            continue
        if not names:
            names = [cell.strip() for cell in row]
            continue
        found = dict(zip(names, (files.from_people(cell.strip()) for cell in row), strict=False))
        if len(row) != len(names):
            many = (
                'many cells (a label that holds a comma must stand in "quotes")'
                if len(row) > len(names)
                else "few cells"
            )
            found[""] = f"the row has too {many}"
        yield cells.line_num, found


def whole(row: Mapping[str, str]) -> Mapping[str, str]:
    """A row of `table`; raises ValueError where it has too many or too few cells."""
    if "" in row:
        raise ValueError(row[""])
    return row


def parse_name(name: str) -> tuple[str, int | None, int | None]:
    """Video id, start and end in seconds of a clip's name: a key, `{id}_{start}`, or the id alone.

    The name may be a path and end like a file's. What has the length of an id is one, whatever digits it ends with. Raises
    ValueError for what is none of the three.
    """
    last = PurePosixPath(name).name
    for suffix in (*MEDIA, *_OTHER_FILES):
        last = last.removesuffix(suffix)
    if key := parse_key(last):
        return key
    if len(last) != YOUTUBE_ID_LENGTH and (match := _STARTED.fullmatch(last)):
        return match[1], int(match[2]), None
    if not YOUTUBE_ID.fullmatch(last):
        raise ValueError(f"{name!r} is no clip's name")
    return last, None, None


def says_where(name: str) -> bool:
    """Whether a text is a clip's name that more than any word would be: with a start, or as long as a video id."""
    try:
        youtube_id, start, _ = parse_name(name)
    except ValueError:
        return False
    return start is not None or len(youtube_id) == YOUTUBE_ID_LENGTH


def seconds(text: str | None) -> int | None:
    """Whole seconds, written with or without zeros after a point; None for a blank cell; ValueError for others."""
    stripped = (text or "").strip()
    if not stripped:
        return None
    value = float(stripped)
    if not 0 <= value <= 999_999 or not value.is_integer():
        raise ValueError(f"{stripped!r} is no whole number of seconds")
    return int(value)


def split_named(text: str | None) -> str | None:
    """train, val or test; None for a blank cell; ValueError for what is no split."""
    word = (text or "").strip().lower()
    if word and word not in SPLIT_NAMES:
        raise ValueError(f"split {word!r} is none of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES.get(word)


def label_named(text: str | None) -> tuple[str, ...]:
    """The label of a cell, or none for a blank cell; ValueError for one with a line end or another control character."""
    label = (text or "").strip()
    if _CONTROL.search(label):
        raise ValueError(f"label {label!r} has a line end or another control character in it")
    return (label,) if label else ()


def entry(make: Callable[[int, G], Entry], line: int, given: G, *, name: str) -> Entry:
    """What `make(line, given)` gives; where it raises ValueError, a row that names no clip, with the reason."""
    try:
        made = make(line, given)
        if not YOUTUBE_ID.fullmatch(made.youtube_id):
            raise ValueError(f"{made.youtube_id!r} is no video id (letters, digits, '_' and '-')")
        if made.time_start is not None and made.time_end is not None and made.time_start >= made.time_end:
            raise ValueError(f"{made.time_start} to {made.time_end} is no span of seconds")
    except ValueError as error:
        return Entry(line=line, name=name, youtube_id="", trouble=str(error))
    return made
