"""CrissCross lists: `{class}/{id}_{start:06d}_{end:06d}.avi`, the class with underscores for blanks."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from ..clip import parse_key
from . import MEDIA, Entry, read_lines

SHAPE = "playing_xylophone/ID_000027_000037.avi (class with underscores, key)"
SORTED = False
_ENDS = "|".join(map(re.escape, MEDIA))
_ROW = re.compile(rf"(?P<name>(?P<folder>[^\s/]+)/[A-Za-z0-9_-]+(?:{_ENDS}))")


def fits(lines: Sequence[str]) -> bool:
    """A folder and a key on every line."""
    found = [_ROW.fullmatch(line.strip()) for line in lines]
    return all(match is not None and parse_key(PurePosixPath(match["name"]).stem) for match in found)


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry per line."""
    return read_lines(lines, _ROW.fullmatch)
