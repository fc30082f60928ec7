"""Labels of the rows of a published list, and class list and name of a build from lists."""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetics_sounds import classes, files, lists
from kinetics_sounds.classes import NOTES, ClassList, normal
from kinetics_sounds.clip import Clip, label_folder
from kinetics_sounds.errors import ListError
from kinetics_sounds.lists import ClipList, Entry, without_split

from .. import list_origin

KINETICS = "k400"
"""Shipped class list used to interpret folder names if no class list is given."""
FINGERPRINTS = "fingerprints.json"
EXAMPLES = 3
"""Number of class indices shown in an error."""
MAX_JSON = 1 << 20
"""Maximum size of `fingerprints.json` in bytes."""


class Labels:
    """Valid labels, each in one spelling."""

    def __init__(self, class_list: ClassList | None, known: Iterable[str]) -> None:
        """`known`: labels whose spelling is used for folder names, without selecting any."""
        self.class_list = class_list
        own = class_list.labels if class_list else ()
        ids = zip(class_list.ids, own, strict=True) if class_list and class_list.ids else ()
        self._spelt = {normal(each): label for each, label in ids} | {normal(label): label for label in own}
        self._held = frozenset(self._spelt)
        self._by_folder = {_folder(label): label for label in (*known, *own)}

    @classmethod
    def of(cls, class_list: ClassList | None, annotated: Mapping[str, Mapping[Any, Clip]] | None) -> "Labels":
        """Labels of a class list, if given; folder names are spelt as in the annotations, else as in Kinetics."""
        known = {clip.label for clips in (annotated or {}).values() for clip in clips.values()}
        return cls(class_list, known or classes.read(KINETICS).labels)

    def indexed(self, clip_list: ClipList) -> tuple[str, ...]:
        """The labels in the order of a list's class indices."""
        labels = self.class_list.labels if self.class_list else ()
        return tuple(sorted(labels)) if clip_list.sorted_indices else labels

    def labels(self, entry: Entry, indexed: Sequence[str], path: Path) -> tuple[str, ...]:
        """Labels of a row, in the class list's spelling (its label for an ID); none if it has none.

        The first of the row that is in the class list comes first: it is the clip's class. The others follow as in the row,
        whether they are in the class list or not. Raises ListError for a class index outside of the class list.
        """
        if entry.labels:
            spelt = dict.fromkeys(self.spelt(label) for label in entry.labels)
            first = next(filter(self.holds, spelt), next(iter(spelt)))
            return first, *(label for label in spelt if label != first)
        if entry.folder is not None:
            return (self.spelt(self._by_folder.get(_folder(entry.folder), entry.folder.replace("_", " "))),)
        if entry.label_index is None:
            return ()
        if entry.label_index >= len(indexed):
            raise ListError(
                f"{path}:{entry.line}: class index {entry.label_index} is not one of the {len(indexed)} labels of the class "
                "list; give the class list of the indices with --classes"
            )
        return (indexed[entry.label_index],)

    def spelt(self, label: str) -> str:
        """The label as spelt in the class list, or the label of an ID there, else as first seen."""
        return self._spelt.setdefault(normal(label), label)

    def holds(self, label: str) -> bool:
        """Whether a label is requested."""
        return self.class_list is None or normal(label) in self._held


class IndexCheck:
    """Compares class indices with the annotations, to detect a list that uses another class list."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[Path, int], Counter[bool]] = defaultdict(Counter)  # contradicted or not
        self._first: dict[tuple[Path, int], str] = {}

    def put(self, path: Path, index: int, clip: Clip, known: Clip, where: str) -> None:
        """Compare the label given by a clip's class index with the annotated one."""
        wrong = normal(known.label) != normal(clip.label)
        self._counts[path, index][wrong] += 1
        if wrong and (path, index) not in self._first:
            said = f"{where} is {clip.label[:100]!r} by its index, but {known.label[:100]!r} in the annotations"
            self._first[path, index] = said

    def contradicted(self) -> str:
        """Examples if the annotations contradict most clips of all lists, or more than one clip of an index; else empty."""
        wrong = [each for each, counts in self._counts.items() if counts[True] > max(1, counts[False])]
        total: Counter[bool] = sum(self._counts.values(), Counter())
        if not wrong and total[True] > total[False]:
            wrong = list(self._first)
        told = [f"{self._first[each]} ({self._counts[each][True]} such rows)" for each in sorted(wrong)[:EXAMPLES]]
        return "; ".join(told)


def _folder(label: str) -> str:
    """Normal form of a label, and of folder names derived from it."""
    return label_folder(normal(label)).replace(" ", "_")


def published_folder(clip_list: ClipList) -> Path | None:
    """The published folder that a list is a split of; None if there is none.

    A file of the Hub's cache is a link to a file named by its hash: its folder is that of the link.
    """
    if clip_list.format != "published":
        return None
    for path in (clip_list.path.absolute(), clip_list.path.resolve()):
        folder = path.parent
        if folder.name == "splits" and (folder.parent / FINGERPRINTS).is_file():
            return folder.parent.resolve()
    return None


def origins(clip_lists: Iterable[ClipList]) -> tuple[Mapping[str, str] | None, ...]:
    """What the published folder that each list is a split of says of itself; None of a list that is of none."""
    folders = [published_folder(each) for each in clip_lists]
    said = {folder: list_origin.of_folder(folder) for folder in set(folders) if folder}
    return tuple(said[folder] if folder else None for folder in folders)


def files_of(place: str) -> tuple[Path, ...]:
    """Same as `lists.find`; also raises ListError if a published folder lacks a declared split or has further ones."""
    found = lists.find(place)
    folder = files.user_path(place)
    stated = fingerprints_of(folder).get("splits") if (folder / FINGERPRINTS).is_file() else None
    if not isinstance(stated, dict):
        return found
    names = {path.stem for path in found}
    if names != set(stated):
        there, said = (", ".join(sorted(each))[:200] or "none" for each in (names, stated))
        raise ListError(
            f"{folder}: has the splits {there}, but by its {FINGERPRINTS} {said}; get the folder again, or give its splits' "
            "CSVs one by one"
        )
    return found


def fingerprints_of(folder: Path) -> dict[str, object]:
    """Contents of a published folder's `fingerprints.json`; raises ListError if it is invalid."""
    path = folder / FINGERPRINTS
    try:
        found = files.read_json(path, most_bytes=MAX_JSON)
    except (OSError, ValueError) as error:
        raise ListError(
            f"{path}: cannot be read: {error}; get the folder again, or give its splits' CSVs alone"
        ) from error
    if not isinstance(found, dict):
        raise ListError(f"{path}: is not a table; get the folder again, or give its splits' CSVs alone")
    return found


def stated_selection(clip_lists: Sequence[ClipList]) -> str:
    """Selection fingerprint stated by a published folder, of all splits or the one given; empty if there is none."""
    folders = {published_folder(each) for each in clip_lists}
    folder = folders.pop() if len(folders) == 1 else None
    if folder is None:
        return ""
    stated = fingerprints_of(folder)
    splits = stated.get("splits")
    if isinstance(splits, dict) and len(clip_lists) == 1 and len(splits) > 1:
        of_split = splits.get(clip_lists[0].path.stem)
        stated = of_split if isinstance(of_split, dict) else {}
    elif not isinstance(splits, dict) or {each.path.stem for each in clip_lists} != set(splits):
        return ""
    found = stated.get("selection")
    return found if isinstance(found, str) else ""


def class_list_of(clip_lists: Iterable[ClipList]) -> ClassList | None:
    """Class list of the published folder that all lists belong to; None if there is none."""
    folders = {published_folder(each) for each in clip_lists}
    folder = folders.pop() if len(folders) == 1 else None
    if folder is None or not (folder / "classes.txt").is_file():
        return None
    found = classes.read(str(folder / "classes.txt"))
    said = fingerprints_of(folder).get("classes")
    name = said if isinstance(said, str) and re.fullmatch(r"[\w-]{1,64}", said) else folder.name
    note = classes.from_published(folder.name)
    if name in NOTES and classes.read(name).labels == found.labels:
        note = NOTES[name]
    return dataclasses.replace(found, name=name, note=note)


def name_of(clip_lists: Iterable[ClipList]) -> str:
    """Name of a build from lists: that of their published folder, or the common part of their file names.

    Raises ListError if there is no common part.
    """
    clip_lists = tuple(clip_lists)
    names = {(published_folder(each) or each.path.with_suffix("")).name for each in clip_lists}
    if len(names) > 1:
        names = {without_split(name) for name in names}
    if len(names) > 1 or label_folder(name := names.pop()) == "_":
        told = ", ".join(str(each.path) for each in clip_lists)
        raise ListError(f"the lists {told} have no name in common; choose a folder with --out")
    return label_folder(name)
