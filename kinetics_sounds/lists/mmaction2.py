"""mmaction2's lists: `{path} {class index}` of videos, `{path} {frames} {class index}` of folders of frames.

A class index is the place in the class list as it stands (their label map).
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from . import MEDIA, Entry, each_line, entry, parse_name, says_where

SHAPE = "CLASS/ID_000027_000037.mp4 23 or CLASS/ID_000027_000037 250 23 (path, perhaps frames, class index)"
SORTED = False
_ENDS = "|".join(map(re.escape, MEDIA))
_VIDEO = re.compile(rf"(?P<path>.+(?:{_ENDS}))\s+(?P<index>[0-9]{{1,6}})")
_FRAMES = re.compile(r"(?P<path>.*\S/[^\s/]+)\s+[0-9]+\s+(?P<index>[0-9]{1,6})")


def _match(line: str) -> re.Match[str] | None:
    return _VIDEO.fullmatch(line) or _FRAMES.fullmatch(line)


def fits(lines: Sequence[str]) -> bool:
    """The path of a video or a folder, and one number or two, on every line."""
    found = [_match(line.strip()) for line in lines]
    return all(match is not None and says_where(match["path"]) for match in found)


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """One entry a line."""
    for number, line in each_line(lines):
        match = _match(line)
        if match is None:
            raise ValueError(repr(line[:100]))
        yield entry(_entry, number, match, name=match["path"])


def _entry(number: int, match: re.Match[str]) -> Entry:
    youtube_id, start, end = parse_name(match["path"])
    return Entry(
        line=number,
        name=match["path"],
        youtube_id=youtube_id,
        time_start=start,
        time_end=end,
        label_index=int(match["index"]),
    )
