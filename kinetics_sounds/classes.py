"""Read a class list: a path, else the name of a shipped one."""

import unicodedata
from dataclasses import dataclass
from importlib import resources

from . import files, plugins
from .errors import ClassListError

NOTES = {
    "k31": "31 labels: the list of AdaMML and OGM-GE, without 'strumming guitar'.",
    "k32": "32 labels: the papers say 34 because the 2017 list has 34 names, of which two (typing, patting) "
    "have no Kinetics-400 label.",
    "k100": "a reconstruction: K100's list was never published. The 32 labels of K32 and six that the paper names are "
    "facts, the other 62 are our proposal (each row of k100.csv is marked).",
    "k400": "the 400 labels of Kinetics-400.",
}
"""What a user of a shipped list must know."""


@dataclass(frozen=True, slots=True)
class ClassList:
    """Labels in order; a label's place is its `label_index`."""

    name: str
    """The file's stem: `k100`, or what the user's own file is called."""
    labels: tuple[str, ...]
    note: str = ""
    """What a user of a shipped list must know."""


def _shipped() -> dict[str, str]:
    folder = resources.files("kinetics_sounds.manifests") / "classes"
    files = [file for file in folder.iterdir() if file.name.endswith(".txt")]
    return {file.name.removesuffix(".txt"): file.read_text("utf-8") for file in sorted(files, key=lambda f: f.name)}


def read(source: str) -> ClassList:
    """The class list at a path, else the shipped one of that name (`k100` and `k100.txt` alike).

    One Kinetics label a line, UTF-8; blank lines and what follows `#` are ignored. Raises ClassListError
    for a list that is missing, empty, not UTF-8, or names a label twice.
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
                f"{source}: there is no such class list; give a text file with one Kinetics label a line, "
                f"or one of the shipped names: {', '.join(shipped)}{hint}"
            )
        text, note = shipped[name], NOTES[name]
    seen: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        label = line.partition("#")[0].strip()
        if not label:
            continue
        before, _ = seen.setdefault(normal(label), (number, label))
        if before != number:
            raise ClassListError(f"{source}:{number}: label {label!r} stands on line {before} already; remove one")
    if not seen:
        raise ClassListError(f"{source}: the class list is empty; write one Kinetics label a line")
    return ClassList(name, tuple(label for _, label in seen.values()), note)


def shipped_note(note: str) -> str:
    """The note itself where it is a shipped list's, else none: another may name whatever lies on somebody's machine."""
    return note if note in NOTES.values() else ""


def normal(label: str) -> str:
    """The one form of a label that Unicode can write in several ways, to compare it by."""
    return unicodedata.normalize("NFC", label)
