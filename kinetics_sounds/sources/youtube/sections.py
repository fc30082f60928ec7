"""Fetch a clip's span only: ffmpeg reads and encodes it; its log is checked, because it accepts incomplete input."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

_BROKEN = re.compile(r"ends prematurely|Error during demuxing|Input/output error|Failed to open (?:segment|fragment)")
"""Log messages of incomplete input: ffmpeg exits normally with a truncated section, or one that lacks fragments."""
_WHY = re.compile(rf"HTTP error|Error reading|{_BROKEN.pattern}")


def cut(*, hdr: bool) -> list[str]:
    """Options of ffmpeg for encoding a section: those of the local trimming.

    HDR keeps 10 bits, for tone mapping during trimming; other pictures get 8 bits, which every player supports.
    """
    pixels = "yuv420p|yuv420p10" if hdr else "yuv420p"
    return [
        *("-vf", f"crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0,format={pixels}"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-c:a", "aac", "-b:a", "192k"),
        *("-threads", "1", "-movflags", "+faststart", "-f", "mp4"),
    ]


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Make every ffmpeg started meanwhile log its warnings to a file: yt-dlp reports only that it failed."""
    place = re.sub(r"([\\:'])", r"\\\1", str(path.absolute()).replace("%", "%%"))
    os.environ["FFREPORT"] = f"file={place}:level=24"
    try:
        yield
    finally:
        del os.environ["FFREPORT"]


def log_summary(log: Path, *, hide: Callable[[str], str], most: int = 300) -> str:
    """First lines of an ffmpeg log, without its command line: the following ones are consequences."""
    return hide(" | ".join(_lines(log)[:3]))[:most]


def broken(log: Path, *, hide: Callable[[str], str]) -> str:
    """Errors in the ffmpeg log of an incomplete section; empty if it is complete, or if there is no log."""
    lines = _lines(log) if log.exists() else []
    return hide(" | ".join(filter(_WHY.search, lines)))[:300] if any(map(_BROKEN.search, lines)) else ""


def _lines(log: Path) -> list[str]:
    """Distinct lines, without the command line."""
    _, _, text = log.read_text("utf-8", "replace").partition("Command line:\n")
    lines = dict.fromkeys(re.sub(r" @ 0x[0-9a-f]+", "", line).strip() for line in text.splitlines()[1:])
    return list(filter(None, lines))
