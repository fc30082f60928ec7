"""DCASE 2014, scene classification: 10 scenes, 100 + 100 recordings of 30 s, sounds alone.

`scenes_stereo/bus01.wav` to train and `scenes_stereo_testset/….wav` to test, however deep below the folder; the label is the
file's name without the two digits at its end. There are no lists.
"""

import re
from pathlib import Path

from ..errors import ListError
from ..media.encode import Modality
from . import Listing, Row, media_below, named

MODALITY: Modality = "audio"
SPLITS = {"train": "scenes_stereo", "test": "scenes_stereo_testset"}
"""Folder of each split."""
_NAME = re.compile(r"(?P<label>[a-z]+)[0-9]{2}")


def read(folder: Path) -> Listing:
    """Read classes and splits from the names; raises ListError if a folder is missing or a file is not named so."""
    rows = []
    for split, name in SPLITS.items():
        own = [path for path in media_below(folder, folder, (".wav",)) if _innermost(path) == name]
        if not own:
            raise ListError(
                f"{folder}: has no recording in a folder {name}; give --folder where both parts are unpacked"
            )
        if wrong := [path for path in own if not _NAME.fullmatch(Path(path).stem)]:
            raise ListError(f"{folder}: {named(wrong)} are not named like bus01.wav")
        rows += [Row(path=path, label=Path(path).stem[:-2], split=split) for path in own]
    labels = tuple(sorted({row.label for row in rows}))
    if only := sorted(label for label in labels if len({row.split for row in rows if row.label == label}) == 1):
        raise ListError(f"{folder}: {named(only)} are in one of {' and '.join(SPLITS.values())} alone")
    return Listing(labels=labels, rows=tuple(rows))


def _innermost(path: str) -> str:
    """The folder of a split that a file is in; empty if it is in none."""
    return next((part for part in reversed(Path(path).parent.parts) if part in SPLITS.values()), "")
