"""Status of a video that yt-dlp failed to fetch, by the exception or its message."""

import math
import re
import traceback
from pathlib import Path

from ... import files
from ...clip import Status

_PAGE = "https://www.youtube.com/watch?"
_MESSAGES: tuple[tuple[str, Status], ...] = (
    (r"confirm you.{1,3}re not a bot", Status.BOT_CHECK),
    (r"try again later|rate.?limit|too many requests", Status.RATE_LIMITED),
    (r"private video|video is private", Status.PRIVATE),
    (r"account.{0,60}terminated|closed their youtube account", Status.ACCOUNT_TERMINATED),
    (r"confirm your age|age.restricted|inappropriate for some users", Status.AGE_RESTRICTED),
    (r"not made this video available in your country|blocked it in your country|geo.?restrict", Status.GEO_BLOCKED),
    (r"removed by the uploader|has been removed|copyright|violat", Status.REMOVED),
    (r"live event|premieres? in|\bis live", Status.LIVE),
    (r"members.only|join this channel|requires payment|premium members|sign in|log.?in", Status.LOGIN_REQUIRED),
    (r"no space left|quota exceeded", Status.DISK_FULL),
    (r"timed? ?out", Status.TIMEOUT),
    (
        r"more expected|did not get any data blocks|content too short|incomplete|ends prematurely",
        Status.TRUNCATED,
    ),
    (r"postprocessing|invalid data found", Status.TRUNCATED),  # bytes came that are no video
    (r"no video formats|requested format is not available|drm.protected", Status.NO_FORMATS),
    (r"not available on this app|needs to be reloaded|player response", Status.NO_FORMATS),  # yt-dlp's disguise failed
    (r"(?:video|content) (?:is )?unavailable|no longer available|not available|does not exist", Status.UNAVAILABLE),
    (r"connect|network|unreachable|resolve|getaddrinfo|proxy|unable to download|\b(?:ssl|tls)\b", Status.NETWORK),
    (r"broke off", Status.TRUNCATED),
)
"""Patterns in the extractor's message, case-insensitive; the first match decides."""


_MOST = 450
"""Maximum length of a reason: text from a server may be of any length."""


class RefusedError(Exception):
    """A video or format that this source refuses, although yt-dlp would take it."""

    def __init__(self, status: Status, reason: str) -> None:
        """`reason` becomes the outcome's detail."""
        super().__init__(reason)
        self.status = status


def first_words(message: str, *, warned: str = "") -> str:
    """Beginning of a message, where yt-dlp says what is wrong; the advice that follows may be longer."""
    words = " ".join(message.split()).removeprefix("ERROR: ")
    if warned:
        words = f"{words[:200]} (earlier warning: {' '.join(warned.split())[:200]})"
    return words[:_MOST]


def where(error: Exception, message: str) -> str:
    """An unexpected exception of yt-dlp: its type, message and location."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(message.split())[:200]} at {Path(frame.filename).name}:{frame.lineno}"


def classify(error: Exception, *, there: bool = False) -> Status:
    """Status of a yt-dlp failure: by the underlying exception if there is one, else by the message.

    `there`: whether a 404 may concern only a part of the video: with YouTube itself, or if the video was already found. Errors
    without a network cause are not classified as network errors.
    """
    inner = cause = (getattr(error, "exc_info", None) or (None, error))[1]
    network = False
    while cause is not None:
        http = getattr(cause, "status", None)
        if getattr(cause, "countries", None):
            return Status.GEO_BLOCKED
        if isinstance(http, int) and http >= 400:
            return _http_status(http, url=str(getattr(getattr(cause, "response", None), "url", "")), there=there)
        if isinstance(cause, TimeoutError):
            return Status.TIMEOUT
        if isinstance(cause, OSError) and cause.errno in files.FULL:
            return Status.DISK_FULL
        network = network or _is_network(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    text = str(getattr(inner, "orig_msg", None) or error)  # without the id, which may spell anything
    if told := re.search(r"(?:HTTP error|server returned) ([45](?:\d\d|XX))", text, flags=re.IGNORECASE):
        return _http_status(int(told[1].upper().replace("X", "0")), url="", there=there)
    for pattern, status in _MESSAGES:
        if re.search(pattern, text, flags=re.IGNORECASE):
            return status
    return Status.NETWORK if network else Status.NO_FORMATS


def _is_network(cause: object) -> bool:
    from yt_dlp.networking.exceptions import RequestError

    return isinstance(cause, OSError | RequestError)


def _http_status(code: int, *, url: str, there: bool) -> Status:
    """Status for an HTTP error. YouTube reports missing videos in words, so a 404 of a player or segment is temporary.

    A mirror without the video may have it later.
    """
    if code == 429:
        return Status.RATE_LIMITED
    if code in (404, 410) and not there:
        return Status.NOT_IN_SOURCE
    if code in (404, 410) and url.startswith(_PAGE):
        return Status.UNAVAILABLE
    return Status.HTTP_5XX if math.floor(code / 100) == 5 else Status.HTTP_4XX
