import pytest

from kinetics_sounds.clip import Status
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import error_status, ffmpeg, trim


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MediaError, Status.CORRUPT),
        (ffmpeg.TimedOutError, Status.TIMEOUT),
        (ffmpeg.TooLargeError, Status.TOO_LARGE),
        (ffmpeg.KilledError, Status.CRASHED),
        (trim.EmptySpanError, Status.TOO_SHORT),
    ],
)
def test_every_failure_of_a_tool_has_a_status(error: type[MediaError], status: Status) -> None:
    assert error_status.status(error("why")) is status
