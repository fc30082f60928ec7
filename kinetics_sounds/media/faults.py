"""What a media tool's failure on a clip makes of it."""

from ..clip import Status
from ..errors import MediaError
from .ffmpeg import KilledError, TimedOutError, TooLargeError
from .trim import EmptySpanError

_STATUSES = {
    TimedOutError: Status.TIMEOUT,
    TooLargeError: Status.TOO_LARGE,
    KilledError: Status.CRASHED,
    EmptySpanError: Status.TOO_SHORT,
}


def status(error: MediaError) -> Status:
    """The clip's status; what has none of its own is `corrupt`."""
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), Status.CORRUPT)
