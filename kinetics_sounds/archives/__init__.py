"""Tar archives of clips, read once from start to end wherever they lie; each source gives the layout of its own.

`listing` finds the archives (parts), `http_stream`, `remote_stream` and `tar_stream` read their bytes, `reader` takes the clips
out. Clips are unordered within a part, so it is read sequentially and the requested clips are written as they come; no file name
of an archive is used for writing.

The tar is parsed here rather than with tarfile, whose stream mode (3.11) takes a damaged or truncated header after the first
member for the end of the archive, silently losing clips; reads name records of any claimed length into memory; recurses once per
record in a row; and keeps an object for every member.
"""

from dataclasses import dataclass, field

from ..clip import Status
from ..errors import SourceError


@dataclass(frozen=True, slots=True)
class TarPart:
    """One archive of clips."""

    name: str
    """Unique among the source's parts, and stable between runs."""
    place: str
    """URL or path."""
    split: str | None
    """Split whose list or folder contains it; None if unknown."""
    replacement: bool
    """Whether it replaces broken clips of other parts, so that its clips are preferred."""
    size: int | None = None
    """Size in bytes, if its list gives it."""
    start: int = field(default=0, compare=False)
    """Position in the tar before which an earlier reading gave the clips' files; they are only named again."""


class _StatusError(SourceError):
    """An error that has a status."""

    def __init__(self, status: Status, text: str) -> None:
        """The text says what is wrong, where, and what to do."""
        super().__init__(status, text)
        self.status = status

    def __str__(self) -> str:
        """The text without the status."""
        return str(self.args[1])


class PartError(_StatusError):
    """A part ended early for good; clips after those already read may be missing. The status says why."""

    lasts = False
    """Whether reading it again within this run cannot help: a file on a disk is cut off."""


class UnfinishedError(PartError):
    """A part was read for as long as one reading may take; another one continues at this position in the tar."""

    def __init__(self, status: Status, text: str, position: int = 0) -> None:
        """The position is the next reading's `TarPart.start`."""
        super().__init__(status, text)
        self.position = position


class UnreachableError(_StatusError):
    """The list of parts is unavailable for now, due to network or server errors. The status says why."""
