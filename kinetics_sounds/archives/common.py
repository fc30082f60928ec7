"""Limits and errors shared by the byte streams."""

from ..clip import Status

CHUNK_BYTES = 256 << 10
MAX_PART_BYTES = 1 << 40
"""Maximum size of a part in bytes, compressed or not: twice the total of all parts."""


class BreakError(Exception):
    """The bytes ended early, for a reason given by status and text; the caller adds the part's name."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


class ChangedError(BreakError):
    """The following bytes belong to another version of the file."""
