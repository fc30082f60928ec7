"""OGM-GE's Kinetics-Sounds: a name, a count of frames and a class index, with commas between.

A name is `{id}_{start:06d}_{end:06d}` in the list for training and `{id}_{start}` in the one for testing: not padded, and the
annotations know the end. A class index is the place in the sorted labels of the class list (k31).
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from . import Entry, each_line, entry, parse_name, says_where

SHAPE = "ID_000027_000037,10,23 or ID_27,10,23 (name, frames, class index)"
SORTED = True
_ROW = re.compile(r"([A-Za-z0-9_-]+)\s*,\s*([0-9]{1,6})\s*,\s*([0-9]{1,6})")


def fits(lines: Sequence[str]) -> bool:
    """A name with a start, and two numbers, on every line."""
    found = [_ROW.fullmatch(line.strip()) for line in lines]
    return all(match is not None and says_where(match[1]) for match in found)


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry a line."""
    for number, line in each_line(lines):
        match = _ROW.fullmatch(line)
        if match is None:
            raise ValueError(repr(line[:100]))
        yield entry(_entry, number, match, name=match[1])


def _entry(number: int, match: re.Match[str]) -> Entry:
    youtube_id, start, end = parse_name(match[1])
    return Entry(
        line=number,
        name=match[1],
        youtube_id=youtube_id,
        time_start=start,
        time_end=end,
        label_index=int(match[3]),
    )
