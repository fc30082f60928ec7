"""ESC-50: 50 classes of environmental sounds, 2,000 recordings of 5 s, five folds, sounds alone.

`audio/FOLD-SOURCE-TAKE-TARGET.wav` (in some copies `CATEGORY_FOLD-…`) and `meta/esc50.csv`. `fold1_test` is the recordings of
fold 1, `fold1_train` those of the other four. The group is the Freesound recording that a file was cut from (`src_file`).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import ListError
from ..media.encode import Modality
from . import AGAIN, Listing, Row, lines, media_below

MODALITY: Modality = "audio"
FOLDS = ("fold1", "fold2", "fold3", "fold4", "fold5")
_COLUMNS = ("filename", "fold", "target", "category", "src_file")
_NAME = re.compile(r"(?:[^/]*_)?(?P<fold>[1-5])-(?P<source>[0-9]+)-[A-Z]-(?P<target>[0-9]+)\.wav")


def read(folder: Path) -> Listing:
    """Read classes, folds and groups; raises ListError if the list is missing, wrong, or not what its files are called."""
    path = folder / "meta/esc50.csv"
    labels: dict[int, str] = {}
    rows: dict[str, Row] = {}
    for place, cells in _cells(path):
        name, category = cells["filename"], cells["category"]
        found = _NAME.fullmatch(name)
        if found is None or found.groups() != (cells["fold"], cells["src_file"], cells["target"]):
            raise ListError(f"{place}: {name!r} is not a recording whose name has its fold, source and target")
        target = int(cells["target"])
        if labels.setdefault(target, category) != category:
            raise ListError(f"{place}: target {target} is {category!r}, and before {labels[target]!r}")
        if f"audio/{name}" in rows:
            raise ListError(f"{place}: {name} is in the list twice")
        parts = tuple("test" if fold == f"fold{cells['fold']}" else "train" for fold in FOLDS)
        rows[f"audio/{name}"] = Row(path=f"audio/{name}", label=category, folds=parts, group=cells["src_file"])
    if not rows:
        raise ListError(f"{path}: names no recording; {AGAIN}")
    if len(set(labels.values())) < len(labels):
        raise ListError(f"{path}: a category has two targets")
    return Listing(
        labels=tuple(labels[target] for target in sorted(labels)),
        rows=tuple(rows.values()),
        folds=FOLDS,
        unlisted=tuple(each for each in media_below(folder, folder / "audio", (".wav",)) if each not in rows),
    )


def _cells(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Cells of each row by column, after its place."""
    header: list[str] = []
    for place, line in lines(path):
        cells = line.split(",")  # no cell of the list is quoted
        header = header or cells
        if missing := [column for column in _COLUMNS if column not in header]:
            raise ListError(f"{path}: lacks the columns {', '.join(missing)}")
        if len(cells) != len(header):
            raise ListError(f"{place}: has {len(cells)} cells, not {len(header)}")
        if cells is not header:
            yield place, dict(zip(header, cells, strict=True))
