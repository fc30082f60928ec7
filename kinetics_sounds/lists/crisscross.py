"""CrissCross' lists: `{class}/{id}_{start:06d}_{end:06d}.avi`, the class with underscores in place of blanks."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from ..clip import parse_key
from . import MEDIA, Entry, each_line, entry, parse_name

SHAPE = "playing_xylophone/ID_000027_000037.avi (class with underscores, key)"
SORTED = False
_ENDS = "|".join(map(re.escape, MEDIA))
_ROW = re.compile(rf"([^\s/]+)/([A-Za-z0-9_-]+(?:{_ENDS}))")


def fits(lines: Sequence[str]) -> bool:
    """A folder and a key on every line."""
    found = [_ROW.fullmatch(line.strip()) for line in lines]
    return all(match is not None and parse_key(PurePosixPath(match[2]).stem) for match in found)


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry a line."""
    for number, line in each_line(lines):
        match = _ROW.fullmatch(line)
        if match is None:
            raise ValueError(repr(line[:100]))
        yield entry(_entry, number, match, name=line)


def _entry(number: int, match: re.Match[str]) -> Entry:
    youtube_id, start, end = parse_name(match[2])
    return Entry(
        line=number,
        name=match[0],
        youtube_id=youtube_id,
        time_start=start,
        time_end=end,
        folder=match[1],
    )
