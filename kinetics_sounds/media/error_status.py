"""Map a media tool's error on a clip to the clip's status."""

from ..clip import Status
from ..errors import MediaError
from .encode import OutOfSyncError
from .extract import TooFewFramesError
from .ffmpeg import KilledError, TimedOutError, TooLargeError
from .probe import BadAspectError
from .trim import EmptySpanError, NoSoundError, UnreadableError

_STATUSES = {
    TimedOutError: Status.TIMEOUT,
    TooLargeError: Status.TOO_LARGE,
    KilledError: Status.CRASHED,
    EmptySpanError: Status.TOO_SHORT,
    TooFewFramesError: Status.TOO_SHORT,
    NoSoundError: Status.NO_AUDIO,
    UnreadableError: Status.UNREADABLE,
    OutOfSyncError: Status.OUT_OF_SYNC,
    BadAspectError: Status.BAD_ASPECT,
}


def status(error: MediaError) -> Status:
    """Status of a clip for this error; `corrupt` if the error has no status of its own."""
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), Status.CORRUPT)
