"""A clip's span alone: ffmpeg reads it from the server and encodes it, and what it says is read, for it is easily content."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

_BROKEN = re.compile(r"ends prematurely|Error during demuxing|Input/output error|Failed to open (?:segment|fragment)")
"""ffmpeg is content with the beginning of a section, or with one that lacks fragments."""
_WHY = re.compile(rf"HTTP error|Error reading|{_BROKEN.pattern}")


def cut(*, hdr: bool) -> list[str]:
    """Options of ffmpeg for a section's encoding: that of the local cut.

    A high dynamic range keeps its 10 bits for that cut, which maps its tones; anything else gets 8, which every player reads.
    """
    pixels = "yuv420p|yuv420p10" if hdr else "yuv420p"
    return [
        *("-vf", f"crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0,format={pixels}"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-c:a", "aac", "-b:a", "192k"),
        *("-threads", "1", "-movflags", "+faststart", "-f", "mp4"),
    ]


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Have every ffmpeg that starts meanwhile write its warnings to a file: yt-dlp tells only that it failed."""
    place = re.sub(r"([\\:'])", r"\\\1", str(path.absolute()).replace("%", "%%"))
    os.environ["FFREPORT"] = f"file={place}:level=24"
    try:
        yield
    finally:
        del os.environ["FFREPORT"]


def log_summary(log: Path, *, hide: Callable[[str], str], most: int = 300) -> str:
    """What an ffmpeg log says first, without its command line: all that follows is the same trouble's end."""
    return hide(" | ".join(_lines(log)[:3]))[:most]


def broken(log: Path, *, hide: Callable[[str], str]) -> str:
    """What an ffmpeg log says of a section that is not whole; empty where nothing is wrong, or there is no log."""
    lines = _lines(log) if log.exists() else []
    return hide(" | ".join(filter(_WHY.search, lines)))[:300] if any(map(_BROKEN.search, lines)) else ""


def _lines(log: Path) -> list[str]:
    """Each once, without the command line."""
    _, _, text = log.read_text("utf-8", "replace").partition("Command line:\n")
    lines = dict.fromkeys(re.sub(r" @ 0x[0-9a-f]+", "", line).strip() for line in text.splitlines()[1:])
    return list(filter(None, lines))
