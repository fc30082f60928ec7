"""Lists of those who follow OGM-GE: `{name} … {class index}`, blanks between; the name may hold a path.

A class index is the place in the sorted labels of the class list. (A name that ends like a video's, and one with a folder and
a count of frames, is mmaction2's.)
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from . import MEDIA, Entry, each_line, entry, parse_name, says_where

SHAPE = "ID_000027_000037 23 (name, perhaps with a path, other fields, class index; blanks between)"
SORTED = True
_ROW = re.compile(r"([^\s,]+)((?:\s+\S+)*?)\s+([0-9]{1,6})")


def fits(lines: Sequence[str]) -> bool:
    """A name and at last a number on every line, none of them mmaction2's."""
    found = [_ROW.fullmatch(line.strip()) for line in lines]
    return all(match is not None and says_where(match[1]) and not _is_mmaction2(match) for match in found)


def _is_mmaction2(match: re.Match[str]) -> bool:
    return match[1].endswith(MEDIA) or ("/" in match[1] and re.fullmatch(r"\s+[0-9]+", match[2]) is not None)


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
