"""Kinetics-400, 600, 700 and Kinetics-Sounds, or any other data set in folders of splits and classes: pictures and sounds.

`train/CLASS/FILE.mp4`, and the same in `val` (or `validate`, `validation`) and `test`, as far as there are. There are no
lists, so nothing can be missing; to build a list's clips and learn which are gone: `ks-build --source local:DIR`.
"""

from pathlib import Path

from .. import files
from ..errors import ListError
from ..media.encode import Modality
from . import Listing, Row, media_below, named

MODALITY: Modality = "both"
SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
"""Split of each folder."""
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")


def read(folder: Path) -> Listing:
    """Every file is of the class that its folder is called; raises ListError if there are none or they lie otherwise."""
    rows = []
    for name, split in SPLITS.items():
        paths = media_below(folder, folder / name, SUFFIXES)
        if strange := [path for path in paths if len(Path(path).parts) != 3]:
            raise ListError(f"{folder}: {named(strange)} do not lie in {name}/CLASS/")
        rows += [Row(path=path, label=files.as_text(Path(path).parent.name), split=split) for path in paths]
    if not rows:
        raise ListError(
            f"{folder}: has no file like train/CLASS/FILE.mp4; for flat folders: ks-build --source local:{folder}"
        )
    return Listing(labels=tuple(sorted({row.label for row in rows})), rows=tuple(rows))
