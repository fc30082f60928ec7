"""mmaction2 lists: `{path} {class index}` for videos, `{path} {frames} {class index}` for folders of frames.

A class index counts the sorted labels of the class list, as their scripts count the class folders; ks-export mmaction2 writes
the same, and the labels in that order as label_map.txt.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from . import MEDIA, Entry, read_lines, says_where

SHAPE = "CLASS/ID_000027_000037.mp4 23 or CLASS/ID_000027_000037 250 23 (path, perhaps frames, class index)"
SORTED = True
_ENDS = "|".join(map(re.escape, MEDIA))
_VIDEO = re.compile(rf"(?P<name>.+(?:{_ENDS}))\s+(?P<index>[0-9]{{1,6}})")
_FRAMES = re.compile(r"(?P<name>.*\S/[^\s/]+)\s+[0-9]+\s+(?P<index>[0-9]{1,6})")


def _match(line: str) -> re.Match[str] | None:
    return _VIDEO.fullmatch(line) or _FRAMES.fullmatch(line)


def fits(lines: Sequence[str]) -> bool:
    """Every line has the path of a video or a folder, and one or two numbers."""
    found = [_match(line.strip()) for line in lines]
    return all(match is not None and says_where(match["name"]) for match in found)


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry per line."""
    return read_lines(lines, _match)
