"""Read a class list: a path, or the name of a shipped list."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from . import files, plugins
from .errors import ClassListError
from .quantities import first_lines, first_of, plural

NOTES = {
    "k31": "31 labels: the list of AdaMML and OGM-GE, without 'strumming guitar'.",
    "k32": "32 labels: the papers say 34 because the 2017 list has 34 names, of which two (typing, patting) "
    "have no Kinetics-400 label.",
    "k100": "a reconstruction: K100's list was never published. The 32 labels of K32 and six that the paper names are "
    "facts, the other 62 are our proposal (each row of k100.csv is marked).",
    "k400": "the 400 labels of Kinetics-400.",
}
"""What users of a shipped list should know about it."""
LEAST_LETTERS = 7
"""Shorter labels are not compared: `Stream` and `Steam` are two classes."""


@dataclass(frozen=True, slots=True)
class ClassList:
    """Labels in order; the position of a label is its `label_index`."""

    name: str
    """Stem of the file name: `k100`, or that of the user's own file."""
    labels: tuple[str, ...]
    note: str = ""
    """What users of a shipped list should know; else empty."""
    ids: tuple[str, ...] = ()
    """IDs that lists of clips have instead of the labels, in their order, such as AudioSet's `/m/09x0r`; empty if none."""


def _shipped() -> dict[str, str]:
    folder = resources.files("kinetics_sounds.manifests") / "classes"
    files = [file for file in folder.iterdir() if file.name.endswith(".txt")]
    return {file.name.removesuffix(".txt"): file.read_text("utf-8") for file in sorted(files, key=lambda f: f.name)}


def read(source: str) -> ClassList:
    """Read the class list at a path, else the shipped one of that name (`k100` and `k100.txt` are the same).

    One label per line, UTF-8; blank lines and text after `#` are ignored. Or AudioSet's `class_labels_indices.csv`, with the
    columns `index`, `mid` and `display_name`, whose display names are the labels; it may have fewer rows. Raises ClassListError
    for a list that is missing, empty or not UTF-8, or has wrong rows or labels twice, each on a line of its own.
    """
    path = files.user_path(source)
    name = path.name.removesuffix(".txt")
    note = ""
    if path.is_file():
        try:
            text = files.read_text(path)
        except (OSError, ValueError) as error:
            raise ClassListError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    else:
        shipped = _shipped()
        if str(path.parent) != "." or name not in shipped:
            hint = plugins.nearest(name, shipped)
            raise ClassListError(
                f"{source}: there is no such class list; give a text file with one Kinetics label per line, "
                f"or one of the shipped names: {', '.join(shipped)}{hint}"
            )
        text, note = shipped[name], NOTES[name]
    is_table = _is_audioset(text)
    seen: dict[str, int] = {}
    labels, ids, wrong = list[str](), list[str](), list[str]()
    for number, label, mid in _rows_of_audioset(source, text, wrong) if is_table else _lines(text):
        for each in filter(None, (label, mid)):
            if (before := seen.setdefault(normal(each), number)) != number:
                wrong.append(f"{source}:{number}: label {each!r} is already on line {before}; remove one")
        labels.append(label)
        ids.append(mid)
    if wrong:
        raise ClassListError(first_lines(wrong))
    if not labels:
        raise ClassListError(f"{source}: the class list is empty; write one Kinetics label per line")
    return ClassList(path.stem if is_table else name, tuple(labels), note, ids=tuple(ids) if is_table else ())


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, label and an empty ID of each line with a label."""
    for number, line in enumerate(text.splitlines(), start=1):
        if label := line.partition("#")[0].strip():
            yield number, label, ""


def _is_audioset(text: str) -> bool:
    """Whether a text is AudioSet's table of its labels, by its first line."""
    header = text.partition("\n")[0]
    return [name.strip() for name in header.split(",")] == ["index", "mid", "display_name"]


def _rows_of_audioset(source: str, text: str, wrong: list[str]) -> Iterator[tuple[int, str, str]]:
    """Line number, display name and mid of each row; what is invalid is added to `wrong`."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    next(rows)
    last = -1
    try:
        for row in filter(None, rows):
            index, mid, label = (cell.strip() for cell in row) if len(row) == 3 else ("", "", "")
            if not (index.isdecimal() and int(index) > last and mid and label and label.isprintable()):
                told = "is not a row index,mid,display_name, the indices ascending"
                wrong.append(f"{source}:{rows.line_num}: {','.join(row)[:100]!r} {told}; fix the row")
                continue
            last = int(index)
            yield rows.line_num, label, mid
    except csv.Error as error:
        wrong.append(f"{source}:{rows.line_num}: is not a CSV: {error}")


def shipped_note(note: str) -> str:
    """The note, if it is that of a shipped list, else empty: another note may name files of somebody's machine."""
    return note if note in NOTES.values() else ""


FROM_PUBLISHED = "from the published folder "
"""Begin of the note of the class list of a published folder."""


def from_published(folder: str) -> str:
    """Note of the class list of a published folder, by the folder's name."""
    return f"{FROM_PUBLISHED}{folder}"


def normal(label: str) -> str:
    """A label in Unicode normalisation form NFC, for comparisons."""
    return unicodedata.normalize("NFC", label)


def nearly_same(labels: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of labels that may be one: the first lacks a letter within the second, or has two neighbouring ones swapped.

    Labels with digits are numbers or codes. A changed letter makes another class in Kinetics (`shaving head`, `shaking head`).
    """
    words = [label for label in labels if len(label) >= LEAST_LETTERS and not re.search(r"\d", label)]
    known, found = set(words), dict[frozenset[str], tuple[str, str]]()
    for label in words:
        for slip in _slips(label):
            if slip in known and slip != label:
                found.setdefault(frozenset((slip, label)), (slip, label))
    return list(found.values())


def _slips(label: str) -> Iterator[str]:
    """The label without one of the small letters within it, and with each two neighbouring ones swapped."""
    for place in range(1, len(label) - 1):
        if label[place].islower():
            yield label[:place] + label[place + 1 :]
            if label[place + 1].islower():
                yield label[:place] + label[place + 1] + label[place] + label[place + 2 :]


def nearly_same_text(clips: Mapping[str, int]) -> str:
    """Which of the classes, by their numbers of clips, have nearly the same name; empty if there are none."""
    pairs = (
        " and ".join(f"{label!r} ({plural(clips[label], 'clip')})" for label in pair) for pair in nearly_same(clips)
    )
    told = first_of(pairs)
    return told and f"classes with nearly the same name: {told}"
