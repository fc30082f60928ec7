"""Lists of papers that follow OGM-GE: `{name} … {class index}`, separated by blanks; the name may be a path.

A class index counts the sorted labels of the class list. (Names with a video extension, and folders with a number of frames,
belong to the format mmaction2.)
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from . import MEDIA, Entry, read_lines, says_where

SHAPE = "ID_000027_000037 23 (name, perhaps with a path, other fields, class index; blanks between)"
SORTED = True
_ROW = re.compile(r"(?P<name>[^\s,]+)(?P<between>(?:\s+\S+)*?)\s+(?P<index>[0-9]{1,6})")


def fits(lines: Sequence[str]) -> bool:
    """Every line has a name first and a number last, and none is mmaction2's."""
    found = [_ROW.fullmatch(line.strip()) for line in lines]
    return all(match is not None and says_where(match["name"]) and not _is_mmaction2(match) for match in found)


def _is_mmaction2(match: re.Match[str]) -> bool:
    return match["name"].endswith(MEDIA) or (
        "/" in match["name"] and re.fullmatch(r"\s+[0-9]+", match["between"]) is not None
    )


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry per line."""
    return read_lines(lines, _ROW.fullmatch)
