"""DCASE scene classification of 2016 and later (TUT, TAU): scenes, folds, sounds alone.

`meta.txt` or `meta.csv` (`audio/FILE.wav TAB SCENE TAB RECORDING`) and, for each fold, `evaluation_setup/fold1_train.txt`
(`audio/FILE.wav TAB SCENE`) and `fold1_evaluate.txt` (the same) or `fold1_test.txt` (`audio/FILE.wav`), or `.csv`, with or
without a header; a list in both forms has to be the same in both. The group is the place or recording, where `meta` names it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import ListError
from ..media.encode import Modality
from . import AGAIN, FoldTable, Listing, lines, media_below

MODALITY: Modality = "audio"
_LIST = re.compile(r"(?P<fold>fold[1-9][0-9]?)_(train|test|evaluate)\.(txt|csv)")


def read(folder: Path) -> Listing:
    """Read scenes, folds and groups; raises ListError if a list is missing or wrong."""
    setup = folder / "evaluation_setup"
    found = [match for path in setup.glob("fold*") if (match := _LIST.fullmatch(path.name))]
    folds = sorted({match["fold"] for match in found}, key=lambda fold: int(fold.removeprefix("fold")))
    if not folds:
        raise ListError(
            f"{setup}: has no fold1_train.txt or .csv; give --folder the data set with its evaluation_setup"
        )
    scenes: dict[str, str] = {}
    groups: dict[str, str] = {}
    for place, (name, *cells) in _rows(_first(folder / "meta.txt", folder / "meta.csv")):
        if not cells or name in scenes:
            raise ListError(f"{place}: {name} has no scene, or is in the list twice")
        scenes[name] = cells[0]
        if len(cells) > 1:
            groups[name] = cells[1]
    table = FoldTable(folds)
    for fold in folds:
        for part, whats in (("train", ("train",)), ("test", ("evaluate", "test"))):
            for place, (name, *cells) in _agreed(*(setup / f"{fold}_{what}" for what in whats)):
                if name not in scenes or (cells and cells[0] != scenes[name]):
                    raise ListError(f"{place}: {name} is not in meta, or of another scene there")
                table.add(name, scenes[name], fold, part, place=place)
    there = media_below(folder, folder / "audio", (".wav",))
    return Listing(
        labels=tuple(sorted(set(table.labels.values()))),
        rows=table.rows(groups),
        folds=tuple(folds),
        unlisted=tuple(path for path in there if path not in table.labels),
    )


def _agreed(*paths: Path) -> list[tuple[str, list[str]]]:
    """Rows of the first of these lists (paths without .txt or .csv) that there is.

    Raises ListError if its forms differ, or name no sound.
    """
    forms = next((there for path in paths if (there := _forms(path))), [paths[0].with_suffix(".txt")])
    first, *others = (list(_rows(form)) for form in forms)
    for form, other in zip(forms[1:], others, strict=True):
        if sorted(cells for _, cells in other) != sorted(cells for _, cells in first):
            raise ListError(f"{form}: lists other sounds or labels than {forms[0]}; delete the one that is wrong")
    if not first:
        raise ListError(f"{forms[0]}: names no sound; {AGAIN}")
    return first


def _forms(path: Path) -> list[Path]:
    return [form for suffix in (".txt", ".csv") if (form := path.with_suffix(suffix)).is_file()]


def _first(*paths: Path) -> Path:
    """The first of these lists that exists, else the first."""
    return next((path for path in paths if path.is_file()), paths[0])


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Cells of each row but the header, after its place; raises ListError for a name that is not in the folder `audio`."""
    for place, line in lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        if cells[0] == "filename":
            continue
        if not re.fullmatch(r"audio/[^/]+\.wav", cells[0]):
            raise ListError(f"{place}: {cells[0]!r} is not audio/FILE.wav")
        yield place, cells
