"""mmaction2's lists: `{path} {class index}` of videos, `{path} {frames} {class index}` of folders of frames.

A class index is the place in the sorted labels of the class list, as their scripts count the folders of the classes; ks-export
mmaction2 writes the same, and the labels in that order as label_map.txt.
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
    """The path of a video or a folder, and one number or two, on every line."""
    found = [_match(line.strip()) for line in lines]
    return all(match is not None and says_where(match["name"]) for match in found)


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry a line."""
    return read_lines(lines, _match)
