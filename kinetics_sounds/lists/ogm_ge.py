"""OGM-GE's Kinetics-Sounds: name, number of frames and class index, comma-separated.

A name is `{id}_{start:06d}_{end:06d}` in the training list and `{id}_{start}` (not zero-padded) in the test list, whose end is
looked up in the annotations. A class index counts the sorted labels of the class list (k31).
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from . import Entry, read_lines, says_where

SHAPE = "ID_000027_000037,10,23 or ID_27,10,23 (name, frames, class index)"
SORTED = True
_ROW = re.compile(r"(?P<name>[A-Za-z0-9_-]+)\s*,\s*[0-9]{1,6}\s*,\s*(?P<index>[0-9]{1,6})")


def fits(lines: Sequence[str]) -> bool:
    """Every line has a name with a start, and two numbers."""
    found = [_ROW.fullmatch(line.strip()) for line in lines]
    return all(match is not None and says_where(match["name"]) for match in found)


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry per line."""
    return read_lines(lines, _ROW.fullmatch)
