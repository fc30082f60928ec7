"""UCF101: 101 actions, three folds, pictures alone (half of its classes have no sound).

`UCF-101/CLASS/v_CLASS_g01_c01.avi`, or the class folders themselves, and `ucfTrainTestlist/` with `classInd.txt`,
`trainlist01.txt` to `03` (`CLASS/FILE.avi INDEX`) and `testlist01.txt` to `03` (`CLASS/FILE.avi`). `g01` is the group: videos of
one group and class come from one recording.
"""

import re
from pathlib import Path

from ..errors import ListError
from ..media.encode import Modality
from . import FoldTable, Listing, folder_of, lines, media_below

MODALITY: Modality = "video"
FOLDS = ("fold1", "fold2", "fold3")
_GROUP = re.compile(r"_(g[0-9]+)_c[0-9]+$")


def read(folder: Path) -> Listing:
    """Read classes, folds and groups; raises ListError if a list is missing or wrong."""
    lists, videos = folder_of(folder, "ucfTrainTestlist"), folder_of(folder, "UCF-101", "videos")
    below = videos.relative_to(folder)
    labels = _classes(lists / "classInd.txt")
    table = FoldTable(FOLDS)
    for number, fold in enumerate(FOLDS, start=1):
        for part in ("train", "test"):
            for place, line in lines(lists / f"{part}list{number:02d}.txt"):
                name, _, index = line.partition(" ")
                label, _, file = name.partition("/")
                if label not in labels or not file or "/" in file:
                    raise ListError(f"{place}: {line!r} is not CLASS/FILE.avi with a class of classInd.txt")
                if index and index.strip() != str(labels.index(label) + 1):
                    raise ListError(
                        f"{place}: {label} has number {labels.index(label) + 1} in classInd.txt, not {index}"
                    )
                table.add((below / name).as_posix(), label, fold, part, place=place)
    groups = {
        path: f"{label} {found[1]}" for path, label in table.labels.items() if (found := _GROUP.search(Path(path).stem))
    }
    there = media_below(folder, videos, (".avi", ".mp4"))
    unlisted = tuple(path for path in there if path not in table.labels)
    return Listing(labels=labels, rows=table.rows(groups), folds=FOLDS, unlisted=unlisted)


def _classes(path: Path) -> tuple[str, ...]:
    labels: list[str] = []
    for place, line in lines(path):
        index, _, label = line.partition(" ")
        if index != str(len(labels) + 1) or not label or label in labels:
            raise ListError(f"{place}: {line!r} is not number {len(labels) + 1} and the name of another class")
        labels.append(label)
    return tuple(labels)
