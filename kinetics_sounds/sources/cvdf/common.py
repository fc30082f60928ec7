"""What the streams of bytes share: their bounds, and why bytes stop."""

from ...clip import Status

CHUNK_BYTES = 256 << 10
MAX_PART_BYTES = 1 << 40
"""Bytes of a part, packed or unpacked: twice what all parts have together."""


class BreakError(Exception):
    """Why bytes stop, for whoever knows the part's name."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


class ChangedError(BreakError):
    """The bytes from here on belong to another file than those before."""
