"""Which label a row of a published list has, and which class list and name a build from lists has."""

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

KINETICS = "k400"
"""The shipped list by whose labels the names of folders are read where no class list is given."""
FINGERPRINTS = "fingerprints.json"
EXAMPLES = 3
"""Class indices that an error shows."""
MAX_JSON = 1 << 20
"""Bytes of `fingerprints.json`."""


class Labels:
    """The labels that rows may have, each in one spelling."""

    def __init__(self, class_list: ClassList | None, known: Iterable[str]) -> None:
        """`known`: labels by whose spelling folders are read as well; they choose nothing."""
        self.class_list = class_list
        own = class_list.labels if class_list else ()
        self._spelt = {normal(label): label for label in own}
        self._held = frozenset(self._spelt)
        self._by_folder = {_folder(label): label for label in (*known, *own)}

    @classmethod
    def of(cls, class_list: ClassList | None, annotated: Mapping[str, Mapping[Any, Clip]] | None) -> "Labels":
        """Of a class list, where there is one; folders are read by the annotations' labels, else by those of Kinetics."""
        known = {clip.label for clips in (annotated or {}).values() for clip in clips.values()}
        return cls(class_list, known or classes.read(KINETICS).labels)

    def indexed(self, clip_list: ClipList) -> tuple[str, ...]:
        """The labels as a list's class indices count them."""
        labels = self.class_list.labels if self.class_list else ()
        return tuple(sorted(labels)) if clip_list.sorted_indices else labels

    def label(self, entry: Entry, indexed: Sequence[str], path: Path) -> str | None:
        """What a row says of its label, in the class list's spelling; None where it says nothing.

        Of several the first that the class list holds, else the first. Raises ListError for a class index that the class
        list does not have.
        """
        if entry.labels:
            spelt = [self.spelt(label) for label in entry.labels]
            return next((label for label in spelt if self.holds(label)), spelt[0])
        if entry.folder is not None:
            return self.spelt(self._by_folder.get(_folder(entry.folder), entry.folder.replace("_", " ")))
        if entry.label_index is None:
            return None
        if entry.label_index >= len(indexed):
            raise ListError(
                f"{path}:{entry.line}: class index {entry.label_index} is not one of the {len(indexed)} labels of the class "
                "list; name the class list that the indices are of with --classes"
            )
        return indexed[entry.label_index]

    def spelt(self, label: str) -> str:
        """The label as the class list spells it, else as it was met first."""
        return self._spelt.setdefault(normal(label), label)

    def holds(self, label: str) -> bool:
        """Whether a label is asked for."""
        return self.class_list is None or normal(label) in self._held


class IndexCheck:
    """What the annotations say of the clips of each class index: those that they contradict are of another class list."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[Path, int], Counter[bool]] = defaultdict(Counter)  # contradicted or not
        self._first: dict[tuple[Path, int], str] = {}

    def put(self, path: Path, index: int, clip: Clip, known: Clip, where: str) -> None:
        """Compare a clip, whose label its index in a list says, with the annotated one."""
        wrong = normal(known.label) != normal(clip.label)
        self._counts[path, index][wrong] += 1
        if wrong and (path, index) not in self._first:
            said = f"{where} is {clip.label[:100]!r} by its index, {known.label[:100]!r} by the annotations"
            self._first[path, index] = said

    def contradicted(self) -> str:
        """Examples where the annotations contradict most clips of all lists, or of one list's index more than one; else empty."""
        wrong = [each for each, counts in self._counts.items() if counts[True] > max(1, counts[False])]
        total: Counter[bool] = sum(self._counts.values(), Counter())
        if not wrong and total[True] > total[False]:
            wrong = list(self._first)
        told = [f"{self._first[each]} ({self._counts[each][True]} such rows)" for each in sorted(wrong)[:EXAMPLES]]
        return "; ".join(told)


def _folder(label: str) -> str:
    """The one form of a label and of the names of folders that are made of it."""
    return label_folder(normal(label)).replace(" ", "_")


def published_folder(clip_list: ClipList) -> Path | None:
    """The published folder that a list is a split of; None where it is none.

    A file of the Hub's cache is a link to one that is called after its bytes: its folder is where the link lies.
    """
    if clip_list.format != "published":
        return None
    for path in (clip_list.path.absolute(), clip_list.path.resolve()):
        folder = path.parent
        if folder.name == "splits" and (folder.parent / FINGERPRINTS).is_file():
            return folder.parent.resolve()
    return None


def files_of(place: str) -> tuple[Path, ...]:
    """As `lists.find`; raises ListError too where a published folder has not exactly the splits that it says it has."""
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
    """What a published folder says of itself; ListError where its `fingerprints.json` is no table."""
    path = folder / FINGERPRINTS
    try:
        found = files.read_json(path, most_bytes=MAX_JSON)
    except (OSError, ValueError) as error:
        raise ListError(
            f"{path}: cannot be read: {error}; get the folder again, or give its splits' CSVs alone"
        ) from error
    if not isinstance(found, dict):
        raise ListError(f"{path}: is no table; get the folder again, or give its splits' CSVs alone")
    return found


def stated_selection(clip_lists: Sequence[ClipList]) -> str:
    """The selection that a published folder states of all its splits, or of the one given; empty where it states none."""
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
    """The class list of the published folder that all lists are of; None where there is none."""
    folders = {published_folder(each) for each in clip_lists}
    folder = folders.pop() if len(folders) == 1 else None
    if folder is None or not (folder / "classes.txt").is_file():
        return None
    found = classes.read(str(folder / "classes.txt"))
    said = fingerprints_of(folder).get("classes")
    name = said if isinstance(said, str) and re.fullmatch(r"[\w-]{1,64}", said) else folder.name
    note = f"the class list of the published folder {folder.name}."
    if name in NOTES and classes.read(name).labels == found.labels:
        note = NOTES[name]
    return dataclasses.replace(found, name=name, note=note)


def name_of(clip_lists: Iterable[ClipList]) -> str:
    """What a build from lists is called: after their published folder, or what their files' names have in common.

    Raises ListError where that is nothing.
    """
    clip_lists = tuple(clip_lists)
    names = {(published_folder(each) or each.path.with_suffix("")).name for each in clip_lists}
    if len(names) > 1:
        names = {without_split(name) for name in names}
    if len(names) > 1 or label_folder(name := names.pop()) == "_":
        told = ", ".join(str(each.path) for each in clip_lists)
        raise ListError(f"the lists {told} have no name in common; say with --out where to build")
    return label_folder(name)
