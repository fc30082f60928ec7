"""HMDB51: 51 actions, three folds, pictures alone.

`hmdb51_org/CLASS/FILE.avi`, or the class folders themselves, and `testTrainMulti_7030_splits/CLASS_test_split1.txt` to `3`, whose
lines are `FILE.avi 1` (training), `2` (testing) or `0` (neither). Class indices are alphabetical.
"""

import re
from pathlib import Path

from ..errors import ListError
from ..media.encode import Modality
from . import AGAIN, FoldTable, Listing, folder_of, lines, media_below

MODALITY: Modality = "video"
FOLDS = ("fold1", "fold2", "fold3")
_PARTS = {"0": "", "1": "train", "2": "test"}
_LIST = re.compile(r"(?P<label>.+)_test_split(?P<fold>[123])\.txt")


def read(folder: Path) -> Listing:
    """Read classes and folds; raises ListError if a list is missing or wrong."""
    lists = folder_of(folder, "testTrainMulti_7030_splits", "test_train_splits")
    videos = folder_of(folder, "hmdb51_org", "videos")
    below = videos.relative_to(folder)
    found = sorted(match["label"] for path in lists.glob("*.txt") if (match := _LIST.fullmatch(path.name)))
    labels = tuple(dict.fromkeys(found))
    if not labels:
        raise ListError(f"{lists}: has no CLASS_test_split1.txt; give --folder the data set with its split files")
    table = FoldTable(FOLDS)
    for label in labels:
        for number, fold in enumerate(FOLDS, start=1):
            for place, line in lines(lists / f"{label}_test_split{number}.txt"):
                name, _, code = line.rpartition(" ")
                name = name.strip()
                if code not in _PARTS or not name or "/" in name:
                    raise ListError(f"{place}: {line!r} is not FILE.avi and 0, 1 or 2")
                table.add((below / label / name).as_posix(), label, fold, _PARTS[code], place=place)
    for number, fold in enumerate(FOLDS, start=1):
        codes = {parts.get(fold) for parts in table.parts.values()}
        if unused := [code for code, part in _PARTS.items() if part and part not in codes]:
            raise ListError(f"{lists}/*_test_split{number}.txt: no line ends with {unused[0]}; {AGAIN}")
    there = media_below(folder, videos, (".avi", ".mp4"))
    unlisted = tuple(path for path in there if path not in table.labels)
    return Listing(labels=labels, rows=table.rows({}), folds=FOLDS, unlisted=unlisted)
